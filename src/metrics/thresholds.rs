//! From the validation images to the counts that thresholds are chosen by.
//!
//! [`calibration`] measures; how a threshold follows from the counts is
//! [`Calibration::thresholds`](pipeline::model::Calibration::thresholds), which classification runs too.

use pipeline::model::{CALIBRATION_VERSION, Calibration, Step};
use serde::Serialize;

use super::calibration::{RELIABILITY_BINS, expected_calibration_error, reliability};
use super::{predicted_class, softmax};

/// Steps that are kept of one class, at most.
const MOST_STEPS: usize = 64;
/// Steps with the fewest mistakes, which are all kept: high precision is decided there.
const FIRST_STEPS: usize = 16;

/// What a model said about some labelled images, and how sure it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// The class said.
    pub predicted: Vec<usize>,
    /// Its probability.
    pub confidences: Vec<f32>,
    /// Whether it is the true one.
    pub correct: Vec<bool>,
}

impl Answers {
    /// Of logits `[N, classes]`, row-major, and a label for each row, at a temperature.
    pub fn of_logits(logits: &[f32], classes: usize, labels: &[u32], temperature: f32) -> Self {
        let mut answers = Self::default();
        for (row, &label) in logits.chunks_exact(classes.max(1)).zip(labels) {
            let tempered: Vec<f32> = row.iter().map(|logit| logit / temperature).collect();
            let probabilities = softmax(&tempered);
            let class = predicted_class(&probabilities);
            answers.add(class, probabilities[class], class == label as usize);
        }
        answers
    }

    /// Adds an image.
    pub fn add(&mut self, predicted: usize, confidence: f32, is_correct: bool) {
        self.predicted.push(predicted);
        self.confidences.push(confidence);
        self.correct.push(is_correct);
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.predicted.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.predicted.is_empty()
    }

    /// Expected calibration error in [`RELIABILITY_BINS`] bins.
    pub fn calibration_error(&self) -> f64 {
        let bins = reliability(&self.confidences, &self.correct, RELIABILITY_BINS);
        expected_calibration_error(&bins)
    }
}

/// What a model file says about its confidences: `logits` `[N, classes]` of validation images with their labels, and the
/// temperature that the model divides them by.
pub fn calibration(
    logits: &[f32],
    classes: usize,
    labels: &[u32],
    temperature: f32,
) -> Calibration {
    let before = Answers::of_logits(logits, classes, labels, 1.0);
    let after = Answers::of_logits(logits, classes, labels, temperature);
    let mut pooled = Vec::with_capacity(after.len());
    let mut by_class = vec![Vec::new(); classes];
    for ((&class, &confidence), &is_correct) in after
        .predicted
        .iter()
        .zip(&after.confidences)
        .zip(&after.correct)
    {
        pooled.push((confidence, is_correct));
        if let Some(images) = by_class.get_mut(class) {
            images.push((confidence, is_correct));
        }
    }
    Calibration {
        version: CALIBRATION_VERSION,
        images: after.len() as u64,
        error_before: before.calibration_error(),
        error_after: after.calibration_error(),
        pooled: steps(pooled),
        classes: by_class.into_iter().map(steps).collect(),
    }
}

/// What a threshold did to the images that are taken for a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// Images that are taken for the class.
    pub predicted: u64,
    /// Those of them that are accepted.
    pub accepted: u64,
    /// Those of the accepted ones that are of the class.
    pub correct: u64,
}

impl Accepted {
    /// Share of the images that are accepted; 0 where there is none.
    pub fn coverage(&self) -> f64 {
        self.accepted as f64 / self.predicted.max(1) as f64
    }

    /// Share of the accepted images that are right; none where nothing is accepted.
    pub fn precision(&self) -> Option<f64> {
        (self.accepted > 0).then(|| self.correct as f64 / self.accepted as f64)
    }
}

/// What thresholds, one for each class, do to some images; `None` accepts nothing.
pub fn accepted(answers: &Answers, thresholds: &[Option<f32>]) -> Vec<Accepted> {
    let mut counts = vec![Accepted::default(); thresholds.len()];
    for ((&class, &confidence), &is_correct) in answers
        .predicted
        .iter()
        .zip(&answers.confidences)
        .zip(&answers.correct)
    {
        if let (Some(count), Some(threshold)) = (counts.get_mut(class), thresholds.get(class)) {
            count.predicted += 1;
            if threshold.is_some_and(|lowest| confidence >= lowest) {
                count.accepted += 1;
                count.correct += u64::from(is_correct);
            }
        }
    }
    counts
}

