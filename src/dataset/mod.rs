//! Data sets: labelled images as `uint8` tensors, whatever they came from.
//!
//! [`Source::detect`] says what an argument names, [`load`] reads it. Nothing here knows of networks, training or the command
//! line; augmentation and scaling come later.

use std::path::PathBuf;

use std::borrow::Cow;

use anyhow::{Result, bail, ensure};
use pipeline::preprocess::{Colour, Fit, Preprocess};

pub mod contact_sheet;
pub mod duplicates;
pub mod export;
mod fashion_mnist;
mod fingerprint;
mod folder;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod idx;
mod idx_folder;
mod image_files;
mod manifest;
pub mod natural_order;
mod numbered;
mod pixel_csv;
pub mod pixel_store;
mod source;
pub mod split;

pub use pixel_store::PixelStore;
pub use source::Source;

/// Labelled images in three parts, ready for training.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Short name for people: `fashion-mnist`, or the folder's or file's name.
    pub name: String,
    /// Class names; a label is an index into this list. Names of folders and manifests are in natural order, numbered labels
    /// in the order of their numbers.
    pub classes: Vec<String>,
    /// How the pixels were made, and how classification must make them.
    pub preprocess: Preprocess,
    /// Images to learn from.
    pub train: Split,
    /// Images to choose by; made from `train` by [`Dataset::with_validation`] where the source has none.
    pub validation: Option<Split>,
    /// Images to judge by, never used for a choice.
    pub test: Option<Split>,
    /// Files that could not be used, each with the reason.
    pub skipped: Vec<Skipped>,
    /// SHA-256 over classes, shape, labels and pixels as they were loaded, in hexadecimal; a later
    /// [`Dataset::with_validation`] does not change it.
    pub fingerprint: String,
}

/// A list of labelled images of one shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Split {
    /// Pixels, `[H, W, C]` of each image.
    pub pixels: PixelStore,
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

/// One of the three parts of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Images to learn from.
    Train,
    /// Images to choose by.
    Validation,
    /// Images to judge by.
    Test,
}

/// How to load a data set.
#[derive(Clone, Debug)]
pub struct LoadSettings {
    /// How the images become pixels.
    pub pixels: Pixels,
    /// Which parts to read; the others are neither decoded nor kept.
    pub parts: Parts,
    /// What the data is for.
    pub purpose: Purpose,
    /// The program's cache folder, where fetched data sets are kept, and the pixels of image files that are too many for memory.
    pub cache: PathBuf,
    /// Bytes of pixels of image files that are kept in memory; if they are more, they go to a file.
    pub memory: u64,
    /// Never fetch: fail and say what is missing.
    pub offline: bool,
}

/// How the images of a data set become pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// In the size, colour and fit wished for, or in the source's own; the rest is [`Preprocess::stretch`].
    Wished {
        /// Height and width in pixels. `None`: as the source has it; for image files the size they all share if no side is
        /// over 64, else 64×64.
        size: Option<(u32, u32)>,
        /// Colour. `None`: as the source has it; for image files grey if all are grey, else RGB.
        colour: Option<Colour>,
        /// What happens to images of another shape. `None`: they are stretched.
        fit: Option<Fit>,
    },
    /// As [`Pixels::Wished`], but trimmed and in proportion as [`Preprocess::plain_background`] says.
    PlainBackground {
        /// Height and width in pixels, as for [`Pixels::Wished`].
        size: Option<(u32, u32)>,
        /// Colour, as for [`Pixels::Wished`].
        colour: Option<Colour>,
    },
    /// Exactly as a model's contract demands. Raw pixels must have its size already.
    Contract(Preprocess),
}

/// Which parts of a data set are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// All there are.
    All,
    /// The parts to learn and to choose by: training and, if there is one, validation. Never the test part.
    Learning,
    /// The part to judge a model by: test if there is one, else validation, else everything.
    Judging,
    /// The part to choose by; where there is none, everything, for something to be held out of it.
    HeldOut,
    /// This one, which has to be there.
    Only(Part),
}

/// What the data is for, which says how much of it there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// At least two classes, and at least two training images of each.
    Training,
    /// At least one image.
    Evaluation,
}

/// Reads a data set.
///
/// Files that cannot be decoded are listed in [`Dataset::skipped`]; they are never replaced.
///
/// # Errors
/// When the source is missing, damaged, inconsistent, or too small for the purpose; the message names the file and, where there
/// is one, the line or byte.
pub fn load(source: &Source, settings: &LoadSettings) -> Result<Dataset> {
    let mut dataset = match source {
        Source::FashionMnist => fashion_mnist::load(settings)?,
        Source::Idx(folder) => idx_folder::load(folder, settings)?,
        Source::Csv {
            train,
            validation,
            test,
        } => numbered::load_csv(train, validation.as_deref(), test.as_deref(), settings)?,
        Source::Folder(folder) => image_files::load(folder::list(folder)?, settings)?,
        Source::Manifest(file) => image_files::load(manifest::list(file)?, settings)?,
    };
    dataset.check_size(settings.purpose)?;
    dataset.fingerprint = fingerprint::of(&dataset)?;
    Ok(dataset)
}

