//! How far the model's confidence can be trusted, as measured on images it was not fitted to, and the thresholds that follow.
//!
//! What is stored are counts, not conclusions: for each class a few possible thresholds, and how many validation images each
//! would accept, rightly and wrongly. So any precision can be asked for when images are classified.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Version of [`Calibration`] that this program writes, and the only one it reads.
pub const CALIBRATION_VERSION: u32 = 1;

/// Images of all classes that count beside those of one, when its precision is estimated.
const POOLED_IMAGES: f64 = 20.0;

/// What was measured on validation images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Version of this structure; see [`CALIBRATION_VERSION`].
    pub version: u32,
    /// Images that it was measured on.
    pub images: u64,
    /// Expected calibration error of the logits' own softmax, 0 to 1.
    pub error_before: f64,
    /// The same at the model's temperature.
    pub error_after: f64,
    /// What thresholds on the confidence give among all images, whatever they are taken for.
    pub pooled: Vec<Step>,
    /// For each class, in the order of the labels, what thresholds on its confidence give among the images taken for it.
    /// Empty where no image was.
    pub classes: Vec<Vec<Step>>,
}

/// A threshold, and what it gives among some validation images, such as those that the model takes for one class.
///
/// In a list of steps, thresholds fall and both counts rise. The last step accepts all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f32, u64, u64)", into = "(f32, u64, u64)")]
pub struct Step {
    /// The lowest confidence that is accepted.
    pub threshold: f32,
    /// Images that are.
    pub accepted: u64,
    /// Those of them that are of the class.
    pub correct: u64,
}

/// The confidence from which on each class is accepted, so that the accepted labels have some precision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Thresholds {
    /// The precision that was asked for.
    pub target_precision: f64,
    /// In the order of the labels; `None` for a class that nothing shows to reach the precision: it is never accepted.
    pub classes: Vec<Option<f32>>,
}

/// What thresholds give on images like the validation images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Expectation {
    /// Share of all images that are accepted.
    pub coverage: f64,
    /// Share of the accepted images whose label is right; none where nothing is accepted.
    pub precision: Option<f64>,
}

impl From<(f32, u64, u64)> for Step {
    fn from((threshold, accepted, correct): (f32, u64, u64)) -> Self {
        Self {
            threshold,
            accepted,
            correct,
        }
    }
}

impl From<Step> for (f32, u64, u64) {
    fn from(step: Step) -> Self {
        (step.threshold, step.accepted, step.correct)
    }
}

impl Step {
    fn mistakes(&self) -> u64 {
        self.accepted - self.correct
    }
}

impl Calibration {
    /// For each class the lowest threshold that may be trusted to give `target_precision`, 0 to 1, among the images that are
    /// taken for the class; see [`Calibration::trusted_precision`]. Above it the precision may be lower for a stretch.
    pub fn thresholds(&self, target_precision: f64) -> Thresholds {
        let lowest = |steps: &Vec<Step>| {
            steps
                .iter()
                .rev()
                .find(|step| self.trusted_precision(step) >= target_precision)
                .map(|step| step.threshold)
        };
        Thresholds {
            target_precision,
            classes: self.classes.iter().map(lowest).collect(),
        }
    }

    /// The precision that a step of a class may be trusted to have on other images.
    ///
    /// The share of right answers flatters: the threshold is chosen on the images it is counted on, just above one of the
    /// mistakes, and few images without a mistake prove little. So the class's own count is joined by 20 images of all
    /// classes at the same threshold, and there one mistake more is counted than there was:
    ///
    /// `1 − (mistakes + 20 · e) / (accepted + 20)` with `e = (pooled mistakes + 1) / (pooled accepted + 1)`.
    ///
    /// With many images of a class its own count decides, with few what classes have in common. The added mistake is that of
    /// conformal risk control (Angelopoulos, Bates, Fisch, Lei, Schuster, 2022): without it a hundred images could prove 0.999.
    pub fn trusted_precision(&self, step: &Step) -> f64 {
        let (accepted, correct) = counts_at(&self.pooled, step.threshold);
        let pooled_error = (accepted - correct + 1.0) / (accepted + 1.0);
        let mistakes = step.mistakes() as f64 + POOLED_IMAGES * pooled_error;
        1.0 - mistakes / (step.accepted as f64 + POOLED_IMAGES)
    }

