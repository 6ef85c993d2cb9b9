//! Data sets: labelled images as `uint8` tensors, whatever they came from.

use pipeline::preprocess::Preprocess;

/// Labelled images in three parts, ready for training.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Short name for people: `fashion-mnist`, or the folder's or file's name.
    pub name: String,
    /// Class names in natural order; a label is an index into this list.
    pub classes: Vec<String>,
    /// How the pixels were made, and how classification must make them.
    pub preprocess: Preprocess,
    /// Images to learn from.
    pub train: Split,
    /// Images to choose by; made from `train` by [`split`] where the source has none.
    pub validation: Option<Split>,
    /// Images to judge by, never used for a choice.
    pub test: Option<Split>,
    /// Files that could not be used, each with the reason.
    pub skipped: Vec<Skipped>,
    /// SHA-256 over classes, labels and pixels, in hexadecimal.
    pub fingerprint: String,
}

/// A list of labelled images of one shape.
#[derive(Clone, Debug, Default)]
pub struct Split {
    /// Pixels, `[N, H, W, C]` row-major.
    pub pixels: Vec<u8>,
    /// One label per image.
    pub labels: Vec<u32>,
    /// Where each image came from: a path, or `file#index`.
    pub sources: Vec<String>,
}

/// A file that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Path of the file.
    pub path: String,
    /// What was wrong with it.
    pub reason: String,
}

impl Split {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image at all.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}
