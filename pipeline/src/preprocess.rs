//! The preprocessing contract: what happens to a decoded image before it becomes a row of the input tensor.
//!
//! Training and classification both run this code, and the model file carries the contract, so there is no skew between the
//! two by construction. Scaling, mean and standard deviation are not here: they are nodes of the model's graph.

use serde::{Deserialize, Serialize};

/// The share of the corner's colour within which Fashion-MNIST's authors trimmed.
const TRIM_PERCENT: u8 = 5;

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
    /// Whether large JPEGs are decoded at a fraction of their size that has the detail the input needs, which is several times as fast, and
    /// those of which no fraction has it in planes of brightness and colours that are scaled before they are joined.
    /// Photos with further steps are decoded whole all the same. Not in model files that were made before this could be chosen:
    /// what they learnt from was decoded whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reduced_jpeg: bool,
    /// Further steps for photos of one object on a plain background; none in most models, and in model files that were made
    /// before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub photo: Option<PhotoSteps>,
}

/// What happens to a photo of one object on a plain background.
///
/// An image that has the model's size is no photo: it is taken byte for byte. Every other image is trimmed, then fitted, then
/// sharpened, then its ground is made what the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhotoSteps {
    /// Edges go as far as they are within this share of the corner's colour, in per cent of the distance between black and white
    /// in RGB, 0 to 100; 0 trims nothing but one exact colour. `None` trims nothing.
    pub trim_percent: Option<u8>,
    /// Sharpen with a Gaussian operator of radius and sigma 1, after the image was scaled.
    pub sharpen: bool,
    /// What the object shall stand on.
    pub ground: Ground,
}

/// What the object of a photo stands on in the model's input, and what padding is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ground {
    /// The photo's own ground; padding has the colour of the photo's edge.
    Own,
    /// Black, which padding has too: a photo on a light ground is negated, and whatever grey its ground is becomes black.
    Dark,
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
            reduced_jpeg: true,
            photo: None,
        }
    }

    /// For models of Fashion-MNIST: photos go through the steps by which its authors made it (Xiao, Rasul, Vollgraf 2017, section
    /// 2), and its own images stay as they are.
    pub fn fashion_mnist(height: u32, width: u32, colour: Colour) -> Self {
        Self {
            fit: Fit::Pad,
            photo: Some(PhotoSteps {
                trim_percent: Some(TRIM_PERCENT),
                sharpen: true,
                ground: Ground::Dark,
            }),
            reduced_jpeg: false,
            ..Self::stretch(height, width, colour)
        }
    }

    /// For photos of one object on a plain background: trimmed, scaled in proportion, padded with their own ground.
    pub fn plain_background(height: u32, width: u32, colour: Colour) -> Self {
        Self {
            fit: Fit::Pad,
            photo: Some(PhotoSteps {
                trim_percent: Some(TRIM_PERCENT),
                sharpen: false,
                ground: Ground::Own,
            }),
            reduced_jpeg: false,
            ..Self::stretch(height, width, colour)
        }
    }

    /// The further steps for an image of `height × width` pixels, if it is a photo and the contract has any.
    pub(crate) fn photo_steps(&self, height: u32, width: u32) -> Option<PhotoSteps> {
        self.photo
            .filter(|_| (height, width) != (self.height, self.width))
    }

    /// Bytes of one image in the input tensor: `height · width · channels`.
    pub fn bytes_per_image(&self) -> usize {
        self.height as usize * self.width as usize * self.colour.channels()
    }
}
