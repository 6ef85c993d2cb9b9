//! What the figures of the epochs tell while a run goes on: that it should stop, or that it learns by heart.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::events::EpochSummary;

/// Epochs in a row in which the validation loss has to rise while the training loss falls.
const PARTING_EPOCHS: usize = 3;
/// Difference between accuracy on training and on validation images from which on a model knows its images by heart.
const LARGE_GAP: f64 = 0.1;
/// Standard errors of the accuracy on validation images that a gap has to exceed: few images show none.
const STANDARD_ERRORS: f64 = 2.0;

/// Ends a run that does not get better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Epochs without an improvement after which the run ends.
    pub patience: usize,
    /// What has to improve.
    pub on: Monitor,
}

/// A figure on the validation images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// The mean cross-entropy.
    Loss,
    /// The accuracy.
    #[default]
    Accuracy,
}

impl EarlyStopping {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the number that is out of range.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.patience > 0, "the patience is at least 1 epoch");
        Ok(())
    }

    /// Whether the last `patience` epochs are no better than one before them.
    pub fn is_over(&self, epochs: &[EpochSummary]) -> bool {
        let worth = |epoch: &EpochSummary| match self.on {
            Monitor::Loss => -epoch.validation_loss,
            Monitor::Accuracy => epoch.validation_accuracy,
        };
        let best = |epochs: &[EpochSummary]| epochs.iter().map(worth).reduce(f64::max);
        let Some(recent) = epochs.len().checked_sub(self.patience) else {
            return false;
        };
        match (best(&epochs[..recent]), best(&epochs[recent..])) {
            (Some(before), Some(since)) => since <= before,
            _ => false,
        }
    }
}

/// A sentence for the moment at which training and validation, on so many images, part, and only for that.
pub fn parting(epochs: &[EpochSummary], validation_images: usize) -> Option<String> {
    let (_, before) = epochs.split_last()?;
    let told = (1..=before.len()).any(|count| sign(&before[..count], validation_images).is_some());
    if told {
        return None;
    }
    sign(epochs, validation_images)
}

/// What says that the network learns its images by heart.
fn sign(epochs: &[EpochSummary], validation_images: usize) -> Option<String> {
    let last = epochs.last()?;
    let advice =
        "more augmentation, dropout or weight decay, fewer epochs, or more images would help";
    if let Some(start) = epochs.len().checked_sub(PARTING_EPOCHS + 1) {
        let steps = epochs[start..].windows(2);
        let parts = |pair: &[EpochSummary]| {
            pair[1].validation_loss > pair[0].validation_loss
                && pair[1].train_loss < pair[0].train_loss
        };
        if steps.into_iter().all(parts) {
            return Some(format!(
                "for {PARTING_EPOCHS} epochs the loss on validation images has risen while that on training images fell: the network is learning its images by heart; {advice}"
            ));
        }
    }
    let accuracy = last.validation_accuracy;
    let standard_error = (accuracy * (1.0 - accuracy) / validation_images.max(1) as f64).sqrt();
    (last.gap() > LARGE_GAP.max(STANDARD_ERRORS * standard_error)).then(|| {
        format!(
            "the accuracy is {:.3} on training images and {:.3} on validation images: the network knows its images by heart; {advice}",
            last.train_accuracy, last.validation_accuracy
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(losses: &[(f64, f64)]) -> Vec<EpochSummary> {
        let epoch = |(index, &(train_loss, validation_loss)): (usize, &(f64, f64))| EpochSummary {
            train_loss,
            validation_loss,
            ..EpochSummary::example(index + 1, 1.0 - validation_loss)
        };
        losses.iter().enumerate().map(epoch).collect()
    }

    #[test]
    fn patience_counts_epochs_since_the_best() {
        let run = epochs(&[(1.0, 0.5), (0.9, 0.4), (0.8, 0.45), (0.7, 0.4), (0.6, 0.41)]);
        for on in [Monitor::Loss, Monitor::Accuracy] {
            let over = |patience, count| EarlyStopping { patience, on }.is_over(&run[..count]);
            assert!(!over(1, 1) && !over(1, 2) && over(1, 3));
            assert!(!over(3, 4) && over(3, 5));
            assert!(!over(5, 5) && !over(9, 5));
        }
    }

    #[test]
    fn parting_is_told_once() {
        let run = epochs(&[
            (1.0, 0.50),
            (0.9, 0.40),
            (0.8, 0.41),
            (0.7, 0.42),
            (0.6, 0.43),
            (0.5, 0.44),
        ]);
        let told: Vec<bool> = (1..=run.len())
            .map(|count| parting(&run[..count], 1000).is_some())
            .collect();
        assert_eq!(told, [false, false, false, false, true, false]);
        assert!(parting(&run[..5], 1000).unwrap().contains("by heart"));
    }

    #[test]
    fn a_large_gap_is_told_with_both_numbers() {
        let mut run = epochs(&[(1.0, 0.2), (0.5, 0.2)]);
        assert_eq!(parting(&run, 1000), None);
        run[1].train_accuracy = 0.95;
        let sentence = parting(&run, 1000).unwrap();
        assert!(
            sentence.contains("0.950 on training images and 0.800"),
            "{sentence}"
        );
        assert_eq!(parting(&run, 16), None, "16 images show no such gap");
    }

    #[test]
    fn a_healthy_run_is_left_alone() {
        let run = epochs(&[
            (1.0, 0.5),
            (0.9, 0.55),
            (0.8, 0.56),
            (0.7, 0.4),
            (0.75, 0.41),
        ]);
        assert!((1..=run.len()).all(|count| parting(&run[..count], 1000).is_none()));
    }
}
