//! All figures about a classifier on one set of images, gathered as its scores come in.

use serde::{Deserialize, Serialize};

use super::{ConfusionMatrix, MetricsError, Scores, cross_entropy, predicted_class, rank_of};

/// Figures about a classifier on one set of images; the content of `metrics.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of images.
    pub images: u64,
    /// Mean cross-entropy in nats, without label smoothing or class weights.
    pub loss: f64,
    /// Share of images whose predicted class is the true one.
    pub accuracy: f64,
    /// For each `k` asked for, the share of images whose true class is among the `k` best scores.
    pub top_k: Vec<TopK>,
    /// Mean precision over the classes, each counting the same.
    pub macro_precision: f64,
    /// Mean recall over the classes, each counting the same; also called balanced accuracy.
    pub macro_recall: f64,
    /// Mean F1 over the classes, each counting the same.
    pub macro_f1: f64,
    /// Mean F1 over the classes, each counting by its images.
    pub weighted_f1: f64,
    /// Figures of each class, in the order of the labels.
    pub classes: Vec<ClassFigures>,
    /// Rows are the truth, columns the prediction, both in the order of the labels.
    pub confusion_matrix: ConfusionMatrix,
}

/// Top-k accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopK {
    /// How many of the best scores count.
    pub k: usize,
    /// Share of images whose true class is among them.
    pub accuracy: f64,
}

/// Figures of one class. Ratios of 0 to 0 are 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// Name of the class.
    pub name: String,
    /// Images of this class.
    pub images: u64,
    /// Images taken for this class.
    pub predicted: u64,
    /// Of the images taken for this class, the share that are of it.
    pub precision: f64,
    /// Of the images of this class, the share taken for it.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
}

/// Counts scores against true labels, batch by batch, and gives an [`Evaluation`] at the end.
#[derive(Clone, Debug)]
pub struct Tally {
    kind: Scores,
    confusion_matrix: ConfusionMatrix,
    images: u64,
    loss_sum: f64,
    /// How often the true class had each rank; `[classes]`.
    ranks: Vec<u64>,
}

impl Tally {
    /// An empty tally for rows of `classes` scores of the given kind.
    pub fn new(classes: usize, kind: Scores) -> Self {
        Self {
            kind,
            confusion_matrix: ConfusionMatrix::new(classes),
            images: 0,
            loss_sum: 0.0,
            ranks: vec![0; classes],
        }
    }

    /// Counts one image: its scores `[K]` and its true label.
    ///
    /// # Errors
    /// When the row is not one score per class, a score is not finite, or the label names no class. The image is not counted then.
    pub fn add(&mut self, scores: &[f32], label: u32) -> Result<(), MetricsError> {
        let classes = self.ranks.len();
        if scores.len() != classes {
            return Err(MetricsError::RowLength {
                found: scores.len(),
                expected: classes,
            });
        }
        if let Some(class) = scores.iter().position(|score| !score.is_finite()) {
            return Err(MetricsError::NotFinite {
                image: self.images,
                class,
            });
        }
        // The prediction is an index into a row of the length just checked, so only `label` can be out of range.
        self.confusion_matrix
            .add(label, predicted_class(scores) as u32)?;
        let truth = label as usize;
        self.loss_sum += cross_entropy(scores, self.kind, truth);
        self.ranks[rank_of(scores, truth)] += 1;
        self.images += 1;
        Ok(())
    }

    /// Counts a batch: scores `[N, K]` row-major and `N` true labels.
    ///
    /// # Errors
    /// As [`Tally::add`], and when the scores are not `N · K`. Images before the offending one stay counted.
    pub fn add_batch(&mut self, scores: &[f32], labels: &[u32]) -> Result<(), MetricsError> {
        let classes = self.ranks.len();
        if scores.len() != labels.len() * classes {
            return Err(MetricsError::BatchLength {
                values: scores.len(),
                labels: labels.len(),
                classes,
            });
        }
        // `max(1)` only matters for no classes at all, where there is no row to visit either.
        for (row, &label) in scores.chunks_exact(classes.max(1)).zip(labels) {
            self.add(row, label)?;
        }
        Ok(())
    }

    /// Images counted so far.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Mean cross-entropy so far, in nats.
    ///
    /// # Errors
    /// [`MetricsError::Empty`] when no image was counted.
    pub fn loss(&self) -> Result<f64, MetricsError> {
        if self.images == 0 {
            Err(MetricsError::Empty)
        } else {
            Ok(self.loss_sum / self.images as f64)
        }
    }

    /// Accuracy so far; 0 when no image was counted.
    pub fn accuracy(&self) -> f64 {
        self.confusion_matrix.accuracy()
    }

