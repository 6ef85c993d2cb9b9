//! Every knob of a training run, in one struct that is saved with the model.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::artifacts::{Optimizer, OptimizerOptions};
use crate::network::Architecture;

use super::augment::AugmentSettings;
use super::balance::BalanceOptions;
use super::formulation::FormulationChoice;
use super::schedule::Schedule;

/// All options of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainOptions {
    /// The network.
    pub architecture: Architecture,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step.
    pub batch_size: usize,
    /// Learning rate over the run.
    pub schedule: Schedule,
    /// Optimizer, weight decay and gradient clipping.
    pub optimizer: OptimizerOptions,
    /// Label smoothing ε.
    pub label_smoothing: f32,
    /// What may happen to a training image.
    pub augment: AugmentSettings,
    /// What is done about classes of unequal size.
    pub balance: BalanceOptions,
    /// Share of the training images held out for validation where the data set has no validation part.
    pub validation_fraction: f64,
    /// Seed of weights, split, order, augmentation and dropout.
    pub seed: u64,
    /// Threads of ONNX Runtime; 0 for one per core.
    pub threads: usize,
    /// Which operators train the network; the model is the same up to rounding.
    pub formulation: FormulationChoice,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            architecture: Architecture::default(),
            epochs: 12,
            batch_size: 128,
            schedule: Schedule::one_cycle(0.1),
            optimizer: OptimizerOptions {
                optimizer: Optimizer::Sgd { momentum: 0.9 },
                weight_decay: 5e-4,
                clip_norm: None,
            },
            label_smoothing: 0.05,
            augment: AugmentSettings::default(),
            balance: BalanceOptions::default(),
            validation_fraction: 0.2,
            seed: 1,
            threads: 0,
            formulation: FormulationChoice::Auto,
        }
    }
}

impl TrainOptions {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the option and its range.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.epochs > 0, "at least 1 epoch is needed");
        ensure!(self.batch_size > 1, "a batch needs at least 2 images");
        ensure!(
            (0.0..1.0).contains(&self.label_smoothing),
            "label smoothing is from 0 to below 1, not {}",
            self.label_smoothing
        );
        ensure!(
            self.optimizer.weight_decay >= 0.0,
            "weight decay cannot be negative"
        );
        ensure!(
            self.optimizer.clip_norm.is_none_or(|norm| norm > 0.0),
            "the norm to clip gradients to must be positive"
        );
        self.balance.validate()?;
        self.schedule.validate()?;
        self.augment.validate()
    }
}
