//! What may vary between trials: ranges and choices, as a file gives them.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::network::{Architecture, ResnetOptions, SeedOptions, VggOptions};

/// A kind of network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkKind {
    /// Convolutions with pooling, then dense layers.
    Seed,
    /// Residual blocks.
    Resnet,
    /// Stages of convolutions.
    Vgg,
}

/// An optimizer to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Gradient descent with Nesterov momentum of 0.9.
    Sgd,
    /// Adam with decoupled weight decay.
    Adamw,
}

/// A course of the learning rate to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Up and down.
    OneCycle,
    /// Short warm-up, then down.
    Cosine,
}

/// Ranges and choices. A pair is the smallest and the largest value; a list names the values to choose from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Space {
    /// Epochs of the full training.
    pub epochs: [usize; 2],
    /// Images per step; less where the data set is so small that an epoch would have few steps.
    pub batch_size: Vec<usize>,
    /// Optimizers.
    pub optimizer: Vec<OptimizerKind>,
    /// Rates of `sgd`.
    pub sgd: Rates,
    /// Rates of `adamw`.
    pub adamw: Rates,
    /// Courses of the learning rate.
    pub schedule: Vec<ScheduleKind>,
    /// Label smoothing.
    pub label_smoothing: [f64; 2],
    /// Strength of shifts and random erasing: 0 for none, 1 for shifts by 10.7 % of the side and erasing of 40 % of the images.
    pub augmentation: [f64; 2],
    /// Probabilities of a horizontal flip.
    pub horizontal_flip: Vec<f64>,
    /// The network `seed`.
    pub seed: SeedSpace,
    /// The network `resnet`.
    pub resnet: ResnetSpace,
    /// The network `vgg`.
    pub vgg: VggSpace,
}

/// Rates of an optimizer, tried on a logarithmic scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Highest learning rate at 128 images per step; for other batches in proportion (`sgd`) or to its root (`adamw`).
    pub learning_rate: [f64; 2],
    /// Weight decay.
    pub weight_decay: [f64; 2],
}

/// Layers of the network `seed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeedSpace {
    /// Number of convolutions.
    pub convolutions: [usize; 2],
    /// Filters of a convolution; each has up to twice as many as the one before.
    pub filters: [usize; 2],
    /// Number of dense layers before the logits.
    pub dense_layers: [usize; 2],
    /// Units of a dense layer.
    pub dense_units: [usize; 2],
    /// Dropout behind dense layers.
    pub dropout: [f64; 2],
    /// Batch normalisation.
    pub batch_norm: Vec<bool>,
}

/// Layers of the network `resnet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResnetSpace {
    /// Number of stages.
    pub stages: [usize; 2],
    /// Filters of a stage; each has up to twice as many as the one before.
    pub filters: [usize; 2],
    /// Blocks in each stage.
    pub blocks: [usize; 2],
    /// Dropout before the logits.
    pub dropout: [f64; 2],
}

/// Layers of the network `vgg`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VggSpace {
    /// Number of stages.
    pub stages: [usize; 2],
    /// Convolutions in each stage.
    pub convolutions: [usize; 2],
    /// Filters of a stage; each has up to twice as many as the one before.
    pub filters: [usize; 2],
    /// Dropout before the logits.
    pub dropout: [f64; 2],
    /// Batch normalisation.
    pub batch_norm: Vec<bool>,
}

impl Default for Space {
    fn default() -> Self {
        Self {
            epochs: [9, 27],
            batch_size: vec![64, 128, 256],
            optimizer: vec![OptimizerKind::Sgd, OptimizerKind::Adamw],
            sgd: Rates {
                learning_rate: [0.02, 0.3],
                weight_decay: [1e-4, 2e-3],
            },
            adamw: Rates {
                learning_rate: [1e-3, 1e-2],
                weight_decay: [5e-3, 0.1],
            },
            schedule: vec![ScheduleKind::OneCycle, ScheduleKind::Cosine],
            label_smoothing: [0.0, 0.1],
            augmentation: [0.0, 1.0],
            horizontal_flip: vec![0.0, 0.5],
            seed: SeedSpace::default(),
            resnet: ResnetSpace::default(),
            vgg: VggSpace::default(),
        }
    }
}

impl Default for SeedSpace {
    fn default() -> Self {
        Self {
            convolutions: [1, 4],
            filters: [16, 128],
            dense_layers: [0, 2],
            dense_units: [64, 512],
            dropout: [0.0, 0.5],
            batch_norm: vec![true, false],
        }
    }
}

impl Default for ResnetSpace {
    fn default() -> Self {
        Self {
            stages: [2, 4],
            filters: [16, 160],
            blocks: [1, 2],
            dropout: [0.0, 0.3],
        }
    }
}

impl Default for VggSpace {
    fn default() -> Self {
        Self {
            stages: [2, 4],
            convolutions: [1, 3],
            filters: [16, 160],
            dropout: [0.0, 0.4],
            batch_norm: vec![true],
        }
    }
}

