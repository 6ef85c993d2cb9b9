//! How good a model is on labelled images: the model's words against the data's labels, figure by figure.
//!
//! Labels are matched by name, so data and model may list their classes in different orders. Nothing here loads data, prints or
//! knows how a model is run: batches go to a function that gives predictions.

use anyhow::{Context, Result, bail};
use pipeline::model::Predictions;

use crate::dataset::export::folder_names;
use crate::dataset::{Dataset, Split};
use crate::metrics::thresholds::Answers;
use crate::metrics::{Evaluation, Scores, Tally, predicted_class};

/// Most images that go through a network together to be judged.
const LARGEST_BATCH: usize = 256;
/// Values, such as bytes of pixels, that do: what a network of convolutions computes in between takes some fifty bytes for each.
const BATCH_VALUES: usize = 6 << 20;
/// At most so many labels of a model are listed in a message.
const LISTED_LABELS: usize = 20;

/// What came of judging a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The figures. The loss is the mean cross-entropy of the probabilities that classification gives, temperature included.
    pub evaluation: Evaluation,
    /// What the model said, one entry per image in the data's order.
    pub verdicts: Vec<Verdict>,
    /// Images for which the model gave numbers that are not finite. They are in no figure.
    pub without_answer: usize,
}

/// What the model said about one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Where the image came from.
    pub source: String,
    /// The true class: an index into the model's labels.
    pub label: u32,
    /// The most probable class and its probability; `None` where the model gave numbers that are not finite.
    pub answer: Option<(usize, f32)>,
}

impl Judgement {
    /// Every answer, its confidence and whether it was right, in the data's order; images without an answer are left out.
    pub fn answers(&self) -> Answers {
        let mut answers = Answers::default();
        for verdict in &self.verdicts {
            if let Some((class, confidence)) = verdict.answer {
                answers.add(class, confidence, class == verdict.label as usize);
            }
        }
        answers
    }
}

/// How many examples go through a network together to be judged, when each is so many values: the fewer, the larger they are, so that
/// the memory it takes does not grow with them.
pub fn batch_size(values: usize) -> usize {
    (BATCH_VALUES / values.max(1)).clamp(1, LARGEST_BATCH)
}

/// Judges a model on all images of `dataset`, which has been loaded with the model's contract.
///
/// `classify` takes a batch `[batch_size, H, W, C]`, the last one padded with zeros, and how many of its images count, as
/// [`Classifier::classify`](pipeline::model::Classifier::classify) does. `top_k` lists the k of the top-k accuracies.
///
/// # Errors
/// When the data has a class that the model does not know, `classify` fails, or no image got an answer.
pub fn judge(
    dataset: &Dataset,
    model_labels: &[String],
    batch_size: usize,
    top_k: &[usize],
    mut classify: impl FnMut(&[u8], usize) -> Result<Predictions>,
) -> Result<Judgement> {
    let by_class = match_classes(dataset, model_labels)?;
    let image_size = dataset.preprocess.bytes_per_image();
    let mut batch = vec![0; batch_size * image_size];
    let mut tally = Tally::new(model_labels.len(), Scores::Probabilities);
    let mut verdicts = Vec::new();
    for (_, split) in dataset.parts() {
        for start in (0..split.len()).step_by(batch_size) {
            let images = batch_size.min(split.len() - start);
            let (pixels, padding) = batch.split_at_mut(images * image_size);
            for (out, image) in pixels.chunks_exact_mut(image_size).zip(start..) {
                split.pixels.read(image, out)?;
            }
            padding.fill(0);
            let predictions = classify(&batch, images)?;
            for image in 0..images {
                let verdict = verdict(split, start + image, &by_class, &predictions, image)?;
                if verdict.answer.is_some() {
                    let probabilities = predictions.probabilities.row(image);
                    tally.add(&probabilities.to_vec(), verdict.label)?;
                }
                verdicts.push(verdict);
            }
        }
    }
    let without_answer = verdicts
        .iter()
        .filter(|verdict| verdict.answer.is_none())
        .count();
    if without_answer > 0 && without_answer == verdicts.len() {
        bail!("the model gave numbers that are not finite for every image: it has diverged");
    }
    Ok(Judgement {
        evaluation: tally.finish(model_labels, top_k)?,
        verdicts,
        without_answer,
    })
}

