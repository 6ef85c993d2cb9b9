//! What a network learns from: labelled images, or anything else of one shape that has labels.
//!
//! The loader and the loop know examples only through [`Examples`], so that a part of a network that is fed with features
//! computed before is trained by the same code as a whole one.

use anyhow::{Result, ensure};
use ort::value::PrimitiveTensorElementType;
use rand_chacha::ChaCha8Rng;

use super::augment::{AugmentSettings, ImageShape, MixSettings, augment, mix};
use crate::dataset::Split;

/// An element of an example as a network is fed with it.
pub trait Element:
    PrimitiveTensorElementType + Copy + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static
{
}

impl Element for u8 {}
impl Element for f32 {}

/// Labelled examples of one shape.
pub trait Examples: Sync {
    /// What an example consists of.
    type Element: Element;

    /// Shape of one example, without the batch.
    fn shape(&self) -> &[usize];

    /// Class of each example.
    fn labels(&self) -> &[u32];

    /// What an example is called in messages.
    fn source(&self, index: usize) -> &str;

    /// Writes an example as it is.
    ///
    /// # Errors
    /// When it cannot be read any more.
    fn read(&self, index: usize, out: &mut [Self::Element]) -> Result<()>;

    /// Writes an example as the network learns from it: one of its random variants.
    ///
    /// # Errors
    /// When it cannot be read any more.
    fn vary(&self, index: usize, rng: &mut ChaCha8Rng, out: &mut [Self::Element]) -> Result<()>;

    /// Mixes the pairs of a batch, `[N, …]`, and their targets `[N, K]`.
    fn mix(
        &self,
        batch: &mut [Self::Element],
        targets: &mut [f32],
        classes: usize,
        settings: &MixSettings,
        rng: &mut ChaCha8Rng,
    );

    /// Whether [`Examples::mix`] can mix.
    fn can_be_mixed(&self) -> bool;

    /// Elements of one example.
    fn width(&self) -> usize {
        self.shape().iter().product()
    }
}

/// The images of a split, `uint8 [H, W, C]` each.
#[derive(Debug)]
pub struct LabelledImages<'a> {
    split: &'a Split,
    shape: [usize; 3],
    augment: AugmentSettings,
}

impl<'a> LabelledImages<'a> {
    /// The images of `split`, all of one `shape`, which are varied as `augment` says.
    ///
    /// # Errors
    /// When pixels and labels do not fit together, or an augmentation is out of range.
    pub fn new(split: &'a Split, shape: ImageShape, augment: AugmentSettings) -> Result<Self> {
        let pixels = &split.pixels;
        ensure!(
            pixels.len() == split.len()
                && (pixels.is_empty() || pixels.image_size() == shape.len()),
            "{} labels of images of {}×{}×{}, but {} images of {} bytes",
            split.len(),
            shape.height,
            shape.width,
            shape.channels,
            pixels.len(),
            pixels.image_size()
        );
        augment.validate()?;
        Ok(Self {
            split,
            shape: [shape.height, shape.width, shape.channels],
            augment,
        })
    }

    fn image_shape(&self) -> ImageShape {
        let [height, width, channels] = self.shape;
        ImageShape {
            height,
            width,
            channels,
        }
    }
}

impl Examples for LabelledImages<'_> {
    type Element = u8;

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn labels(&self) -> &[u32] {
        &self.split.labels
    }

    fn source(&self, index: usize) -> &str {
        self.split.sources.get(index).map_or("", String::as_str)
    }

    fn read(&self, index: usize, out: &mut [u8]) -> Result<()> {
        self.split.pixels.read(index, out)
    }

    fn vary(&self, index: usize, rng: &mut ChaCha8Rng, out: &mut [u8]) -> Result<()> {
        augment(
            &self.split.image(index)?,
            self.image_shape(),
            &self.augment,
            rng,
            out,
        );
        Ok(())
    }

    fn mix(
        &self,
        batch: &mut [u8],
        targets: &mut [f32],
        classes: usize,
        settings: &MixSettings,
        rng: &mut ChaCha8Rng,
    ) {
        mix(batch, targets, self.image_shape(), classes, settings, rng);
    }

    fn can_be_mixed(&self) -> bool {
        true
    }
}
