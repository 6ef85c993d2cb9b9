//! The confusion matrix and what follows from it alone: accuracy, precision, recall and F1.
//!
//! A ratio of 0 to 0 is 0 here, everywhere: the precision of a class that was never predicted, the recall of a class with no
//! images, the F1 of a class that is neither. That is the cautious reading (the classifier has not shown it knows the class) and the
//! one scikit-learn takes by default, so figures can be compared.

use serde::{Deserialize, Serialize};

use super::MetricsError;

/// How often each class was taken for each other: rows are the truth, columns the prediction.
///
/// In JSON it is a list of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<Vec<u64>>", try_from = "Vec<Vec<u64>>")]
pub struct ConfusionMatrix {
    classes: usize,
    /// `[classes, classes]` row-major.
    counts: Vec<u64>,
}

/// One kind of mistake: images of one class that were taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// The class the images belong to.
    pub truth: usize,
    /// The class they were taken for.
    pub prediction: usize,
    /// How many there were.
    pub count: u64,
}

impl ConfusionMatrix {
    /// An empty matrix for `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            counts: vec![0; classes * classes],
        }
    }

    /// Counts one image of class `truth` taken for `prediction`.
    ///
    /// # Errors
    /// [`MetricsError::LabelOutOfRange`] when either is not below the number of classes; nothing is counted then.
    pub fn add(&mut self, truth: u32, prediction: u32) -> Result<(), MetricsError> {
        let classes = self.classes;
        for label in [truth, prediction] {
            if label as usize >= classes {
                return Err(MetricsError::LabelOutOfRange { label, classes });
            }
        }
        self.counts[truth as usize * classes + prediction as usize] += 1;
        Ok(())
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Images of class `truth` that were taken for `prediction`; both must be below the number of classes.
    pub fn count(&self, truth: usize, prediction: usize) -> u64 {
        self.row(truth)[prediction]
    }

    /// What the images of class `truth` were taken for: one count per class.
    pub fn row(&self, truth: usize) -> &[u64] {
        &self.counts[truth * self.classes..(truth + 1) * self.classes]
    }

    /// Images of class `truth`, whatever they were taken for.
    pub fn support(&self, truth: usize) -> u64 {
        self.row(truth).iter().sum()
    }

    /// Images taken for class `prediction`, whatever they are.
    pub fn predicted(&self, prediction: usize) -> u64 {
        (0..self.classes)
            .map(|truth| self.count(truth, prediction))
            .sum()
    }

    /// Images counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Images taken for what they are.
    pub fn correct(&self) -> u64 {
        (0..self.classes)
            .map(|class| self.count(class, class))
            .sum()
    }

    /// Share of images taken for what they are: `correct / total`.
    pub fn accuracy(&self) -> f64 {
        ratio(self.correct(), self.total())
    }

    /// Of the images taken for `class`, the share that are of it: `TP / (TP + FP)`.
    pub fn precision(&self, class: usize) -> f64 {
        ratio(self.count(class, class), self.predicted(class))
    }

    /// Of the images of `class`, the share taken for it: `TP / (TP + FN)`.
    pub fn recall(&self, class: usize) -> f64 {
        ratio(self.count(class, class), self.support(class))
    }

    /// Harmonic mean of precision and recall: `2·TP / (2·TP + FP + FN)`.
    pub fn f1(&self, class: usize) -> f64 {
        ratio(
            2 * self.count(class, class),
            self.predicted(class) + self.support(class),
        )
    }

    /// Mean of `figure` over all classes, each counting the same whatever its size, classes without images included.
    pub fn macro_mean(&self, figure: impl Fn(&Self, usize) -> f64) -> f64 {
        if self.classes == 0 {
            return 0.0;
        }
        (0..self.classes)
            .map(|class| figure(self, class))
            .sum::<f64>()
            / self.classes as f64
    }

    /// The kinds of mistake that were made, most frequent first, then by truth and prediction.
    pub fn confusions(&self) -> Vec<Confusion> {
        let mut confusions: Vec<Confusion> = (0..self.classes)
            .flat_map(|truth| (0..self.classes).map(move |prediction| (truth, prediction)))
            .filter(|(truth, prediction)| truth != prediction)
            .map(|(truth, prediction)| Confusion {
                truth,
                prediction,
                count: self.count(truth, prediction),
            })
            .filter(|confusion| confusion.count > 0)
            .collect();
        // Stable, so equally frequent ones stay in the order of the classes.
        confusions.sort_by_key(|confusion| std::cmp::Reverse(confusion.count));
        confusions
    }
}