fn verdict(
    split: &Split,
    index: usize,
    by_class: &[Option<u32>],
    predictions: &Predictions,
    row: usize,
) -> Result<Verdict> {
    let label = by_class
        .get(split.labels[index] as usize)
        .copied()
        .flatten()
        .with_context(|| {
            format!(
                "{}: its label is no class of the data",
                split.sources[index]
            )
        })?;
    let answer = predictions.is_finite(row).then(|| {
        let probabilities = predictions.probabilities.row(row).to_vec();
        let class = predicted_class(&probabilities);
        (class, probabilities[class])
    });
    Ok(Verdict {
        source: split.sources[index].clone(),
        label,
        answer,
    })
}

/// For each class of the data the model's label; `None` for a class without images, which need not be known.
///
/// Names are compared as they are, or else as the folders that an export makes of them, where `T-shirt/top` is `T-shirt-top`.
fn match_classes(dataset: &Dataset, model_labels: &[String]) -> Result<Vec<Option<u32>>> {
    let mut counts = vec![0; dataset.classes.len()];
    for (_, split) in dataset.parts() {
        for (total, count) in counts
            .iter_mut()
            .zip(split.class_counts(dataset.classes.len()))
        {
            *total += count;
        }
    }
    let folders = folder_names(model_labels);
    let find = |names: &[String], class: &str| -> Option<u32> {
        (0..)
            .zip(names)
            .find_map(|(label, name)| (name == class).then_some(label))
    };
    let used = || {
        dataset
            .classes
            .iter()
            .zip(&counts)
            .filter(|&(_, &count)| count > 0)
    };
    // A folder `a-b` is the label `a-b` rather than `a/b`, unless the other folders tell that this is an export.
    let is_export = used().any(|(class, _)| find(model_labels, class).is_none())
        && used().all(|(class, _)| find(&folders, class).is_some());
    let matched = |class: &str| -> Option<u32> {
        let [first, second] = if is_export {
            [folders.as_slice(), model_labels]
        } else {
            [model_labels, folders.as_slice()]
        };
        find(first, class).or_else(|| find(second, class))
    };
    dataset
        .classes
        .iter()
        .zip(&counts)
        .map(|(class, &count)| match matched(class) {
            Some(label) => Ok(Some(label)),
            None if count == 0 => Ok(None),
            None => bail!(
                "{}: the model does not know the class {class:?} ({count} images); its labels are: {}",
                dataset.name,
                listed(model_labels)
            ),
        })
        .collect()
}