impl Dataset {
    /// One part, if the data set has it; training images are always there, if only as an empty list.
    pub fn part(&self, part: Part) -> Option<&Split> {
        match part {
            Part::Train => Some(&self.train),
            Part::Validation => self.validation.as_ref(),
            Part::Test => self.test.as_ref(),
        }
    }

    /// The parts there are, in the order train, validation, test.
    pub fn parts(&self) -> impl Iterator<Item = (Part, &Split)> {
        Part::ALL
            .into_iter()
            .filter_map(|part| Some((part, self.part(part)?)))
    }

    /// Images of the training and the validation part that are the same picture, in groups of two and more. Validation images are
    /// counted on behind the training images.
    ///
    /// # Errors
    /// When the images cannot be read back from their file.
    pub fn duplicates(&self) -> Result<Vec<Vec<usize>>> {
        let splits: Vec<&Split> = [Some(&self.train), self.validation.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        duplicates::groups(&splits, &self.preprocess)
    }

    /// The same data with a validation part: its own if it has one, else `fraction` of the training images, stratified. Images of
    /// one group in `duplicates`, which is of training images, are then in the same part.
    ///
    /// # Errors
    /// When `fraction` is not between 0 and 1, or nothing would be held out.
    pub fn with_validation(
        mut self,
        fraction: f64,
        seed: u64,
        duplicates: &[Vec<usize>],
    ) -> Result<Self> {
        if self.validation.is_some() {
            return Ok(self);
        }
        ensure!(
            fraction > 0.0 && fraction < 1.0,
            "validation fraction {fraction}: expected a number between 0 and 1"
        );
        let parts = split::stratified(&self.train.labels, fraction, seed);
        let parts = duplicates::on_one_side(parts, duplicates);
        if parts.validation.is_empty() {
            bail!(
                "{}: too few images to hold some out for validation",
                self.name
            );
        }
        self.validation = Some(self.train.subset(&parts.validation));
        self.train = self.train.subset(&parts.train);
        Ok(self)
    }

    /// The same data with every image in the training part.
    ///
    /// # Errors
    /// When its parts have images of different sizes, which no data set that was loaded has.
    pub fn as_one_part(mut self) -> Result<Self> {
        for split in [self.validation.take(), self.test.take()]
            .into_iter()
            .flatten()
        {
            self.train.pixels.append(split.pixels)?;
            self.train.labels.extend(split.labels);
            self.train.sources.extend(split.sources);
        }
        Ok(self)
    }

    /// The same data with one part alone, so that it can be judged by itself.
    pub fn only(self, part: Part) -> Self {
        let keep = |split: Option<Split>, of: Part| split.filter(|_| of == part);
        Self {
            train: keep(Some(self.train), Part::Train).unwrap_or_default(),
            validation: keep(self.validation, Part::Validation),
            test: keep(self.test, Part::Test),
            ..self
        }
    }

    fn check_size(&self, purpose: Purpose) -> Result<()> {
        let name = &self.name;
        if self.parts().all(|(_, split)| split.is_empty()) {
            match self.skipped.first() {
                Some(first) => bail!(
                    "{name}: none of the {} files could be used; the first is {}: {}",
                    self.skipped.len(),
                    first.path,
                    first.reason
                ),
                None => bail!("{name}: no image in it"),
            }
        }
        if purpose == Purpose::Evaluation {
            return Ok(());
        }
        if let [only] = self.classes.as_slice() {
            bail!(
                "{name}: only one class, {only:?}: a classifier needs at least two (one folder or label for each)"
            );
        }
        for (class, count) in self
            .classes
            .iter()
            .zip(self.train.class_counts(self.classes.len()))
        {
            if count < 2 {
                let skipped = match self.skipped.len() {
                    0 => String::new(),
                    files => format!(" ({files} files of the data set could not be used)"),
                };
                bail!(
                    "{name}: class {class:?} has {count} training images{skipped}: at least 2 are needed"
                );
            }
        }
        Ok(())
    }
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

    /// Pixels of one image, `[H, W, C]`.
    ///
    /// # Errors
    /// When there is no such image, or its file cannot be read.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        self.pixels.image(index)
    }

    /// Number of images of each of `class_count` classes.
    pub fn class_counts(&self, class_count: usize) -> Vec<usize> {
        let mut counts = vec![0; class_count];
        for &label in &self.labels {
            counts[label as usize] += 1;
        }
        counts
    }

    /// The images at `indices`, in that order.
    pub fn subset(&self, indices: &[usize]) -> Self {
        Self {
            pixels: self.pixels.subset(indices),
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            sources: indices
                .iter()
                .map(|&index| self.sources[index].clone())
                .collect(),
        }
    }
}