    /// What thresholds, one for each class, give on images like the validation images.
    pub fn expectation(&self, thresholds: &[Option<f32>]) -> Expectation {
        let (mut accepted, mut correct) = (0.0, 0.0);
        for (steps, threshold) in self.classes.iter().zip(thresholds) {
            if let Some(threshold) = threshold {
                let counts = counts_at(steps, *threshold);
                accepted += counts.0;
                correct += counts.1;
            }
        }
        Expectation {
            coverage: accepted / (self.images as f64).max(1.0),
            precision: (accepted > 0.0).then(|| correct / accepted),
        }
    }

    /// What one class's threshold gives among the images that are taken for the class.
    pub fn class_expectation(&self, class: usize, threshold: Option<f32>) -> Expectation {
        let steps = self.classes.get(class).map_or(&[][..], Vec::as_slice);
        let all = last_accepted(steps);
        let (accepted, correct) =
            threshold.map_or((0.0, 0.0), |threshold| counts_at(steps, threshold));
        Expectation {
            coverage: accepted / (all as f64).max(1.0),
            precision: (accepted > 0.0).then(|| correct / accepted),
        }
    }

    pub(crate) fn validate(&self, classes: usize) -> Result<()> {
        ensure!(
            self.version == CALIBRATION_VERSION,
            "its calibration has version {}, this program reads {CALIBRATION_VERSION}; use the version of catalog that wrote it",
            self.version
        );
        ensure!(
            self.classes.len() == classes,
            "the calibration is of {} classes, the model has {classes}",
            self.classes.len()
        );
        for error in [self.error_before, self.error_after] {
            ensure!(
                (0.0..=1.0).contains(&error),
                "the calibration error is {error}, it has to be 0 to 1"
            );
        }
        ensure!(
            are_in_order(&self.pooled),
            "the thresholds of all classes together are out of order, or their counts are impossible"
        );
        let mut images = 0_u64;
        for (class, steps) in self.classes.iter().enumerate() {
            ensure!(
                are_in_order(steps),
                "the thresholds of class {class} are out of order, or their counts are impossible"
            );
            images = images.saturating_add(last_accepted(steps));
        }
        ensure!(
            images == self.images && self.images == last_accepted(&self.pooled),
            "the calibration is of {} images, but its classes have {images}",
            self.images
        );
        Ok(())
    }
}

impl Thresholds {
    /// The same, but with no confidence below `lowest` accepted.
    pub fn not_below(&self, lowest: f32) -> Vec<Option<f32>> {
        let raised = |threshold: &Option<f32>| threshold.map(|threshold| threshold.max(lowest));
        self.classes.iter().map(raised).collect()
    }
}

/// All images of a list of steps.
fn last_accepted(steps: &[Step]) -> u64 {
    steps.last().map_or(0, |step| step.accepted)
}

fn are_in_order(steps: &[Step]) -> bool {
    steps.iter().all(|step| {
        (0.0..=1.0).contains(&step.threshold)
            && (1..1 << 53).contains(&step.accepted)
            && step.correct <= step.accepted
    }) && steps.windows(2).all(|pair| {
        pair[0].threshold > pair[1].threshold
            && pair[0].accepted < pair[1].accepted
            && pair[0].correct <= pair[1].correct
            && pair[0].mistakes() <= pair[1].mistakes()
    }) && steps.last().is_none_or(|last| last.threshold == 0.0)
}

