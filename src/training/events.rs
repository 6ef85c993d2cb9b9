//! What a training loop has to tell. The loop makes events and prints nothing; a renderer, chosen once, shows them.

use serde::{Deserialize, Serialize};

/// Something that happened in a training run, in the order
/// `FeaturesDone… RunStarted Resumed? (EpochStarted StepDone… EpochDone)… RunDone`, with the others anywhere between.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Features of images have been computed that a part of the network learns from.
    FeaturesDone {
        /// Images and random variants whose features are there.
        done: usize,
        /// Images and random variants in all.
        total: usize,
    },
    /// The first epoch is about to start.
    RunStarted(RunStart),
    /// An epoch starts.
    EpochStarted {
        /// Number of the epoch, from 1.
        epoch: usize,
    },
    /// A batch has been learnt from.
    StepDone {
        /// Number of the step in its epoch, from 1.
        step: usize,
        /// Steps in the epoch.
        steps: usize,
        /// Loss of the batch, before the step.
        loss: f32,
        /// Learning rate of the step.
        learning_rate: f32,
        /// Images in the batch.
        images: usize,
    },
    /// An epoch has ended and been validated.
    EpochDone(EpochSummary),
    /// The run goes on where an earlier one stopped.
    Resumed {
        /// Number of the epoch, from 1.
        epoch: usize,
        /// Steps of it that are done.
        step: usize,
        /// Validation accuracies of the epochs before.
        accuracies: Vec<f64>,
    },
    /// A run with a time budget knows better what fits.
    Planned {
        /// Epochs of the whole run, the last one perhaps cut short.
        epochs: usize,
        /// Steps of the whole run.
        steps: u64,
    },
    /// Something the user may want to know, as a sentence.
    Note(String),
    /// Something the user should know that does not stop the run, as a sentence.
    Warning(String),
    /// The run has ended; the best weights are in place.
    RunDone(RunSummary),
}

/// What is about to happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStart {
    /// Epochs planned; with a time budget, the most that there may be.
    pub epochs: usize,
    /// Seconds in which the run should be over, if there is such a limit.
    pub time_budget: Option<u64>,
    /// Steps in each epoch.
    pub steps_per_epoch: usize,
    /// Images per step.
    pub batch_size: usize,
    /// Images to learn from.
    pub train_images: usize,
    /// Images of an epoch, where easy ones are left out.
    pub epoch_images: Option<usize>,
    /// Images to choose the best epoch by.
    pub validation_images: usize,
    /// Number of classes.
    pub classes: usize,
    /// Where the steps run, as a reader should see it: `cpu`, `cuda:0`.
    pub device: String,
    /// What computes the steps, as a clause.
    pub formulation: String,
}

/// Figures of one epoch; a row of `history.csv`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochSummary {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean loss over the epoch's steps, with augmentation, label smoothing and class weights.
    pub train_loss: f64,
    /// Accuracy on a sample of the training images as they are.
    pub train_accuracy: f64,
    /// Mean cross-entropy on the validation images, without any of these.
    pub validation_loss: f64,
    /// Accuracy on the validation images.
    pub validation_accuracy: f64,
    /// Learning rate of the last step.
    pub learning_rate: f32,
    /// Wall-clock seconds of the epoch, validation included.
    pub seconds: f64,
    /// Training images per second, validation not included.
    pub images_per_second: f64,
    /// Whether this is the best epoch so far, whose weights are kept.
    pub is_best: bool,
}

impl EpochSummary {
    /// How much better the network knows training images than others: the difference of the accuracies.
    pub fn gap(&self) -> f64 {
        self.train_accuracy - self.validation_accuracy
    }

    #[cfg(test)]
    pub(crate) fn example(epoch: usize, validation_accuracy: f64) -> Self {
        Self {
            epoch,
            train_loss: 0.5,
            train_accuracy: validation_accuracy,
            validation_loss: 0.4,
            validation_accuracy,
            learning_rate: 0.1,
            seconds: 1.0,
            images_per_second: 1.0,
            is_best: true,
        }
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Epochs that were finished.
    pub epochs: usize,
    /// The epoch whose weights are kept.
    pub best_epoch: usize,
    /// Validation accuracy of that epoch.
    pub best_accuracy: f64,
    /// Wall-clock seconds of the run.
    pub seconds: f64,
    /// Whether the user stopped it before its last epoch.
    pub stopped: bool,
}
