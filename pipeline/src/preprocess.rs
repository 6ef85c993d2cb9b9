//! The preprocessing contract: what happens to a decoded image before it becomes a row of the input tensor.
//!
//! Training and classification both run this code, and the model file carries the contract, so there is no skew between the
//! two by construction. Scaling, mean and standard deviation are not here: they are nodes of the model's graph.

use serde::{Deserialize, Serialize};

/// How an image becomes `height × width × channels` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Height of the model's input in pixels.
    pub height: u32,
    /// Width of the model's input in pixels.
    pub width: u32,
    /// Colour of the model's input.
    pub colour: Colour,
    /// What happens to images of another shape.
    pub fit: Fit,
    /// Resampling filter; every one is area-correct when it shrinks.
    pub filter: Filter,
    /// Whether the EXIF orientation is applied.
    pub orientation: Orientation,
    /// What transparent pixels are composited on, and what padding is filled with: red, green, blue.
    pub background: [u8; 3],
}

/// Colour of the model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// One channel: BT.601 luma.
    Grey,
    /// Three channels: red, green, blue.
    Rgb,
}

/// What happens to images whose shape is not the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Height and width are scaled independently.
    Stretch,
    /// Scaled to fit inside, the rest filled with the background.
    Pad,
    /// Scaled to cover, the middle kept.
    Crop,
}

/// Resampling filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Triangle filter over the source area.
    Bilinear,
    /// Mean over the source area.
    Box,
    /// Catmull–Rom cubic.
    CatmullRom,
    /// Lanczos with three lobes.
    Lanczos3,
}

/// What to do with the EXIF orientation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orientation {
    /// Turn and mirror the image as the tag says.
    Apply,
    /// Take the pixels as stored.
    Ignore,
}

impl Colour {
    /// Number of channels: 1 or 3.
    pub fn channels(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

impl Preprocess {
    /// Stretches to `height × width` with the bilinear filter, EXIF orientation applied, white behind transparency.
    pub fn stretch(height: u32, width: u32, colour: Colour) -> Self {
        Self {
            height,
            width,
            colour,
            fit: Fit::Stretch,
            filter: Filter::Bilinear,
            orientation: Orientation::Apply,
            background: [255, 255, 255],
        }
    }

    /// Bytes of one image in the input tensor: `height · width · channels`.
    pub fn bytes_per_image(&self) -> usize {
        self.height as usize * self.width as usize * self.colour.channels()
    }
}
