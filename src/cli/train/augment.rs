//! The options of `catalog train` for random variants of the training images.

use clap::Args;

use crate::training::augment::{AugmentSettings, ColourJitter, MixSettings};
use crate::training::options::TrainOptions;

use super::set;

#[derive(Debug, Args)]
#[command(next_help_heading = "Augmentation")]
pub(super) struct AugmentArgs {
    /// Train on the images as they are; other augmentation options then add to nothing
    #[arg(long)]
    no_augment: bool,
    /// Turn by up to so many degrees [default: 0]
    #[arg(long, value_name = "DEGREES")]
    rotation: Option<f32>,
    /// Shift by up to this share of the side, along both axes [default: that of the preset]
    #[arg(long, value_name = "SHARE")]
    shift: Option<f32>,
    /// Shear by up to so many degrees [default: 0]
    #[arg(long, value_name = "DEGREES")]
    shear: Option<f32>,
    /// Zoom by a factor between 1 − this and 1 + this [default: 0]
    #[arg(long, value_name = "SHARE")]
    zoom: Option<f32>,
    /// Probability of a horizontal flip [default: 0.5]
    #[arg(long, value_name = "PROBABILITY")]
    flip: Option<f32>,
    /// Probability of a vertical flip [default: 0]
    #[arg(long, value_name = "PROBABILITY")]
    vertical_flip: Option<f32>,
    /// Change brightness, contrast and saturation by up to this share [default: 0]
    #[arg(long, value_name = "SHARE")]
    colour_jitter: Option<f32>,
    /// Change each image by so many of RandAugment's colour operations, drawn at random [default: 0]
    #[arg(long, value_name = "N")]
    rand_augment: Option<u32>,
    /// How strong --rand-augment's operations are, from 0 to 1 [default: 0.5]
    #[arg(long, value_name = "STRENGTH")]
    rand_magnitude: Option<f32>,
    /// Probability of random erasing [default: that of the preset]
    #[arg(long, value_name = "PROBABILITY")]
    erasing: Option<f32>,
    /// Blend pairs of images with a share from Beta(α, α) [default: 0, not at all]
    #[arg(long, value_name = "α")]
    mixup: Option<f32>,
    /// Exchange a rectangle between pairs of images, with a share from Beta(α, α) [default: 0, not at all]
    #[arg(long, value_name = "α")]
    cutmix: Option<f32>,
}

impl AugmentArgs {
    pub(super) fn apply(&self, options: &mut TrainOptions) {
        if self.no_augment {
            options.augment = AugmentSettings::none();
            options.mixing = MixSettings::default();
        }
        set(&mut options.mixing.mixup_alpha, &self.mixup);
        set(&mut options.mixing.cutmix_alpha, &self.cutmix);
        let augment = &mut options.augment;
        set(&mut augment.rotation_degrees, &self.rotation);
        set(&mut augment.shift_x, &self.shift);
        set(&mut augment.shift_y, &self.shift);
        set(&mut augment.shear_degrees, &self.shear);
        if let Some(zoom) = self.zoom {
            augment.zoom = [1.0 - zoom, 1.0 + zoom];
        }
        set(&mut augment.horizontal_flip, &self.flip);
        set(&mut augment.vertical_flip, &self.vertical_flip);
        if let Some(share) = self.colour_jitter {
            augment.colour = ColourJitter {
                brightness: share,
                contrast: share,
                saturation: share,
            };
        }
        set(&mut augment.operations.count, &self.rand_augment);
        set(&mut augment.operations.magnitude, &self.rand_magnitude);
        set(&mut augment.erasing.probability, &self.erasing);
    }
}
