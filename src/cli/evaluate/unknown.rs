//! What of a folder of pictures that are in no class would be told as unknown.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use pipeline::classify::unknown_below;
use pipeline::decode::{Limits, decode_file};
use pipeline::model::{Classifier, Familiarity, Predictions, familiarity};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use serde::Serialize;
use walkdir::WalkDir;

use crate::cli::signals::Stop;
use crate::metrics::unknown::{Caught, TwoKinds};

/// Shares of known pictures whose thresholds are tried.
const KEPT_SHARES: [f64; 4] = [0.999, 0.99, 0.95, 0.9];

/// The folder, and what the model knows about such pictures.
pub(super) struct UnknownFolder<'a> {
    folder: &'a Path,
    files: Vec<PathBuf>,
    familiarity: &'a Familiarity,
}

/// The scores of pictures.
#[derive(Default)]
pub(super) struct ScoresOfPictures {
    familiarity: Vec<f32>,
    confidence: Vec<f32>,
}

/// How well unknown pictures are told.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    folder: String,
    images: usize,
    /// Files that are no images, or damaged.
    unusable_files: usize,
    known_images: usize,
    /// How often a known picture is more familiar than an unknown one.
    auroc: Option<f64>,
    /// The same for the confidence, for comparison.
    auroc_of_confidence: Option<f64>,
    thresholds: Vec<Caught>,
}

impl ScoresOfPictures {
    /// Adds what the model said about a batch. Where that is no number, a row is a failure in classification, too.
    pub(super) fn add(&mut self, predictions: &Predictions, images: usize, temperature: f32) {
        for image in (0..images).filter(|&image| predictions.is_finite(image)) {
            let logits = predictions.logits.row(image);
            let probabilities = predictions.probabilities.row(image);
            self.familiarity.push(familiarity(logits, temperature));
            self.confidence
                .push(probabilities.fold(0.0, |most, &one| f32::max(most, one)));
        }
    }
}

impl<'a> UnknownFolder<'a> {
    /// Lists the files below `folder`.
    ///
    /// # Errors
    /// When it cannot be read or has no file, or the model does not say how familiar its validation images are.
    pub(super) fn list(folder: &'a Path, known: Option<&'a Familiarity>) -> Result<Self> {
        unknown_below(0.5, known)?;
        let known = known.context("the model says nothing about familiarity")?;
        let mut files = Vec::new();
        for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
            let entry = entry.with_context(|| format!("--unknown {}", folder.display()))?;
            if entry.file_type().is_file() {
                files.push(entry.into_path());
            }
        }
        ensure!(
            !files.is_empty(),
            "--unknown {}: there is no file in it; give a folder of pictures that are in no class",
            folder.display()
        );
        Ok(Self {
            folder,
            files,
            familiarity: known,
        })
    }

    /// Looks at all its pictures, and compares them with those of the data.
    pub(super) fn judge(
        &self,
        classifier: &mut Classifier,
        batch_size: usize,
        known: ScoresOfPictures,
        stop: &Stop,
    ) -> Result<Told> {
        let preprocess = classifier.preprocess().clone();
        let size = preprocess.bytes_per_image();
        let temperature = classifier.temperature();
        let mut unknown = ScoresOfPictures::default();
        let mut failures = Vec::new();
        let mut batch = vec![0; batch_size * size];
        for files in self.files.chunks(batch_size) {
            if stop.is_asked() {
                bail!("stopped");
            }
            let decoded: Vec<_> = files
                .par_iter()
                .map(|file| {
                    let mut pixels = vec![0; size];
                    decode_file(file, &preprocess, &Limits::default(), &mut pixels)
                        .map(|_| pixels)
                        .map_err(|fault| format!("{}: {}", file.display(), fault.message))
                })
                .collect();
            batch.fill(0);
            let mut images = 0;
            for pixels in decoded {
                match pixels {
                    Ok(pixels) => {
                        batch[images * size..][..size].copy_from_slice(&pixels);
                        images += 1;
                    }
                    Err(failure) => failures.push(failure),
                }
            }
            if images > 0 {
                let predictions = classifier
                    .classify(&batch, images)
                    .context("the model could not be run")?;
                unknown.add(&predictions, images, temperature);
            }
        }
        if let Some(first) = failures.first() {
            tracing::warn!(
                "{} files below {} cannot be used; the first: {first}",
                failures.len(),
                self.folder.display()
            );
        }
        ensure!(
            !unknown.familiarity.is_empty(),
            "--unknown {}: not one of its {} files is an image that can be used",
            self.folder.display(),
            self.files.len()
        );
        let images = unknown.familiarity.len();
        let scores = TwoKinds {
            known: known.familiarity,
            unknown: unknown.familiarity,
        };
        let confidences = TwoKinds {
            known: known.confidence,
            unknown: unknown.confidence,
        };
        Ok(Told {
            folder: self.folder.display().to_string(),
            images,
            unusable_files: self.files.len() - images,
            known_images: scores.known.len(),
            auroc: scores.auroc(),
            auroc_of_confidence: confidences.auroc(),
            thresholds: KEPT_SHARES
                .into_iter()
                .filter_map(|share| scores.at(share, self.familiarity.threshold(share)))
                .collect(),
        })
    }
}

impl Told {
    /// For a person.
    pub(super) fn text(&self) -> String {
        let area =
            |area: Option<f64>| area.map_or_else(|| "–".to_owned(), |area| format!("{area:.4}"));
        let mut text = format!(
            "unknown pictures: AUROC {} by familiarity, {} by confidence, on {} known ones and {} of {}\n\n\
             --reject-unknown  known kept  unknown caught\n",
            area(self.auroc),
            area(self.auroc_of_confidence),
            self.known_images,
            self.images,
            self.folder
        );
        for caught in &self.thresholds {
            text += &format!(
                "{:<16}  {:>10.4}  {:>14.4}\n",
                caught.kept_share, caught.known_kept, caught.unknown_caught
            );
        }
        text
    }

    /// A sentence for the report.
    pub(super) fn remark(&self) -> Option<String> {
        let caught = self.thresholds.iter().find(|at| at.kept_share == 0.95)?;
        Some(format!(
            "Of {} pictures in {} that are in no class, {:.1} % would be told as unknown where {:.1} % of the known ones are kept \
             (--reject-unknown=0.95); the area under the curve is {:.4}.",
            self.images,
            self.folder,
            caught.unknown_caught * 100.0,
            caught.known_kept * 100.0,
            self.auroc?
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_what_each_share_costs_and_brings() {
        let scores = TwoKinds {
            known: vec![1.0, 2.0, 3.0, 4.0],
            unknown: vec![0.0, 2.5],
        };
        let told = Told {
            folder: "strange".to_owned(),
            images: 2,
            unusable_files: 0,
            known_images: 4,
            auroc: scores.auroc(),
            auroc_of_confidence: None,
            thresholds: vec![scores.at(0.95, 1.5).unwrap()],
        };
        insta::assert_snapshot!(told.text(), @r"
        unknown pictures: AUROC 0.7500 by familiarity, – by confidence, on 4 known ones and 2 of strange

        --reject-unknown  known kept  unknown caught
        0.95                  0.7500          0.5000
        ");
        assert_eq!(
            told.remark().unwrap(),
            "Of 2 pictures in strange that are in no class, 50.0 % would be told as unknown where 75.0 % of the known ones are kept \
             (--reject-unknown=0.95); the area under the curve is 0.7500."
        );
    }
}