fn listed(labels: &[String]) -> String {
    let mut text = labels
        .iter()
        .take(LISTED_LABELS)
        .map(|label| format!("{label:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    if labels.len() > LISTED_LABELS {
        text += &format!(" and {} more", labels.len() - LISTED_LABELS);
    }
    text
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use pipeline::preprocess::{Colour, Preprocess};

    use super::*;
    use crate::dataset::PixelStore;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// Images of one pixel, whose value says which class the model shall see.
    fn dataset(classes: &[&str], images: &[(u8, u32)]) -> Dataset {
        Dataset {
            name: "shop".into(),
            classes: names(classes),
            preprocess: Preprocess::stretch(1, 1, Colour::Grey),
            train: Split::default(),
            validation: None,
            test: Some(Split {
                pixels: PixelStore::in_memory(images.iter().map(|&(pixel, _)| pixel).collect(), 1),
                labels: images.iter().map(|&(_, label)| label).collect(),
                sources: (0..images.len()).map(|index| format!("#{index}")).collect(),
            }),
            skipped: Vec::new(),
            fingerprint: String::new(),
        }
    }

    /// Says class `pixel` with probability 0.5 and shares the rest; a pixel of 255 breaks it.
    fn classifier(classes: usize) -> impl FnMut(&[u8], usize) -> Result<Predictions> {
        move |batch, images| {
            let share = 0.5 / (classes - 1) as f32;
            let probabilities =
                Array2::from_shape_fn((images, classes), |(image, class)| match batch[image] {
                    255 => f32::NAN,
                    pixel if usize::from(pixel) == class => 0.5,
                    _ => share,
                });
            Ok(Predictions {
                logits: probabilities.mapv(f32::ln),
                probabilities,
            })
        }
    }

    #[test]
    fn labels_meet_by_name_and_every_image_counts_once() {
        let data = dataset(&["coat", "bag"], &[(0, 1), (2, 0), (2, 0), (0, 0), (2, 1)]);
        let labels = names(&["bag", "boot", "coat"]);
        let judgement = judge(&data, &labels, 2, &[1, 3], classifier(3)).unwrap();
        let evaluation = &judgement.evaluation;
        assert_eq!((evaluation.images, evaluation.accuracy), (5, 0.6));
        assert_eq!(evaluation.confusion_matrix.row(2), [1, 0, 2]);
        assert_eq!(evaluation.classes[1].images, 0);
        let loss = (3.0 * 2f64.ln() + 2.0 * 4f64.ln()) / 5.0;
        assert!((evaluation.loss - loss).abs() < 1e-6, "{}", evaluation.loss);
        assert_eq!(judgement.verdicts[0].label, 0);
        assert_eq!(judgement.verdicts[4].answer, Some((2, 0.5)));
        assert_eq!(judgement.verdicts[4].source, "#4");
        let answers = judgement.answers();
        assert_eq!(answers.confidences, [0.5; 5]);
        assert_eq!(answers.correct, [true, true, true, false, false]);
    }

    #[test]
    fn batches_are_padded_and_only_their_images_count() {
        let data = dataset(&["a", "b"], &[(1, 1), (1, 1), (1, 1)]);
        let mut sizes = Vec::new();
        let mut inner = classifier(2);
        judge(&data, &names(&["a", "b"]), 2, &[], |batch, images| {
            sizes.push((batch.to_vec(), images));
            inner(batch, images)
        })
        .unwrap();
        assert_eq!(sizes, [(vec![1, 1], 2), (vec![1, 0], 1)]);
    }

    #[test]
    fn large_images_are_judged_a_few_at_a_time() {
        let sizes = [28 * 28, 64 * 64 * 3, 224 * 224 * 3, 10_000 * 10_000 * 3, 0];
        assert_eq!(sizes.map(batch_size), [256, 256, 41, 1, 256]);
    }

    #[test]
    fn folders_of_an_export_find_their_labels() {
        let matched = |classes: &[&str], labels: &[&str]| {
            let images: Vec<_> = (0..classes.len() as u32).map(|label| (0, label)).collect();
            match_classes(&dataset(classes, &images), &names(labels)).unwrap()
        };
        let labels = ["T-shirt/top", "Bag"];
        assert_eq!(
            matched(&["Bag", "T-shirt-top"], &labels),
            [Some(1), Some(0)]
        );
        assert_eq!(
            matched(&["Bag", "T-shirt/top"], &labels),
            [Some(1), Some(0)]
        );
        // An export numbers names that became equal; by itself a folder is what it is called.
        let twins = ["a/b", "a-b"];
        assert_eq!(matched(&["a-b", "a-b-2"], &twins), [Some(0), Some(1)]);
        assert_eq!(matched(&["a-b"], &twins), [Some(1)]);
    }

    #[test]
    fn a_class_the_model_does_not_know_is_named_unless_it_is_empty() {
        let data = dataset(&["bag", "hat"], &[(0, 0), (0, 1)]);
        let error = judge(&data, &names(&["bag", "boot"]), 2, &[], classifier(2)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "shop: the model does not know the class \"hat\" (1 images); its labels are: \"bag\", \"boot\""
        );
        let data = dataset(&["bag", "hat"], &[(0, 0)]);
        assert!(judge(&data, &names(&["bag", "boot"]), 2, &[], classifier(2)).is_ok());
        let many: Vec<String> = (0..30).map(|label| label.to_string()).collect();
        assert!(listed(&many).ends_with("\"19\" and 10 more"));
    }

    #[test]
    fn numbers_that_are_not_finite_are_no_answer() {
        let data = dataset(&["a", "b"], &[(255, 0), (1, 1)]);
        let judgement = judge(&data, &names(&["a", "b"]), 4, &[1], classifier(2)).unwrap();
        assert_eq!(judgement.without_answer, 1);
        assert_eq!(judgement.evaluation.images, 1);
        assert_eq!(judgement.verdicts[0].answer, None);
        let data = dataset(&["a", "b"], &[(255, 0)]);
        let error = judge(&data, &names(&["a", "b"]), 4, &[1], classifier(2)).unwrap_err();
        assert!(error.to_string().contains("not finite for every image"));
    }
}
