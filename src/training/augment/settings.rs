//! What may happen to a training image, and how strongly.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// What may happen to a training image. Fields left out of a file have their default.
///
/// The defaults suit centred product photos: mirrored or not, and moved a little; never turned, slanted or
/// upside down, which product photos are not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentSettings {
    /// Rotation, uniform within ± this many degrees; 0 to 180. Default 0.
    pub rotation_degrees: f32,
    /// Horizontal shift, uniform within ± this fraction of the width, in whole pixels; 0 to 1. Default 1/28.
    pub shift_x: f32,
    /// Vertical shift, uniform within ± this fraction of the height, in whole pixels; 0 to 1. Default 1/28.
    pub shift_y: f32,
    /// Horizontal shear, uniform within ± this many degrees; 0 to 60. Default 0.
    pub shear_degrees: f32,
    /// Smallest and largest magnification, uniform in between; above 1 enlarges. Default 1 and 1.
    pub zoom: [f32; 2],
    /// Probability that left and right are exchanged. Default 0.5.
    pub horizontal_flip: f32,
    /// Probability that top and bottom are exchanged. Default 0.
    pub vertical_flip: f32,
    /// Changes of colour.
    pub colour: ColourJitter,
    /// Operations drawn at random.
    pub operations: RandomOperations,
    /// Random erasing of a rectangle.
    pub erasing: Erasing,
    /// What lies beyond the border of the image. Default: the nearest pixel, which suits any background.
    pub fill: Fill,
}

/// Changes of colour; each is a factor, uniform within 1 ± a number from 0 to 1. Default 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColourJitter {
    /// What every value is multiplied with.
    pub brightness: f32,
    /// What every value's distance to the mean brightness is multiplied with.
    pub contrast: f32,
    /// What every channel's distance to the brightness of its pixel is multiplied with.
    pub saturation: f32,
}

/// Operations drawn at random, one after the other, as RandAugment does, but for its geometric ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomOperations {
    /// How many; 0 to 8. Default 0.
    pub count: u32,
    /// How strong they are, from 0 to 1. Default 0.5.
    pub magnitude: f32,
}

/// Random erasing: Zhong et al., "Random Erasing Data Augmentation" (2017), with the ranges of torchvision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Erasing {
    /// Probability that a rectangle is erased. Default 0: it pays only in runs of many epochs.
    pub probability: f32,
    /// Smallest and largest area of the rectangle as a fraction of the image; 0 to 1. Default 0.02 and 0.33.
    pub area: [f32; 2],
    /// Smallest and largest height divided by width, uniform on a logarithmic scale; above 0. Default 0.3 and 3.3.
    pub aspect: [f32; 2],
    /// What the rectangle is filled with. Default: noise.
    pub fill: ErasingFill,
}

/// What lies beyond the border of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// This value in every channel.
    Constant(u8),
    /// The nearest pixel of the image.
    Edge,
}

/// What an erased rectangle is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErasingFill {
    /// This value in every channel.
    Constant(u8),
    /// A uniformly random value in every channel of every pixel.
    Noise,
}

impl Default for AugmentSettings {
    fn default() -> Self {
        Self {
            shift_x: 1.0 / 28.0,
            shift_y: 1.0 / 28.0,
            horizontal_flip: 0.5,
            erasing: Erasing::default(),
            ..Self::none()
        }
    }
}

impl Default for RandomOperations {
    fn default() -> Self {
        Self {
            count: 0,
            magnitude: 0.5,
        }
    }
}

impl Default for Erasing {
    fn default() -> Self {
        Self {
            probability: 0.0,
            area: [0.02, 0.33],
            aspect: [0.3, 3.3],
            fill: ErasingFill::Noise,
        }
    }
}

impl AugmentSettings {
    /// Images stay as they are.
    pub fn none() -> Self {
        Self {
            rotation_degrees: 0.0,
            shift_x: 0.0,
            shift_y: 0.0,
            shear_degrees: 0.0,
            zoom: [1.0, 1.0],
            horizontal_flip: 0.0,
            vertical_flip: 0.0,
            colour: ColourJitter::default(),
            operations: RandomOperations::default(),
            erasing: Erasing {
                probability: 0.0,
                ..Erasing::default()
            },
            fill: Fill::Edge,
        }
    }

