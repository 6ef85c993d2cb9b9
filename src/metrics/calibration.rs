//! How far a model's confidence can be trusted: reliability, expected calibration error, coverage against precision, and the
//! temperature that brings confidence and accuracy together.
//!
//! A confidence is the probability of the class that the model says, 0 to 1, and it is calibrated when of the images with
//! confidence 0.8 eight in ten are right. Figures take two lists of the same length, confidences and whether the model was
//! right; where one is longer, what is too much is ignored, as is a confidence that is no number.
//!
//! Sources: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017, for the calibration error and
//! temperature scaling; Clarté, Loureiro, Krzakala, Zdeborová, "Expectation consistency for calibration of neural networks",
//! 2023, for the choice of the temperature.

use serde::{Deserialize, Serialize};

use super::predicted_class;

/// Bins of the calibration error that is reported, as in the paper by Guo and others.
pub const RELIABILITY_BINS: usize = 15;

/// The range of temperatures that [`fit_temperature`] gives.
const TEMPERATURES: [f64; 2] = [0.05, 20.0];
/// Relative width of the range at which the search for it ends.
const TOLERANCE: f64 = 1e-7;

/// Images whose confidence lies in one range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Confidences are above this; in the first bin they may equal it.
    pub lower: f64,
    /// Confidences are at most this.
    pub upper: f64,
    /// Number of images.
    pub count: u64,
    /// Mean of their confidences; 0 where there is no image.
    pub mean_confidence: f64,
    /// Share of them that are right; 0 where there is no image.
    pub accuracy: f64,
}

/// What accepting only the images from some confidence on would give.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoveragePoint {
    /// The lowest confidence that is accepted.
    pub threshold: f32,
    /// Share of all images that are accepted.
    pub coverage: f64,
    /// Share of the accepted images that are right.
    pub precision: f64,
}

/// Sorts images into `bins` ranges of confidence of the same width; empty for no bins.
pub fn reliability(confidences: &[f32], correct: &[bool], bins: usize) -> Vec<ReliabilityBin> {
    let edge = |place: usize| place as f64 / bins as f64;
    let mut sorted: Vec<ReliabilityBin> = (0..bins)
        .map(|bin| ReliabilityBin {
            lower: edge(bin),
            upper: edge(bin + 1),
            count: 0,
            mean_confidence: 0.0,
            accuracy: 0.0,
        })
        .collect();
    for (confidence, is_correct) in answers(confidences, correct) {
        let confidence = f64::from(confidence);
        // The cast takes what is below the first bin into it.
        let place = ((confidence * bins as f64).ceil() as usize)
            .saturating_sub(1)
            .min(bins.saturating_sub(1));
        if let Some(bin) = sorted.get_mut(place) {
            bin.count += 1;
            bin.mean_confidence += confidence;
            bin.accuracy += f64::from(u8::from(is_correct));
        }
    }
    for bin in sorted.iter_mut().filter(|bin| bin.count > 0) {
        bin.mean_confidence /= bin.count as f64;
        bin.accuracy /= bin.count as f64;
    }
    sorted
}

/// `Σ_b count_b / n · |accuracy_b − mean confidence_b|`; 0 where there is no image.
pub fn expected_calibration_error(bins: &[ReliabilityBin]) -> f64 {
    let images: u64 = bins.iter().map(|bin| bin.count).sum();
    let gaps: f64 = bins
        .iter()
        .map(|bin| bin.count as f64 * (bin.accuracy - bin.mean_confidence).abs())
        .sum();
    match images {
        0 => 0.0,
        images => gaps / images as f64,
    }
}

/// What each possible threshold gives: one point per confidence that occurs, lowest first, so coverage falls from 1.
pub fn coverage_precision(confidences: &[f32], correct: &[bool]) -> Vec<CoveragePoint> {
    let mut images: Vec<(f32, bool)> = answers(confidences, correct).collect();
    images.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut points: Vec<CoveragePoint> = Vec::new();
    let mut right = 0_u64;
    for (place, &(threshold, is_correct)) in images.iter().enumerate() {
        right += u64::from(is_correct);
        let accepted = place + 1;
        let point = CoveragePoint {
            threshold,
            coverage: accepted as f64 / images.len() as f64,
            precision: right as f64 / accepted as f64,
        };
        match points.last_mut() {
            Some(last) if last.threshold == threshold => *last = point,
            _ => points.push(point),
        }
    }
    points.reverse();
    points
}