/// How many images of a class a threshold accepts, and how many of them rightly. Between two steps, and between the first and
/// a confidence of 1, the images are taken to be spread evenly.
fn counts_at(steps: &[Step], threshold: f32) -> (f64, f64) {
    let (mut above, mut accepted, mut correct) = (1.0, 0.0, 0.0);
    for step in steps {
        let (next_accepted, next_correct) = (step.accepted as f64, step.correct as f64);
        if step.threshold <= threshold {
            let gap = f64::from(above - step.threshold);
            let share = if gap > 0.0 && threshold > step.threshold {
                (f64::from(above - threshold) / gap).max(0.0)
            } else {
                1.0
            };
            return (
                accepted + share * (next_accepted - accepted),
                correct + share * (next_correct - correct),
            );
        }
        (above, accepted, correct) = (step.threshold, next_accepted, next_correct);
    }
    (accepted, correct)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::calibration;

    #[test]
    fn thresholds_are_the_lowest_that_can_be_trusted() {
        let calibration = calibration();
        calibration.validate(3).unwrap();
        let thresholds = |target| calibration.thresholds(target).classes;
        // Class 0: 1 − 20/251/219, 1 − (1 + 20·11/601)/419 and 1 − (10 + 20·111/1001)/520.
        assert_eq!(thresholds(0.9997), [None, None, None]);
        assert_eq!(thresholds(0.9996), [Some(0.9), None, None]);
        assert_eq!(thresholds(0.9967), [Some(0.6), None, None]);
        // Class 1: at 0.8, a third of the way from 250 to 600, 1 − 20·(10/3 + 1)/(366.7 + 1)/69.
        assert_eq!(thresholds(0.9965), [Some(0.6), Some(0.8), None]);
        assert_eq!(thresholds(0.976), [Some(0.0), Some(0.8), None]);
        assert_eq!(thresholds(0.0), [Some(0.0), Some(0.0), None]);
    }

    #[test]
    fn what_thresholds_give_is_counted_and_between_steps_estimated() {
        let calibration = calibration();
        let expected = calibration.expectation(&[Some(0.6), Some(0.8), None]);
        assert_eq!(expected.coverage, 0.448);
        assert_eq!(expected.precision, Some(447.0 / 448.0));
        let nothing = calibration.expectation(&[None, None, None]);
        assert_eq!((nothing.coverage, nothing.precision), (0.0, None));
        let between = calibration.expectation(&[Some(0.75), None, None]);
        assert!((between.coverage - 0.299).abs() < 1e-6, "{between:?}");
        let above = calibration.expectation(&[Some(0.95), None, None]);
        assert!((above.coverage - 0.0995).abs() < 1e-6, "{above:?}");
        let class = calibration.class_expectation(1, Some(0.8));
        assert_eq!((class.coverage, class.precision), (0.098, Some(1.0)));
        assert_eq!(calibration.class_expectation(2, Some(0.5)).precision, None);
    }

    #[test]
    fn a_general_limit_only_raises_thresholds() {
        let thresholds = calibration().thresholds(0.98);
        assert_eq!(thresholds.not_below(0.7), [Some(0.7), Some(0.8), None]);
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        let refused = |change: fn(&mut Calibration)| {
            let mut calibration = calibration();
            change(&mut calibration);
            calibration.validate(3).unwrap_err().to_string()
        };
        assert!(refused(|it| it.version = 2).contains("version 2, this program reads 1"));
        assert!(refused(|it| it.classes.truncate(1)).contains("of 1 classes"));
        assert!(refused(|it| it.error_after = f64::NAN).contains("0 to 1"));
        assert!(refused(|it| it.images = 7).contains("of 7 images"));
        assert!(refused(|it| it.pooled.clear()).contains("of 1000 images"));
        assert!(refused(|it| it.pooled[0].correct = 251).contains("all classes together"));
        for change in [
            |it| it.classes[0][0].threshold = 0.5,
            |it| it.classes[0][0].threshold = f32::NAN,
            |it| it.classes[0][2].threshold = 0.1,
            |it| it.classes[0][0].correct = 200,
            |it| it.classes[0][1].accepted = 199,
            |it| it.classes[0][1].correct = 100,
            |it| it.classes[0][0].accepted = u64::MAX,
        ] as [fn(&mut Calibration); 7]
        {
            assert!(refused(change).contains("class 0 are out of order"));
        }
    }

    #[test]
    fn it_is_short_in_json_and_comes_back_as_it_was() {
        let text = serde_json::to_string(&calibration()).unwrap();
        assert!(
            text.contains("\"classes\":[[[0.9,199,199],[0.6,399,398],"),
            "{text}"
        );
        let back: Calibration = serde_json::from_str(&text).unwrap();
        assert_eq!(back, calibration());
    }
}
