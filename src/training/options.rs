//! Every knob of a training run, in one struct that is saved with the model.

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::artifacts::{Optimizer, OptimizerOptions};
use crate::lowering::WeightStorage;
use crate::network::{Architecture, Variant};

use super::augment::{AugmentSettings, MixSettings};
use super::averaging::AveragingOptions;
use super::balance::{BalanceOptions, Sampling};
use super::formulation::FormulationChoice;
use super::pruning::PruningOptions;
use super::schedule::Schedule;
use super::start::EarlierFile;
use super::transfer::TransferOptions;
use super::watch::EarlyStopping;

/// Epochs of a run that only its time limits.
pub const UNLIMITED_EPOCHS: usize = 1_000_000;

/// All options of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainOptions {
    /// The network.
    pub architecture: Architecture,
    /// How the network learns on top of a pretrained backbone; none for a network that starts from nothing.
    pub transfer: Option<TransferOptions>,
    /// The model whose weights the network starts from; none for random ones, or those of a backbone.
    pub start: Option<EarlierFile>,
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
    /// How pairs of training images are mixed.
    pub mixing: MixSettings,
    /// Whether the exported model gives the mean logits of an image and its mirror image. It then computes twice as much.
    pub mirror_averaging: bool,
    /// How the exported model holds its weights.
    pub weight_storage: WeightStorage,
    /// When a run that does not get better ends before its last epoch.
    pub early_stopping: Option<EarlyStopping>,
    /// Seconds in which the run should be over; as many epochs as fit, and no more than `epochs`.
    pub time_budget: Option<u64>,
    /// Which images an epoch leaves out because the network knows them; none for no image.
    pub pruning: Option<PruningOptions>,
    /// Over how long the weights that are judged and exported are averaged; none for the weights themselves.
    pub averaging: Option<AveragingOptions>,
    /// What is done about classes of unequal size.
    pub balance: BalanceOptions,
    /// Share of the training images held out for validation where the data set has no validation part.
    pub validation_fraction: f64,
    /// Seed of weights, order, augmentation and dropout, and of the split where that has none of its own.
    pub seed: u64,
    /// Seed of the split; none for the other one. Networks that are compared or averaged learn from the same images.
    pub split_seed: Option<u64>,
    /// Threads of ONNX Runtime; 0 for one per core.
    pub threads: usize,
    /// Which operators train the network; the model is the same up to rounding.
    pub formulation: FormulationChoice,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            architecture: Architecture::default(),
            transfer: None,
            start: None,
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
            mixing: MixSettings::default(),
            mirror_averaging: false,
            weight_storage: WeightStorage::Float32,
            early_stopping: None,
            time_budget: None,
            pruning: None,
            averaging: None,
            balance: BalanceOptions::default(),
            validation_fraction: 0.2,
            seed: 1,
            split_seed: None,
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
        if let Some(early_stopping) = &self.early_stopping {
            early_stopping.validate()?;
        }
        ensure!(
            self.time_budget != Some(0),
            "the time budget is at least a second"
        );
        if let Some(averaging) = &self.averaging {
            averaging.validate()?;
        }
        self.balance.validate()?;
        if let Some(transfer) = &self.transfer {
            transfer.validate()?;
            ensure!(
                self.start.is_none(),
                "a network starts from a backbone or from an earlier model, not from both"
            );
            if transfer.folds.is_some() {
                ensure!(
                    self.early_stopping.is_none() && self.time_budget.is_none(),
                    "with --folds every fold learns to its last epoch: leave out --patience and --time-budget"
                );
            }
        }
        if let Some(pruning) = &self.pruning {
            pruning.validate()?;
            if let Some(obstacle) = self.obstacle_to_pruning() {
                bail!("easy images cannot be left out where {obstacle}");
            }
        }
        self.schedule.validate()?;
        self.augment.validate()?;
        self.mixing.validate()
    }

    /// The seed that decides which images are held out.
    pub fn seed_of_split(&self) -> u64 {
        self.split_seed.unwrap_or(self.seed)
    }

    /// The backbone, where the network is one.
    pub fn backbone(&self) -> Option<Variant> {
        match &self.architecture {
            Architecture::EfficientnetLite(backbone) => Some(backbone.variant),
            Architecture::Seed(_)
            | Architecture::Resnet(_)
            | Architecture::Vgg(_)
            | Architecture::Head(_) => None,
        }
    }

    /// What leaving out easy images does not go with, if anything.
    pub fn obstacle_to_pruning(&self) -> Option<&'static str> {
        if self.mixing.is_on() {
            Some("images are mixed: the loss of a mixed image is that of no image")
        } else if self.balance.sampling == Sampling::Balanced {
            Some("classes are drawn equally often")
        } else {
            None
        }
    }
}