    /// Checks that every number is in its range.
    ///
    /// # Errors
    /// Names the first number that is not, and its range.
    pub fn validate(&self) -> Result<()> {
        let Self {
            rotation_degrees,
            shift_x,
            shift_y,
            shear_degrees,
            zoom,
            horizontal_flip,
            vertical_flip,
            colour,
            operations,
            erasing,
            fill: _,
        } = *self;
        let ColourJitter {
            brightness,
            contrast,
            saturation,
        } = colour;
        let RandomOperations { count, magnitude } = operations;
        let Erasing {
            probability,
            area,
            aspect,
            fill: _,
        } = erasing;
        for (name, value, highest) in [
            ("rotation in degrees", rotation_degrees, 180.0),
            ("horizontal shift", shift_x, 1.0),
            ("vertical shift", shift_y, 1.0),
            // Towards 90° a sheared image is infinitely wide.
            ("shear in degrees", shear_degrees, 60.0),
            ("probability of a horizontal flip", horizontal_flip, 1.0),
            ("probability of a vertical flip", vertical_flip, 1.0),
            ("change of brightness", brightness, 1.0),
            ("change of contrast", contrast, 1.0),
            ("change of saturation", saturation, 1.0),
            ("magnitude of random operations", magnitude, 1.0),
            ("number of random operations", count as f32, 8.0),
            ("probability of random erasing", probability, 1.0),
        ] {
            ensure!(
                (0.0..=highest).contains(&value),
                "the {name} is {value}, expected 0 to {highest}"
            );
        }
        for (name, [low, high], lowest, highest) in [
            ("zoom", zoom, 0.1, 10.0),
            ("area of random erasing", area, 0.0, 1.0),
            ("aspect ratio of random erasing", aspect, 0.01, 100.0),
        ] {
            ensure!(
                lowest <= low && low <= high && high <= highest,
                "the {name} is {low} to {high}, expected two numbers from {lowest} to {highest}, the smaller first"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_json() {
        for settings in [AugmentSettings::default(), AugmentSettings::none()] {
            settings.validate().unwrap();
            let json = serde_json::to_string(&settings).unwrap();
            assert_eq!(
                serde_json::from_str::<AugmentSettings>(&json).unwrap(),
                settings
            );
        }
    }

    #[test]
    fn a_file_may_name_a_part_and_may_not_misspell() {
        let settings: AugmentSettings = serde_json::from_str(
            r#"{"rotation_degrees": 5, "erasing": {"fill": {"constant": 7}}}"#,
        )
        .unwrap();
        assert_eq!(settings.rotation_degrees, 5.0);
        assert_eq!(
            settings.erasing,
            Erasing {
                fill: ErasingFill::Constant(7),
                ..Erasing::default()
            }
        );
        assert_eq!(settings.horizontal_flip, 0.5);
        assert!(serde_json::from_str::<AugmentSettings>(r#"{"rotation": 5}"#).is_err());
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let none = AugmentSettings::none();
        let message = |settings: AugmentSettings| settings.validate().unwrap_err().to_string();
        assert_eq!(
            message(AugmentSettings {
                horizontal_flip: 1.5,
                ..none
            }),
            "the probability of a horizontal flip is 1.5, expected 0 to 1"
        );
        assert!(
            message(AugmentSettings {
                shift_x: f32::NAN,
                ..none
            })
            .contains("horizontal shift is NaN")
        );
        assert!(
            message(AugmentSettings {
                zoom: [0.0, 1.0],
                ..none
            })
            .contains("zoom is 0 to 1")
        );
        assert!(
            message(AugmentSettings {
                zoom: [1.2, 0.8],
                ..none
            })
            .contains("the smaller first")
        );
        let erasing = Erasing {
            aspect: [0.3, f32::INFINITY],
            ..Erasing::default()
        };
        assert!(message(AugmentSettings { erasing, ..none }).contains("aspect ratio"));
    }
}