    /// All figures, with top-k accuracies for each `k` in `top_k` (a `k` beyond the number of classes gives 1).
    ///
    /// `class_names` are in the order of the scores.
    ///
    /// # Errors
    /// [`MetricsError::Empty`] when no image was counted, [`MetricsError::RowLength`] when there is not one name per class.
    pub fn finish(
        self,
        class_names: &[String],
        top_k: &[usize],
    ) -> Result<Evaluation, MetricsError> {
        let loss = self.loss()?;
        let matrix = self.confusion_matrix;
        if class_names.len() != matrix.classes() {
            return Err(MetricsError::RowLength {
                found: class_names.len(),
                expected: matrix.classes(),
            });
        }
        let classes = class_names
            .iter()
            .enumerate()
            .map(|(class, name)| ClassFigures {
                name: name.clone(),
                images: matrix.support(class),
                predicted: matrix.predicted(class),
                precision: matrix.precision(class),
                recall: matrix.recall(class),
                f1: matrix.f1(class),
            })
            .collect();
        let weighted_f1 = (0..matrix.classes())
            .map(|class| matrix.f1(class) * matrix.support(class) as f64)
            .sum::<f64>()
            / self.images as f64;
        let top_k = top_k
            .iter()
            .map(|&k| TopK {
                k,
                accuracy: self.ranks.iter().take(k).sum::<u64>() as f64 / self.images as f64,
            })
            .collect();
        Ok(Evaluation {
            images: self.images,
            loss,
            accuracy: matrix.accuracy(),
            top_k,
            macro_precision: matrix.macro_mean(ConfusionMatrix::precision),
            macro_recall: matrix.macro_mean(ConfusionMatrix::recall),
            macro_f1: matrix.macro_mean(ConfusionMatrix::f1),
            weighted_f1,
            classes,
            confusion_matrix: matrix,
        })
    }
}