impl Parts {
    /// Chooses from the parts that the data set `name` has.
    ///
    /// # Errors
    /// When the one part that is wanted is not there.
    fn choose(self, name: &str, there: &[Part]) -> Result<Vec<Part>> {
        let one = match self {
            Self::All => return Ok(there.to_vec()),
            Self::Learning => {
                let learning = there.iter().filter(|&&part| part != Part::Test);
                return Ok(learning.copied().collect());
            }
            Self::Judging => [Part::Test, Part::Validation]
                .into_iter()
                .find(|part| there.contains(part)),
            Self::HeldOut => Some(Part::Validation).filter(|part| there.contains(part)),
            Self::Only(part) if there.contains(&part) => Some(part),
            Self::Only(part) => {
                let names: Vec<&str> = there.iter().map(|part| part.name()).collect();
                bail!(
                    "{name}: no {} part in it, only: {}",
                    part.name(),
                    names.join(", ")
                )
            }
        };
        Ok(one.map_or_else(|| there.to_vec(), |part| vec![part]))
    }
}

impl Part {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The name used for folders and columns.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// The part a folder, file prefix or manifest cell names, in any case: also `training`, `val`, `valid`, `t10k`, `testing`.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "validation" | "val" | "valid" => Some(Self::Validation),
            "test" | "testing" | "t10k" => Some(Self::Test),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(labels: Vec<u32>) -> Dataset {
        Dataset {
            name: "tiny".into(),
            classes: vec!["bag".into(), "coat".into()],
            preprocess: Preprocess::stretch(1, 2, Colour::Grey),
            train: Split {
                pixels: PixelStore::in_memory((0..labels.len() as u8 * 2).collect(), 2),
                sources: (0..labels.len()).map(|index| format!("#{index}")).collect(),
                labels,
            },
            validation: None,
            test: None,
            skipped: Vec::new(),
            fingerprint: "f".into(),
        }
    }

    #[test]
    fn held_out_images_keep_pixels_label_and_source_together() {
        let whole = dataset(vec![0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
        let halves = whole.clone().with_validation(0.2, 5, &[]).unwrap();
        let validation = halves.validation.as_ref().unwrap();
        assert_eq!((halves.train.len(), validation.len()), (8, 2));
        assert_eq!(halves.fingerprint, whole.fingerprint);
        for split in [&halves.train, validation] {
            for (index, source) in split.sources.iter().enumerate() {
                let original: usize = source[1..].parse().unwrap();
                assert_eq!(
                    split.image(index).unwrap(),
                    whole.train.image(original).unwrap()
                );
                assert_eq!(split.labels[index], whole.train.labels[original]);
            }
        }
        let only = halves.clone().only(Part::Validation);
        assert_eq!(
            (only.train.len(), only.validation.as_ref()),
            (0, Some(validation))
        );
        let again = halves.clone().with_validation(0.5, 6, &[]).unwrap();
        assert_eq!(
            again.train, halves.train,
            "a validation part that is there stays"
        );
    }

    #[test]
    fn judging_takes_the_part_that_was_kept_for_it() {
        use Part::{Test, Train, Validation};
        let choose = |parts: Parts, there: &[Part]| parts.choose("shop", there).unwrap();
        assert_eq!(choose(Parts::Judging, &[Train, Validation, Test]), [Test]);
        assert_eq!(choose(Parts::Judging, &[Train, Validation]), [Validation]);
        assert_eq!(choose(Parts::Judging, &[Train]), [Train]);
        assert_eq!(choose(Parts::All, &[Train, Test]), [Train, Test]);
        assert_eq!(choose(Parts::Learning, &[Train, Test]), [Train]);
        assert_eq!(
            choose(Parts::Learning, &[Train, Validation, Test]),
            [Train, Validation]
        );
        assert_eq!(choose(Parts::Only(Train), &[Train, Test]), [Train]);
        assert_eq!(
            choose(Parts::HeldOut, &[Train, Validation, Test]),
            [Validation]
        );
        assert_eq!(choose(Parts::HeldOut, &[Train, Test]), [Train, Test]);
        let error = Parts::Only(Validation)
            .choose("shop", &[Train, Test])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "shop: no validation part in it, only: train, test"
        );
    }

    #[test]
    fn impossible_fractions_are_refused() {
        for fraction in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(
                dataset(vec![0, 0, 1, 1])
                    .with_validation(fraction, 1, &[])
                    .is_err()
            );
        }
        assert!(dataset(vec![0, 1]).with_validation(0.2, 1, &[]).is_err());
    }

    #[test]
    fn too_small_data_names_the_class() {
        let error = |labels| {
            dataset(labels)
                .check_size(Purpose::Training)
                .unwrap_err()
                .to_string()
        };
        assert!(error(vec![0, 0, 1]).contains("class \"coat\" has 1 training images: at least 2"));
        assert!(error(vec![]).contains("no image in it"));
        assert!(dataset(vec![0]).check_size(Purpose::Evaluation).is_ok());
        let mut one = dataset(vec![0, 0]);
        one.classes.pop();
        assert!(
            one.check_size(Purpose::Training)
                .unwrap_err()
                .to_string()
                .contains("only one class, \"bag\"")
        );
    }
}