/// The thresholds worth choosing from, highest first: for each number of mistakes the lowest one that lets in no more. Of very
/// many, those with few mistakes are kept, and ever fewer of the rest.
fn steps(mut images: Vec<(f32, bool)>) -> Vec<Step> {
    images.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut steps: Vec<Step> = Vec::new();
    let mut step = Step {
        threshold: 0.0,
        accepted: 0,
        correct: 0,
    };
    for (place, &(confidence, is_correct)) in images.iter().enumerate() {
        step.threshold = confidence;
        step.accepted += 1;
        step.correct += u64::from(is_correct);
        // Images of the same confidence are accepted together.
        if images
            .get(place + 1)
            .is_some_and(|next| next.0 == confidence)
        {
            continue;
        }
        match steps.last_mut() {
            Some(last) if last.accepted - last.correct == step.accepted - step.correct => {
                *last = step;
            }
            _ => steps.push(step),
        }
    }
    // The last one lets in everything, and so what is less sure than any validation image.
    if let Some(last) = steps.last_mut() {
        last.threshold = 0.0;
    }
    let surplus = steps.len().saturating_sub(MOST_STEPS);
    if surplus == 0 {
        return steps;
    }
    let kept = (0..MOST_STEPS).map(|place| {
        let further = place.saturating_sub(FIRST_STEPS) as f64;
        let share = further / (MOST_STEPS - 1 - FIRST_STEPS) as f64;
        place + (surplus as f64 * share * share).round() as usize
    });
    kept.filter_map(|place| steps.get(place).copied()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng as Random;

    use super::*;

    fn figures(steps: &[Step]) -> Vec<(f32, u64, u64)> {
        steps.iter().map(|&step| step.into()).collect()
    }

    #[test]
    fn a_step_ends_above_each_mistake() {
        let images = [0.9, 0.8, 0.7, 0.6, 0.6, 0.5, 0.4]
            .into_iter()
            .zip([true, true, false, true, true, true, false]);
        assert_eq!(
            figures(&steps(images.collect())),
            [(0.8, 2, 2), (0.5, 6, 5), (0.0, 7, 5)]
        );
        assert!(steps(Vec::new()).is_empty());
        // The surest image is a mistake: nothing is accepted without one.
        assert_eq!(
            figures(&steps(vec![(0.9, false), (0.8, true)])),
            [(0.0, 2, 1)]
        );
        assert_eq!(
            figures(&steps(vec![(1.0, false), (1.0, true)])),
            [(0.0, 2, 1)]
        );
    }

    #[test]
    fn a_calibration_says_what_the_temperature_did() {
        // Right three times in four, but sure of it: 0.98 instead of 0.75.
        let labels: Vec<u32> = (0..400).map(|image| u32::from(image % 4 == 0)).collect();
        let logits = [4.0, 0.0].repeat(400);
        let temperature = super::super::calibration::fit_temperature(&logits, 2, &labels) as f32;
        let calibration = calibration(&logits, 2, &labels, temperature);
        assert!(
            (calibration.error_before - 0.232).abs() < 1e-3,
            "{calibration:?}"
        );
        assert!(calibration.error_after < 0.01, "{calibration:?}");
        assert_eq!(figures(&calibration.classes[0]), [(0.0, 400, 300)]);
        assert!(calibration.classes[1].is_empty());
    }

    /// Confidence and outcome of images of a model that knows how sure it may be, but for one class of ten.
    fn images(random: &mut Random, count: usize) -> Vec<(usize, f32, bool)> {
        (0..count)
            .map(|_| {
                let class = random.random_range(0..10);
                let doubt: f64 = random.random_range(0.0..1.0_f64).powi(8);
                let error = if class == 0 { doubt.powf(0.7) } else { doubt };
                let is_correct = random.random_range(0.0..1.0) >= error;
                (class, 1.0 - doubt as f32, is_correct)
            })
            .collect()
    }

    #[test]
    fn thresholds_hold_on_other_images() {
        let mut random = Random::seed_from_u64(5);
        for count in [1000, 10_000] {
            let (mut accepted, mut right, mut seen) = (0, 0, 0);
            for _ in 0..20 {
                let mut by_class = vec![Vec::new(); 10];
                let measured = images(&mut random, count);
                for &(class, confidence, is_correct) in &measured {
                    by_class[class].push((confidence, is_correct));
                }
                let pooled = measured
                    .iter()
                    .map(|&(_, confidence, right)| (confidence, right));
                let calibration = Calibration {
                    version: CALIBRATION_VERSION,
                    images: count as u64,
                    error_before: 0.0,
                    error_after: 0.0,
                    pooled: steps(pooled.collect()),
                    classes: by_class.into_iter().map(steps).collect(),
                };
                let thresholds = calibration.thresholds(0.98).classes;
                for (class, confidence, is_correct) in images(&mut random, 5000) {
                    seen += 1;
                    if thresholds[class].is_some_and(|lowest| confidence >= lowest) {
                        accepted += 1;
                        right += i32::from(is_correct);
                    }
                }
            }
            let precision = f64::from(right) / f64::from(accepted);
            let coverage = f64::from(accepted) / f64::from(seen);
            assert!(precision >= 0.975, "{precision} from {count} images");
            assert!(coverage >= 0.5, "{coverage} from {count} images");
        }
    }

    proptest! {
        #[test]
        fn steps_are_few_and_count_what_they_accept(
            images in prop::collection::vec((0_u16..500, any::<bool>()), 1..400),
        ) {
            let images: Vec<(f32, bool)> =
                images.into_iter().map(|(place, right)| (f32::from(place) / 500.0, right)).collect();
            let steps = steps(images.clone());
            prop_assert!(steps.len() <= MOST_STEPS);
            for step in &steps {
                let accepted = || images.iter().filter(|image| image.0 >= step.threshold);
                prop_assert_eq!(accepted().count() as u64, step.accepted);
                prop_assert_eq!(accepted().filter(|image| image.1).count() as u64, step.correct);
            }
            for pair in steps.windows(2) {
                prop_assert!(pair[0].threshold > pair[1].threshold && pair[0].accepted < pair[1].accepted);
                prop_assert!(pair[0].accepted - pair[0].correct < pair[1].accepted - pair[1].correct);
            }
            prop_assert_eq!(steps.last().unwrap().accepted, images.len() as u64);
        }
    }
}