impl Evaluation {
    /// Evaluates images given one by one as their scores `[K]` and true label; `class_names` are in the order of the scores.
    ///
    /// # Errors
    /// As [`Tally::add`] and [`Tally::finish`].
    pub fn from_rows<'a>(
        class_names: &[String],
        kind: Scores,
        top_k: &[usize],
        rows: impl IntoIterator<Item = (&'a [f32], u32)>,
    ) -> Result<Self, MetricsError> {
        let mut tally = Tally::new(class_names.len(), kind);
        for (scores, label) in rows {
            tally.add(scores, label)?;
        }
        tally.finish(class_names, top_k)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    #[test]
    fn figures_by_hand() {
        let rows: [(&[f32], u32); 4] = [
            (&[0.5, 0.25, 0.25], 0),
            (&[0.5, 0.25, 0.25], 1),
            (&[0.25, 0.25, 0.5], 1),
            (&[0.125, 0.125, 0.75], 2),
        ];
        let evaluation =
            Evaluation::from_rows(&names(3), Scores::Probabilities, &[1, 2, 3, 9], rows).unwrap();
        assert_eq!(evaluation.images, 4);
        assert_eq!(evaluation.accuracy, 0.5);
        // Image 1 has its class second (ties go to the lower index), image 2 has it third.
        let top_k: Vec<_> = evaluation
            .top_k
            .iter()
            .map(|top| (top.k, top.accuracy))
            .collect();
        assert_eq!(top_k, [(1, 0.5), (2, 0.75), (3, 1.0), (9, 1.0)]);
        let loss = (2f64.ln() + 4f64.ln() + 4f64.ln() - 0.75f64.ln()) / 4.0;
        assert!((evaluation.loss - loss).abs() < 1e-12);
        assert_eq!(evaluation.classes[1].predicted, 0);
        assert_eq!(
            (
                evaluation.classes[1].precision,
                evaluation.classes[1].recall,
                evaluation.classes[1].f1
            ),
            (0.0, 0.0, 0.0)
        );
        assert_eq!(evaluation.macro_recall, 2.0 / 3.0);
        // F1 is 2/3, 0 and 2/3, for one, two and one images.
        assert!((evaluation.weighted_f1 - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn batches_and_single_rows_agree() {
        let scores = [0.1, 0.9, 2.0, -1.0, 0.3, 0.3];
        let labels = [1, 1, 0];
        let mut tally = Tally::new(2, Scores::Logits);
        tally.add_batch(&scores[..4], &labels[..2]).unwrap();
        tally.add_batch(&scores[4..], &labels[2..]).unwrap();
        let rows = scores.chunks(2).zip(labels);
        let expected = Evaluation::from_rows(&names(2), Scores::Logits, &[1], rows).unwrap();
        assert_eq!(tally.finish(&names(2), &[1]).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_counted_is_named() {
        let mut tally = Tally::new(2, Scores::Logits);
        assert_eq!(tally.loss(), Err(MetricsError::Empty));
        tally.add(&[1.0, 0.0], 0).unwrap();
        assert_eq!(
            tally.add(&[1.0], 0),
            Err(MetricsError::RowLength {
                found: 1,
                expected: 2
            })
        );
        assert_eq!(
            tally.add(&[1.0, 0.0], 2),
            Err(MetricsError::LabelOutOfRange {
                label: 2,
                classes: 2
            })
        );
        for score in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(
                tally.add(&[0.0, score], 0),
                Err(MetricsError::NotFinite { image: 1, class: 1 })
            );
        }
        assert_eq!(
            tally.add_batch(&[0.0; 3], &[0, 1]),
            Err(MetricsError::BatchLength {
                values: 3,
                labels: 2,
                classes: 2
            })
        );
        assert_eq!(tally.images(), 1);
        assert_eq!(
            tally.clone().finish(&names(3), &[]),
            Err(MetricsError::RowLength {
                found: 3,
                expected: 2
            })
        );
        assert_eq!(
            Tally::new(2, Scores::Logits).finish(&names(2), &[]),
            Err(MetricsError::Empty)
        );
    }

    #[test]
    fn no_classes_and_no_images_is_an_error_not_a_panic() {
        let mut tally = Tally::new(0, Scores::Logits);
        tally.add_batch(&[], &[]).unwrap();
        assert_eq!(
            tally.add(&[], 0),
            Err(MetricsError::LabelOutOfRange {
                label: 0,
                classes: 0
            })
        );
        assert_eq!(tally.finish(&[], &[1]), Err(MetricsError::Empty));
    }

    #[test]
    fn survives_json() {
        let evaluation = Evaluation::from_rows(
            &names(2),
            Scores::Logits,
            &[1],
            [([1.0f32, 2.0].as_slice(), 1)],
        )
        .unwrap();
        let json = serde_json::to_string(&evaluation).unwrap();
        assert_eq!(
            serde_json::from_str::<Evaluation>(&json).unwrap(),
            evaluation
        );
    }

    /// Figures that scikit-learn computed from the same scores; `reference.py` beside them made both.
    #[test]
    fn agrees_with_scikit_learn() {
        let reference: Value =
            serde_json::from_str(include_str!("../../tests/fixtures/metrics/reference.json"))
                .unwrap();
        let logits: Vec<Vec<f32>> = serde_json::from_value(reference["logits"].clone()).unwrap();
        let labels: Vec<u32> = serde_json::from_value(reference["labels"].clone()).unwrap();
        assert_eq!((logits.len(), labels.len()), (60, 60));
        let number = |name: &str| reference[name].as_f64().unwrap();
        let per_class =
            |name: &str| -> Vec<f64> { serde_json::from_value(reference[name].clone()).unwrap() };
        let rows = logits.iter().map(Vec::as_slice).zip(labels);
        let evaluation =
            Evaluation::from_rows(&names(7), Scores::Logits, &[1, 2, 3], rows).unwrap();

        let close = |found: f64, expected: f64, what: &str| {
            assert!(
                (found - expected).abs() < 1e-9,
                "{what}: {found}, scikit-learn has {expected}"
            );
        };
        close(evaluation.accuracy, number("accuracy"), "accuracy");
        close(evaluation.loss, number("log_loss"), "loss");
        close(
            evaluation.macro_precision,
            number("macro_precision"),
            "macro precision",
        );
        close(
            evaluation.macro_recall,
            number("macro_recall"),
            "macro recall",
        );
        close(evaluation.macro_f1, number("macro_f1"), "macro F1");
        for (top, expected) in evaluation.top_k.iter().zip(per_class("top_1_2_3")) {
            close(top.accuracy, expected, "top-k accuracy");
        }
        for (class, figures) in evaluation.classes.iter().enumerate() {
            close(
                figures.precision,
                per_class("precision")[class],
                "precision",
            );
            close(figures.recall, per_class("recall")[class], "recall");
            close(figures.f1, per_class("f1")[class], "F1");
        }
        let expected: ConfusionMatrix =
            serde_json::from_value(reference["confusion_matrix"].clone()).unwrap();
        assert_eq!(evaluation.confusion_matrix, expected);
        // The fixture holds both kinds of 0/0, or it would not test them.
        assert!(evaluation.classes.iter().any(|class| class.images == 0));
        assert!(evaluation.classes.iter().any(|class| class.predicted == 0));
    }
}
