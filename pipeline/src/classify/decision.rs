//! Which labels are accepted as they are, and which a person should look at.
//!
//! Decisions are made as rows are written ([`Rules`](super::Rules)); no journal holds them.

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::rows::Candidate;
use crate::model::{Calibration, Expectation, Familiarity};

/// What a label has to reach to be accepted; where both are given, both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Acceptance {
    /// The precision, above 0 and below 1, that the accepted labels of each class shall have; the model knows the thresholds.
    pub target_precision: Option<f64>,
    /// A confidence, 0 to 1, that holds for every class.
    pub review_below: Option<f32>,
}

/// The value of the `decision` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    /// The label can be used as it is.
    Accept,
    /// The label cannot, but the category above it that the row names.
    RolledUp,
    /// A person should look at it.
    Review,
    /// The image shows nothing that the model knows.
    Unknown,
}

/// Thresholds in use.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Thresholding {
    /// In the order of the labels, the lowest confidence that is accepted; none for a class that never is.
    pub thresholds: Vec<Option<f32>>,
    /// What the labels of a category above them have to have together to be accepted as that category.
    pub above_labels: f32,
    /// What they gave on the model's validation images; none where the model says nothing of those.
    pub expected: Option<Expectation>,
}

/// How many rows were decided how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decisions {
    /// Rows to be used as they are.
    pub accept: u64,
    /// Rows whose category can be used, but not their label.
    pub rolled_up: u64,
    /// Rows to be looked at.
    pub review: u64,
    /// Rows of images that show nothing the model knows.
    pub unknown: u64,
}

impl Decision {
    /// Every decision, in the order in which they are reported.
    pub const ALL: [Self; 4] = [Self::Accept, Self::RolledUp, Self::Review, Self::Unknown];

    /// The decision with this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|decision| decision.as_str() == word)
    }

    /// The word in the column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::RolledUp => "rolled_up",
            Self::Review => "review",
            Self::Unknown => "unknown",
        }
    }
}

impl Acceptance {
    /// Whether anything is asked for.
    pub fn is_asked(&self) -> bool {
        self.target_precision.is_some() || self.review_below.is_some()
    }

    /// The thresholds for a model of so many classes; none where nothing is asked for.
    ///
    /// # Errors
    /// When a precision is asked for and the model carries no calibration, or a number is out of range.
    pub fn thresholding(
        &self,
        classes: usize,
        calibration: Option<&Calibration>,
    ) -> Result<Option<Thresholding>> {
        if let Some(precision) = self.target_precision {
            ensure!(
                precision > 0.0 && precision < 1.0,
                "the target precision is {precision}, it has to be above 0 and below 1"
            );
        }
        if let Some(lowest) = self.review_below {
            ensure!(
                (0.0..=1.0).contains(&lowest),
                "the confidence to review below is {lowest}, it has to be 0 to 1"
            );
        }
        let of_precision = match self.target_precision {
            None => None,
            Some(precision) => Some(
                calibration
                    .context(
                        "the model says nothing about how far its confidences can be trusted, so no precision can be \
                         aimed at: train it again with this version of catalog, or give one confidence for all classes \
                         with --review-below",
                    )?
                    .thresholds(precision),
            ),
        };
        let thresholds = match (of_precision, self.review_below) {
            (None, None) => return Ok(None),
            (None, Some(lowest)) => vec![Some(lowest); classes],
            (Some(thresholds), lowest) => thresholds.not_below(lowest.unwrap_or(0.0)),
        };
        // A category above labels was not looked at on its own, but probabilities are calibrated: they can be added, and of what
        // has the probability p together, the share p is right.
        let above_labels = [self.target_precision.map(|p| p as f32), self.review_below]
            .into_iter()
            .flatten()
            .fold(0.0, f32::max);
        Ok(Some(Thresholding {
            above_labels,
            expected: calibration.map(|calibration| calibration.expectation(&thresholds)),
            thresholds,
        }))
    }
}

impl Thresholding {
    /// Thresholds that accept every label, for runs in which something else decides.
    pub fn everything(classes: usize) -> Self {
        Self {
            thresholds: vec![Some(0.0); classes],
            above_labels: 0.0,
            expected: None,
        }
    }

    /// Whether the label of a whole image is accepted.
    pub fn accepts(&self, first: &Candidate) -> bool {
        let threshold = self.thresholds.get(first.class).copied().flatten();
        threshold.is_some_and(|threshold| first.confidence >= threshold)
    }
}

/// The score below which an image is unknown, so that this share of images like the validation images is not.
///
/// # Errors
/// When the share is out of range, or the model does not say how familiar its validation images are.
pub fn unknown_below(share: f64, familiarity: Option<&Familiarity>) -> Result<f32> {
    ensure!(
        share > 0.0 && share < 1.0,
        "the share of known images to keep is {share}, it has to be above 0 and below 1"
    );
    let familiarity = familiarity.context(
        "the model says nothing about how familiar the images it learnt from are, so unknown ones cannot be told: train it again \
         with this version of catalog",
    )?;
    Ok(familiarity.threshold(share))
}

impl Decisions {
    pub(crate) fn count(&mut self, decision: Decision) {
        match decision {
            Decision::Accept => self.accept += 1,
            Decision::RolledUp => self.rolled_up += 1,
            Decision::Review => self.review += 1,
            Decision::Unknown => self.unknown += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::calibration;

    fn thresholding(target_precision: Option<f64>, review_below: Option<f32>) -> Thresholding {
        let wish = Acceptance {
            target_precision,
            review_below,
        };
        wish.thresholding(3, Some(&calibration())).unwrap().unwrap()
    }

    #[test]
    fn a_label_is_accepted_from_the_threshold_of_its_class_on() {
        let thresholding = thresholding(Some(0.99), None);
        let accepts = |class, confidence| thresholding.accepts(&Candidate { class, confidence });
        assert!(accepts(0, 0.6));
        assert!(!accepts(0, 0.599));
        assert!(!accepts(1, 0.7));
        // Nothing shows that this class reaches the precision.
        assert!(!accepts(2, 1.0));
        assert!(Thresholding::everything(3).accepts(&Candidate {
            class: 2,
            confidence: 0.0
        }));
    }

    #[test]
    fn of_two_demands_both_hold() {
        let both = thresholding(Some(0.99), Some(0.7));
        assert_eq!(both.thresholds, [Some(0.7), Some(0.8), None]);
        assert_eq!(both.above_labels, 0.99);
        let one = thresholding(None, Some(0.7));
        assert_eq!(one.thresholds, [Some(0.7); 3]);
        assert_eq!(one.above_labels, 0.7);
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let ask = |target_precision, review_below, calibration: Option<&Calibration>| {
            Acceptance {
                target_precision,
                review_below,
            }
            .thresholding(3, calibration)
        };
        assert_eq!(ask(None, None, None).unwrap(), None);
        let without = ask(None, Some(0.5), None).unwrap().unwrap();
        assert_eq!(without.expected, None);
        let error = ask(Some(0.9), None, None).unwrap_err().to_string();
        assert!(error.contains("train it again"), "{error}");
        let calibration = calibration();
        for precision in [0.0, 1.0, -0.5, 2.0, f64::NAN] {
            assert!(ask(Some(precision), None, Some(&calibration)).is_err());
        }
        for lowest in [-0.1, 1.1, f32::NAN] {
            assert!(ask(None, Some(lowest), Some(&calibration)).is_err());
        }
    }
}