impl From<ConfusionMatrix> for Vec<Vec<u64>> {
    fn from(matrix: ConfusionMatrix) -> Self {
        (0..matrix.classes)
            .map(|truth| matrix.row(truth).to_vec())
            .collect()
    }
}

impl TryFrom<Vec<Vec<u64>>> for ConfusionMatrix {
    type Error = String;

    fn try_from(rows: Vec<Vec<u64>>) -> Result<Self, String> {
        let classes = rows.len();
        for (index, row) in rows.iter().enumerate() {
            if row.len() != classes {
                return Err(format!(
                    "row {index} of the confusion matrix has {} counts, expected {classes}",
                    row.len()
                ));
            }
        }
        Ok(Self {
            classes,
            counts: rows.concat(),
        })
    }
}

/// `numerator / denominator`, and 0 where both are 0.
fn ratio(numerator: u64, denominator: u64) -> f64 {
    if denominator == 0 {
        0.0
    } else {
        numerator as f64 / denominator as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three classes; the last has no images and is never predicted.
    fn example() -> ConfusionMatrix {
        ConfusionMatrix::try_from(vec![vec![3, 1, 0], vec![2, 4, 0], vec![0, 0, 0]]).unwrap()
    }

    #[test]
    fn figures_by_hand() {
        let matrix = example();
        assert_eq!((matrix.total(), matrix.correct()), (10, 7));
        assert_eq!(matrix.accuracy(), 0.7);
        assert_eq!((matrix.support(0), matrix.predicted(0)), (4, 5));
        assert_eq!(
            (matrix.precision(0), matrix.recall(0)),
            (3.0 / 5.0, 3.0 / 4.0)
        );
        assert_eq!(
            (matrix.precision(1), matrix.recall(1)),
            (4.0 / 5.0, 4.0 / 6.0)
        );
        assert_eq!((matrix.f1(0), matrix.f1(1)), (6.0 / 9.0, 8.0 / 11.0));
        let expected = (6.0 / 9.0 + 8.0 / 11.0) / 3.0;
        assert!((matrix.macro_mean(ConfusionMatrix::f1) - expected).abs() < 1e-15);
    }

    #[test]
    fn nothing_out_of_nothing_is_zero_and_never_nan() {
        let matrix = example();
        assert_eq!(
            (matrix.precision(2), matrix.recall(2), matrix.f1(2)),
            (0.0, 0.0, 0.0)
        );
        assert_eq!(ConfusionMatrix::new(2).accuracy(), 0.0);
        assert_eq!(ConfusionMatrix::new(0).macro_mean(ConfusionMatrix::f1), 0.0);
    }

    #[test]
    fn rows_are_the_truth() {
        let mut matrix = ConfusionMatrix::new(2);
        matrix.add(0, 1).unwrap();
        assert_eq!(matrix.count(0, 1), 1);
        assert_eq!(matrix.row(0), [0, 1]);
        assert_eq!((matrix.support(0), matrix.predicted(1)), (1, 1));
    }

    #[test]
    fn labels_out_of_range_are_refused_and_not_counted() {
        let mut matrix = ConfusionMatrix::new(2);
        assert_eq!(
            matrix.add(2, 0),
            Err(MetricsError::LabelOutOfRange {
                label: 2,
                classes: 2
            })
        );
        assert_eq!(
            matrix.add(0, 7),
            Err(MetricsError::LabelOutOfRange {
                label: 7,
                classes: 2
            })
        );
        assert_eq!(matrix.total(), 0);
    }

    #[test]
    fn confusions_come_most_frequent_first() {
        let matrix =
            ConfusionMatrix::try_from(vec![vec![9, 1, 5], vec![1, 9, 0], vec![0, 7, 9]]).unwrap();
        let found: Vec<_> = matrix
            .confusions()
            .iter()
            .map(|c| (c.truth, c.prediction, c.count))
            .collect();
        assert_eq!(found, [(2, 1, 7), (0, 2, 5), (0, 1, 1), (1, 0, 1)]);
    }

    #[test]
    fn json_is_a_list_of_rows_and_a_ragged_one_is_refused() {
        let matrix = example();
        let json = serde_json::to_string(&matrix).unwrap();
        assert_eq!(json, "[[3,1,0],[2,4,0],[0,0,0]]");
        assert_eq!(
            serde_json::from_str::<ConfusionMatrix>(&json).unwrap(),
            matrix
        );
        let error = serde_json::from_str::<ConfusionMatrix>("[[1,2],[3]]")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("row 1 of the confusion matrix has 1 counts, expected 2"),
            "{error}"
        );
    }
}
