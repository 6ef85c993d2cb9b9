//! Named starting points: how much time for how much accuracy. `docs/training.md` says how they were found and what they reach.

use crate::artifacts::{Optimizer, OptimizerOptions};
use crate::lowering::WeightStorage;
use crate::network::{
    Architecture, EfficientnetOptions, HeadOptions, ResnetOptions, Variant, VggOptions,
};

use super::augment::{AugmentSettings, Erasing};
use super::options::TrainOptions;
use super::pruning::PruningOptions;
use super::schedule::Schedule;
use super::transfer::{ForeignFile, TransferOptions};

/// A named set of options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// Less than three minutes of Fashion-MNIST on two cores, for trying things.
    Quick,
    /// Less than 25 minutes.
    #[default]
    Default,
    /// More than an hour.
    Best,
}

impl Preset {
    /// All options of the preset.
    pub fn options(self) -> TrainOptions {
        match self {
            Self::Quick => TrainOptions {
                epochs: 7,
                // Smoothed targets keep the network from being as sure as it may be: no temperature mends that.
                label_smoothing: 0.0,
                ..shared(pyramid(32))
            },
            Self::Default => TrainOptions {
                epochs: 28,
                validation_fraction: 0.1,
                augment: erasing(0.25),
                ..shared(pyramid(48))
            },
            Self::Best => TrainOptions {
                epochs: 140,
                validation_fraction: 0.1,
                // As for `Quick`.
                label_smoothing: 0.0,
                augment: AugmentSettings {
                    shift_x: 0.107,
                    shift_y: 0.107,
                    ..erasing(0.5)
                },
                ..shared(twenty_layers())
            },
        }
    }
}

/// Options of a network on top of a pretrained backbone that stays as it is.
pub fn on_backbone(variant: Variant) -> TrainOptions {
    TrainOptions {
        architecture: Architecture::EfficientnetLite(EfficientnetOptions {
            variant,
            ..EfficientnetOptions::default()
        }),
        transfer: Some(TransferOptions::default()),
        epochs: 40,
        batch_size: 64,
        schedule: Schedule::one_cycle(0.002),
        optimizer: OptimizerOptions {
            optimizer: Optimizer::adamw(),
            weight_decay: 0.01,
            clip_norm: None,
        },
        label_smoothing: 0.1,
        augment: AugmentSettings {
            shift_x: 0.05,
            shift_y: 0.05,
            rotation_degrees: 10.0,
            zoom: [0.9, 1.3],
            ..AugmentSettings::default()
        },
        weight_storage: WeightStorage::Float16,
        ..TrainOptions::default()
    }
}

/// Options of a layer behind a part of somebody else's model.
pub fn on_file(file: ForeignFile) -> TrainOptions {
    TrainOptions {
        architecture: Architecture::Head(HeadOptions::default()),
        transfer: Some(TransferOptions {
            file: Some(file),
            ..TransferOptions::default()
        }),
        ..on_backbone(Variant::default())
    }
}

/// What the presets share.
fn shared(architecture: Architecture) -> TrainOptions {
    TrainOptions {
        architecture,
        pruning: Some(PruningOptions::default()),
        mirror_averaging: true,
        weight_storage: WeightStorage::Float16,
        ..TrainOptions::default()
    }
}

/// Six convolutions, from `width` filters on whole images to four times as many on an eighth of the side.
fn pyramid(width: usize) -> Architecture {
    Architecture::Vgg(VggOptions {
        stages: vec![
            vec![width],
            vec![width, 2 * width],
            vec![2 * width, 4 * width],
            vec![4 * width],
        ],
        ..VggOptions::default()
    })
}

/// The residual network of 20 layers for small images (He et al., 2016, section 4.2).
fn twenty_layers() -> Architecture {
    Architecture::Resnet(ResnetOptions {
        stem: 16,
        widths: vec![16, 32, 64],
        first_stride: 1,
        blocks: 3,
        dropout: 0.0,
    })
}

fn erasing(probability: f32) -> AugmentSettings {
    AugmentSettings {
        erasing: Erasing {
            probability,
            ..Erasing::default()
        },
        ..AugmentSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_survive_json() {
        for preset in [Preset::Quick, Preset::Default, Preset::Best] {
            let options = preset.options();
            options.validate().unwrap();
            let json = serde_json::to_string(&options).unwrap();
            assert_eq!(
                serde_json::from_str::<TrainOptions>(&json).unwrap(),
                options
            );
        }
    }
}