impl Space {
    /// Checks every range and choice.
    ///
    /// # Errors
    /// Names the first that is wrong and what it may be.
    pub fn validate(&self) -> Result<()> {
        let Self {
            epochs,
            batch_size,
            optimizer,
            sgd,
            adamw,
            schedule,
            label_smoothing,
            augmentation,
            horizontal_flip,
            seed,
            resnet,
            vgg,
        } = self;
        count("epochs", *epochs, 1, 10_000)?;
        choices("batch_size", batch_size)?;
        ensure!(
            batch_size.iter().all(|size| (2..=65_536).contains(size)),
            "batch_size: every size is from 2 to 65536"
        );
        choices("optimizer", optimizer)?;
        choices("schedule", schedule)?;
        choices("horizontal_flip", horizontal_flip)?;
        ensure!(
            horizontal_flip
                .iter()
                .all(|share| (0.0..=1.0).contains(share)),
            "horizontal_flip: every probability is from 0 to 1"
        );
        for (name, rates) in [("sgd", sgd), ("adamw", adamw)] {
            range(
                &format!("{name}.learning_rate"),
                rates.learning_rate,
                1e-6,
                10.0,
            )?;
            range(
                &format!("{name}.weight_decay"),
                rates.weight_decay,
                1e-9,
                10.0,
            )?;
        }
        range("label_smoothing", *label_smoothing, 0.0, 0.9)?;
        range("augmentation", *augmentation, 0.0, 1.0)?;
        count("seed.convolutions", seed.convolutions, 1, 8)?;
        count("seed.filters", seed.filters, 1, 4096)?;
        count("seed.dense_layers", seed.dense_layers, 0, 8)?;
        count("seed.dense_units", seed.dense_units, 1, 65_536)?;
        range("seed.dropout", seed.dropout, 0.0, 0.9)?;
        choices("seed.batch_norm", &seed.batch_norm)?;
        count("resnet.stages", resnet.stages, 1, 6)?;
        count("resnet.filters", resnet.filters, 1, 4096)?;
        count("resnet.blocks", resnet.blocks, 1, 16)?;
        range("resnet.dropout", resnet.dropout, 0.0, 0.9)?;
        count("vgg.stages", vgg.stages, 1, 6)?;
        count("vgg.convolutions", vgg.convolutions, 1, 8)?;
        count("vgg.filters", vgg.filters, 1, 4096)?;
        range("vgg.dropout", vgg.dropout, 0.0, 0.9)?;
        choices("vgg.batch_norm", &vgg.batch_norm)
    }
}

impl NetworkKind {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Seed, Self::Resnet, Self::Vgg];

    /// The network with its own defaults.
    pub fn default_architecture(self) -> Architecture {
        match self {
            Self::Seed => Architecture::Seed(SeedOptions::default()),
            Self::Resnet => Architecture::Resnet(ResnetOptions::default()),
            Self::Vgg => Architecture::Vgg(VggOptions::default()),
        }
    }
}

fn count(name: &str, [low, high]: [usize; 2], least: usize, most: usize) -> Result<()> {
    ensure!(
        least <= low && low <= high && high <= most,
        "{name} is {low} to {high}, expected two whole numbers from {least} to {most}, the smaller first"
    );
    Ok(())
}

fn range(name: &str, [low, high]: [f64; 2], least: f64, most: f64) -> Result<()> {
    ensure!(
        least <= low && low <= high && high <= most,
        "{name} is {low} to {high}, expected two numbers from {least} to {most}, the smaller first"
    );
    Ok(())
}

fn choices<T>(name: &str, values: &[T]) -> Result<()> {
    ensure!(!values.is_empty(), "{name} has no value to choose from");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changes_what_it_names_and_may_not_misspell() {
        let space: Space =
            serde_json::from_str(r#"{"epochs": [1, 3], "seed": {"dense_layers": [1, 1]}}"#)
                .unwrap();
        assert_eq!(space.epochs, [1, 3]);
        assert_eq!(space.seed.dense_layers, [1, 1]);
        assert_eq!(space.seed.filters, SeedSpace::default().filters);
        assert!(serde_json::from_str::<Space>(r#"{"epoch": [1, 3]}"#).is_err());
    }

    #[test]
    fn wrong_ranges_are_named() {
        Space::default().validate().unwrap();
        let error = |change: fn(&mut Space)| {
            let mut space = Space::default();
            change(&mut space);
            space.validate().unwrap_err().to_string()
        };
        assert_eq!(
            error(|space| space.epochs = [5, 2]),
            "epochs is 5 to 2, expected two whole numbers from 1 to 10000, the smaller first"
        );
        assert!(error(|space| space.batch_size = vec![]).contains("batch_size has no value"));
        assert!(
            error(|space| space.sgd.learning_rate = [0.0, 0.1])
                .contains("sgd.learning_rate is 0 to 0.1")
        );
        assert!(error(|space| space.seed.dropout = [0.0, f64::NAN]).contains("seed.dropout"));
    }
}