/// The temperature `T` at which the mean confidence of `softmax(logits / T)` is the accuracy, in 0.05..=20.
///
/// `logits` is `[N, classes]`, row-major, with one label per row. Rows with a number that is not finite, or whose label names
/// no class, do not count; without any row the temperature is 1.
///
/// The usual choice, the temperature of the lowest cross-entropy, leaves networks that learnt from smoothed labels too sure:
/// on 12,000 validation images of Fashion-MNIST by a point at most, but always in the same direction. Confidence and accuracy
/// are what people compare, so they are what is made to agree. The accuracy is taken as `(right + 1) / (N + 2)`: a few images
/// that are all right prove little. The mean confidence falls with the temperature, so halving finds the place.
pub fn fit_temperature(logits: &[f32], classes: usize, labels: &[u32]) -> f64 {
    let rows: Vec<(&[f32], usize)> = logits
        .chunks_exact(classes.max(1))
        .zip(labels)
        .map(|(row, &label)| (row, label as usize))
        .filter(|(row, label)| *label < row.len() && row.iter().all(|logit| logit.is_finite()))
        .collect();
    if rows.is_empty() {
        return 1.0;
    }
    let right = rows
        .iter()
        .filter(|(row, label)| predicted_class(row) == *label)
        .count();
    let accuracy = (right as f64 + 1.0) / (rows.len() as f64 + 2.0);
    let is_too_sure = |temperature: f64| {
        let sum: f64 = rows
            .iter()
            .map(|(row, _)| confidence(row, temperature))
            .sum();
        sum / rows.len() as f64 > accuracy
    };
    let [mut low, mut high] = TEMPERATURES;
    if !is_too_sure(low) {
        return low;
    }
    if is_too_sure(high) {
        return high;
    }
    while high / low > 1.0 + TOLERANCE {
        // Halfway in logarithms.
        let middle = (low * high).sqrt();
        if is_too_sure(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The largest probability of a row of logits: `1 / Σⱼ exp((zⱼ − max z) / T)`.
fn confidence(row: &[f32], temperature: f64) -> f64 {
    let maximum = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = row
        .iter()
        .map(|&logit| ((f64::from(logit) - maximum) / temperature).exp())
        .sum();
    1.0 / sum
}

fn answers<'a>(
    confidences: &'a [f32],
    correct: &'a [bool],
) -> impl Iterator<Item = (f32, bool)> + 'a {
    confidences
        .iter()
        .copied()
        .zip(correct.iter().copied())
        .filter(|(confidence, _)| confidence.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop, prop_assert, proptest};

    use super::*;
    use crate::metrics::softmax;

    #[test]
    fn reliability_and_error_by_hand() {
        let confidences = [0.0, 0.25, 0.5, 0.5, 0.75, 1.0];
        let correct = [false, true, false, true, true, true];
        let bins = reliability(&confidences, &correct, 2);
        assert_eq!(
            bins,
            [
                ReliabilityBin {
                    lower: 0.0,
                    upper: 0.5,
                    count: 4,
                    mean_confidence: 0.3125,
                    accuracy: 0.5
                },
                ReliabilityBin {
                    lower: 0.5,
                    upper: 1.0,
                    count: 2,
                    mean_confidence: 0.875,
                    accuracy: 1.0
                },
            ]
        );
        let error = expected_calibration_error(&bins);
        assert!(
            (error - (4.0 * 0.1875 + 2.0 * 0.125) / 6.0).abs() < 1e-12,
            "{error}"
        );
    }

    #[test]
    fn nothing_has_no_error_and_what_is_no_number_does_not_count() {
        assert!(reliability(&[0.5], &[true], 0).is_empty());
        assert_eq!(expected_calibration_error(&reliability(&[], &[], 15)), 0.0);
        let bins = reliability(&[f32::NAN, 0.7, 2.0, -1.0], &[true; 3], 15);
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), 2);
        assert!(coverage_precision(&[f32::NAN], &[true]).is_empty());
    }

    #[test]
    fn coverage_by_hand_and_equal_confidences_stand_or_fall_together() {
        let points = coverage_precision(&[0.5, 0.9, 0.7, 0.7], &[false, true, false, true]);
        let point = |threshold, coverage, precision| CoveragePoint {
            threshold,
            coverage,
            precision,
        };
        assert_eq!(
            points,
            [
                point(0.5, 1.0, 0.5),
                point(0.7, 0.75, 2.0 / 3.0),
                point(0.9, 0.25, 1.0)
            ]
        );
    }

    #[test]
    fn the_temperature_undoes_a_factor_on_calibrated_logits() {
        // Two classes of which the first has probability 0.8 for eight images in ten: calibrated as it is.
        let gap = 4f32.ln();
        let labels: Vec<u32> = (0..10_000)
            .map(|image| u32::from(image % 10 >= 8))
            .collect();
        for factor in [0.25, 1.0, 3.0] {
            let logits: Vec<f32> = labels.iter().flat_map(|_| [gap * factor, 0.0]).collect();
            let temperature = fit_temperature(&logits, 2, &labels);
            assert!(
                (temperature / f64::from(factor) - 1.0).abs() < 1e-3,
                "{temperature} for a factor of {factor}"
            );
        }
    }

    #[test]
    fn a_few_images_that_are_all_right_prove_little() {
        let all_right =
            |images: usize| fit_temperature(&[2.0, 0.0].repeat(images), 2, &vec![0; images]);
        let (few, many) = (all_right(5), all_right(5000));
        assert!(many < few && few < 1.5, "{few} and {many}");
        assert!(many >= TEMPERATURES[0]);
    }

    #[test]
    fn what_says_nothing_gives_a_temperature_within_bounds() {
        assert_eq!(fit_temperature(&[], 0, &[]), 1.0);
        assert_eq!(fit_temperature(&[f32::NAN, 1.0], 2, &[0]), 1.0);
        assert_eq!(fit_temperature(&[1.0, 0.0], 2, &[2]), 1.0);
        for logits in [[1.0, 1.0], [-1e30, 1e30], [1e-30, 0.0]] {
            for label in [0, 1] {
                let temperature = fit_temperature(&logits, 2, &[label]);
                assert!(
                    (TEMPERATURES[0]..=TEMPERATURES[1]).contains(&temperature),
                    "{temperature}"
                );
            }
        }
    }

    /// Rows of three logits with their labels.
    fn labelled() -> impl Strategy<Value = (Vec<f32>, Vec<u32>)> {
        prop::collection::vec((prop::array::uniform3(-8f32..8.0), 0..3_u32), 1..60).prop_map(
            |rows| {
                let logits = rows.iter().flat_map(|(row, _)| *row).collect();
                (logits, rows.iter().map(|&(_, label)| label).collect())
            },
        )
    }

    proptest! {
        #[test]
        fn confidence_agrees_with_accuracy_as_far_as_it_can((logits, labels) in labelled()) {
            let temperature = fit_temperature(&logits, 3, &labels);
            let rows = || logits.chunks_exact(3).zip(&labels);
            let right = rows().filter(|(row, label)| predicted_class(row) == **label as usize).count();
            let accuracy = (right as f64 + 1.0) / (labels.len() as f64 + 2.0);
            let confidences = rows().map(|(row, _)| {
                let tempered: Vec<f32> =
                    row.iter().map(|&logit| (f64::from(logit) / temperature) as f32).collect();
                f64::from(softmax(&tempered).into_iter().fold(0.0, f32::max))
            });
            let gap = confidences.sum::<f64>() / labels.len() as f64 - accuracy;
            prop_assert!(
                gap.abs() < 1e-4
                    || (temperature == TEMPERATURES[0] && gap < 0.0)
                    || (temperature == TEMPERATURES[1] && gap > 0.0),
                "a gap of {gap} at {temperature}"
            );
        }

        #[test]
        fn every_image_is_in_one_bin_and_the_error_is_a_share(
            images in prop::collection::vec((0f32..=1.0, any::<bool>()), 0..80),
            bins in 1..20_usize,
        ) {
            let (confidences, correct): (Vec<f32>, Vec<bool>) = images.into_iter().unzip();
            let sorted = reliability(&confidences, &correct, bins);
            prop_assert!(sorted.iter().map(|bin| bin.count).sum::<u64>() == confidences.len() as u64);
            for bin in sorted.iter().filter(|bin| bin.count > 0) {
                prop_assert!(bin.lower - 1e-6 <= bin.mean_confidence && bin.mean_confidence <= bin.upper + 1e-6);
            }
            prop_assert!((0.0..=1.0).contains(&expected_calibration_error(&sorted)));
        }

        #[test]
        fn coverage_falls_as_the_threshold_rises(
            images in prop::collection::vec((0u8..20, any::<bool>()), 1..80),
        ) {
            let (confidences, correct): (Vec<f32>, Vec<bool>) =
                images.into_iter().map(|(tenths, right)| (f32::from(tenths) / 20.0, right)).unzip();
            let points = coverage_precision(&confidences, &correct);
            prop_assert!(points[0].coverage == 1.0);
            for pair in points.windows(2) {
                prop_assert!(pair[0].threshold < pair[1].threshold && pair[0].coverage > pair[1].coverage);
            }
            for point in &points {
                let accepted = confidences.iter().filter(|&&confidence| confidence >= point.threshold).count();
                prop_assert!((point.coverage * confidences.len() as f64 - accepted as f64).abs() < 1e-9);
            }
        }

        #[test]
        fn a_temperature_keeps_the_order_of_classes(row in prop::array::uniform5(-9f32..9.0), temperature in 0.05f32..20.0) {
            let tempered = softmax(&row.map(|logit| logit / temperature));
            let best = predicted_class(&row);
            prop_assert!(tempered.iter().all(|&probability| probability <= tempered[best]));
        }
    }
}
