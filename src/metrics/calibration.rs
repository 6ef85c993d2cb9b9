//! How far a model's confidence can be trusted: reliability, expected calibration error, coverage against precision, and the
//! temperature that brings confidence and accuracy together.
//!
//! A confidence is the probability of the class that the model says, 0 to 1, and it is calibrated when of the images with
//! confidence 0.8 eight in ten are right. Figures take two lists of the same length, confidences and whether the model was
//! right; where one is longer, what is too much is ignored, as is a confidence that is no number.
//!
//! Sources: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017, for the calibration error and the
//! temperature; Platt, "Probabilistic Outputs for Support Vector Machines", 1999, for targets that are never quite sure.

use serde::{Deserialize, Serialize};

/// Bins of the calibration error that is reported, as in the paper by Guo and others.
pub const RELIABILITY_BINS: usize = 15;

/// The range of temperatures that [`fit_temperature`] gives.
const TEMPERATURES: [f64; 2] = [0.05, 20.0];
/// Relative change of the temperature at which its search ends.
const TOLERANCE: f64 = 1e-9;
/// Steps of that search at most; halving alone would need fewer.
const STEPS: usize = 100;

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

/// The temperature `T` for which `softmax(logits / T)` has the lowest cross-entropy on labelled images, in 0.05..=20.
///
/// `logits` is `[N, classes]`, row-major, with one label per row. Rows with a number that is not finite, or whose label names
/// no class, do not count; without any row the temperature is 1.
///
/// The loss is taken of targets that leave `1 / (N + 2)` to all classes alike: where every image is right, no temperature is
/// low enough for targets that are sure, while a few images prove little. Below, `β = 1/T`; the loss is convex in it, and
/// the search for the zero of its slope is Newton's, held inside a bracket by halving:
///
/// `slope(β) = mean(Σⱼ pⱼ zⱼ − Σⱼ tⱼ zⱼ)`, `slope′(β) = mean(Σⱼ pⱼ zⱼ² − (Σⱼ pⱼ zⱼ)²)`, `p = softmax(β z)`.
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
    let doubt = 1.0 / (rows.len() as f64 + 2.0);
    let slope = |beta: f64| -> (f64, f64) {
        let (mut first, mut second) = (0.0, 0.0);
        for &(row, label) in &rows {
            let moments = moments(row, beta);
            let target = (1.0 - doubt) * f64::from(row[label]) + doubt * moments.plain_mean;
            first += moments.mean - target;
            second += moments.variance;
        }
        (first / rows.len() as f64, second / rows.len() as f64)
    };
    let [mut low, mut high] = [1.0 / TEMPERATURES[1], 1.0 / TEMPERATURES[0]];
    if slope(low).0 >= 0.0 {
        return TEMPERATURES[1];
    }
    if slope(high).0 <= 0.0 {
        return TEMPERATURES[0];
    }
    let mut beta = 1.0;
    for _ in 0..STEPS {
        let (first, second) = slope(beta);
        if first > 0.0 {
            high = beta;
        } else {
            low = beta;
        }
        let newton = beta - first / second;
        // Also where the step is no number, because nothing varies.
        let next = if newton > low && newton < high {
            newton
        } else {
            (low + high) / 2.0
        };
        if (next - beta).abs() <= TOLERANCE * beta {
            return 1.0 / next;
        }
        beta = next;
    }
    1.0 / beta
}

/// Of one row of logits.
struct Moments {
    /// Under `softmax(β z)`.
    mean: f64,
    /// Under `softmax(β z)`.
    variance: f64,
    /// All classes alike.
    plain_mean: f64,
}

fn moments(row: &[f32], beta: f64) -> Moments {
    let maximum = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let [mut weights, mut first, mut second, mut plain] = [0.0; 4];
    for &logit in row {
        // Relative to the maximum, so that squares of large logits do not eat up their differences.
        let distance = f64::from(logit) - maximum;
        let weight = (beta * distance).exp();
        weights += weight;
        first += weight * distance;
        second += weight * distance * distance;
        plain += distance;
    }
    let mean = first / weights;
    Moments {
        mean: mean + maximum,
        variance: second / weights - mean * mean,
        plain_mean: plain / row.len() as f64 + maximum,
    }
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
    use crate::metrics::{Scores, cross_entropy, softmax};

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
        fn no_other_temperature_is_better((logits, labels) in labelled()) {
            let doubt = 1.0 / (labels.len() as f64 + 2.0);
            let loss = |temperature: f64| -> f64 {
                let rows = logits.chunks_exact(3).zip(&labels);
                rows.map(|(row, &label)| {
                    let tempered: Vec<f32> =
                        row.iter().map(|&logit| (f64::from(logit) / temperature) as f32).collect();
                    let of = |class| cross_entropy(&tempered, Scores::Logits, class);
                    let all: f64 = (0..3).map(of).sum();
                    (1.0 - doubt) * of(label as usize) + doubt * all / 3.0
                })
                .sum::<f64>() / labels.len() as f64
            };
            let best = fit_temperature(&logits, 3, &labels);
            for factor in [0.5, 0.9, 0.99, 1.01, 1.1, 2.0] {
                let other = (best * factor).clamp(TEMPERATURES[0], TEMPERATURES[1]);
                prop_assert!(loss(best) <= loss(other) + 1e-5, "{best} against {other}");
            }
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
            let best = crate::metrics::predicted_class(&row);
            prop_assert!(tempered.iter().all(|&probability| probability <= tempered[best]));
        }
    }
}
