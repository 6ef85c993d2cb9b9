//! Which labels are accepted as they are, and which a person should look at.
//!
//! A decision follows from a row's class, confidence and status alone, so it is made anew whenever rows are written: no journal
//! holds it, and rows of earlier runs serve whatever the thresholds are now.

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::rows::Outcome;
use crate::model::{Calibration, Expectation};

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
    /// A person should look at it.
    Review,
}

/// Thresholds in use.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Thresholding {
    /// In the order of the labels, the lowest confidence that is accepted; none for a class that never is.
    pub thresholds: Vec<Option<f32>>,
    /// What they gave on the model's validation images; none where the model says nothing of those.
    pub expected: Option<Expectation>,
}

/// How many rows were decided how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decisions {
    /// Rows to be used as they are.
    pub accept: u64,
    /// Rows to be looked at.
    pub review: u64,
}

impl Decision {
    /// Every decision, in the order in which they are reported.
    pub const ALL: [Self; 2] = [Self::Accept, Self::Review];

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
            Self::Review => "review",
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
        Ok(Some(Thresholding {
            expected: calibration.map(|calibration| calibration.expectation(&thresholds)),
            thresholds,
        }))
    }
}

impl Thresholding {
    /// What is to become of a row; nothing where it has no label.
    ///
    /// The label of a damaged image is never accepted: the images that the thresholds were measured on were whole.
    pub fn decide(&self, outcome: &Outcome) -> Option<Decision> {
        let Outcome::Labelled { best, damage } = outcome else {
            return None;
        };
        let first = best.first()?;
        let threshold = self.thresholds.get(first.class).copied().flatten();
        let is_sure = threshold.is_some_and(|threshold| first.confidence >= threshold);
        Some(if is_sure && damage.is_none() {
            Decision::Accept
        } else {
            Decision::Review
        })
    }
}

impl Decisions {
    pub(crate) fn count(&mut self, decision: Decision) {
        match decision {
            Decision::Accept => self.accept += 1,
            Decision::Review => self.review += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::rows::Candidate;
    use crate::decode::{Fault, Status};
    use crate::model::testing::calibration;

    fn labelled(class: usize, confidence: f32) -> Outcome {
        Outcome::Labelled {
            best: vec![Candidate { class, confidence }],
            damage: None,
        }
    }

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
        let decide = |class, confidence| thresholding.decide(&labelled(class, confidence));
        assert_eq!(decide(0, 0.6), Some(Decision::Accept));
        assert_eq!(decide(0, 0.599), Some(Decision::Review));
        assert_eq!(decide(1, 0.7), Some(Decision::Review));
        // Nothing shows that this class reaches the precision.
        assert_eq!(decide(2, 1.0), Some(Decision::Review));
    }

    #[test]
    fn damaged_images_are_looked_at_and_failures_are_not_decided() {
        let thresholding = thresholding(None, Some(0.5));
        let mut damaged = labelled(0, 1.0);
        assert_eq!(thresholding.decide(&damaged), Some(Decision::Accept));
        if let Outcome::Labelled { damage, .. } = &mut damaged {
            *damage = Some("cut short".to_owned());
        }
        assert_eq!(thresholding.decide(&damaged), Some(Decision::Review));
        let failed = Outcome::Failed(Fault::new(Status::Corrupt, "no"));
        assert_eq!(thresholding.decide(&failed), None);
    }

    #[test]
    fn of_two_demands_both_hold() {
        let both = thresholding(Some(0.99), Some(0.7));
        assert_eq!(both.thresholds, [Some(0.7), Some(0.8), None]);
        let one = thresholding(None, Some(0.7));
        assert_eq!(one.thresholds, [Some(0.7); 3]);
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
