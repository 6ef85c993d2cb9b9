//! How much an image looks like those a model learnt from, and from which score on it does.
//!
//! The score is the energy of the tempered logits less their mean, `T · ln Σ exp((logit − mean) / T)`: high where some class gets
//! much more evidence than the others. Energy: Liu and others, "Energy-based out-of-distribution detection", 2020. The mean is
//! taken away because nothing in training fixes it: a softmax is the same wherever its logits lie, so that their common height
//! says little. Measured on photos, plain energy is worse (docs/your-catalogue.md).

use anyhow::{Result, ensure};
use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};

/// Version of [`Familiarity`] that this program writes, and the only one it reads.
pub const FAMILIARITY_VERSION: u32 = 1;

/// Shares of the validation images, from the first one on, that have at least the score which is stored for them.
const SHARES: [f64; 24] = [
    1.0, 0.999, 0.998, 0.997, 0.996, 0.995, 0.994, 0.993, 0.992, 0.991, 0.99, 0.985, 0.98, 0.97,
    0.96, 0.95, 0.925, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.0,
];

/// The scores of the validation images, in a few numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Familiarity {
    /// Version of this structure; see [`FAMILIARITY_VERSION`].
    pub version: u32,
    /// Images that it was measured on.
    pub images: u64,
    /// Shares of these images, falling from 1 to 0, with the score that so many of them have at least.
    pub quantiles: Vec<(f64, f32)>,
}

/// The score of an image from its logits: `T · ln Σ exp((logit − mean) / T)`.
pub fn familiarity(logits: ArrayView1<'_, f32>, temperature: f32) -> f32 {
    let temperature = f64::from(temperature);
    let largest = logits.fold(f32::NEG_INFINITY, |largest, &logit| largest.max(logit));
    let largest = f64::from(largest);
    let below = |&logit: &f32| f64::from(logit) - largest;
    // The largest is subtracted first, so that nothing overflows.
    let sum: f64 = logits
        .iter()
        .map(|logit| (below(logit) / temperature).exp())
        .sum();
    let mean: f64 = logits.iter().map(below).sum::<f64>() / logits.len() as f64;
    (temperature * sum.ln() - mean) as f32
}

impl Familiarity {
    /// What the scores of some images come to; none where there is no image, or a score is no number.
    pub fn of(mut scores: Vec<f32>) -> Option<Self> {
        if scores.is_empty() || scores.iter().any(|score| !score.is_finite()) {
            return None;
        }
        scores.sort_by(f32::total_cmp);
        let last = scores.len() - 1;
        let quantiles = SHARES.map(|share| {
            let place = (1.0 - share) * last as f64;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            let [low, high] = [below, above].map(|place| f64::from(scores[place.min(last)]));
            (share, (low + (place - place.floor()) * (high - low)) as f32)
        });
        Some(Self {
            version: FAMILIARITY_VERSION,
            images: scores.len() as u64,
            quantiles: quantiles.to_vec(),
        })
    }

    /// The score that this share of the validation images has at least; between two that are stored, in a straight line.
    pub fn threshold(&self, share: f64) -> f32 {
        let mut before: Option<(f64, f32)> = None;
        for &(next, score) in &self.quantiles {
            if next <= share {
                return match before {
                    Some((last, low)) if last > next => {
                        let part = (last - share) / (last - next);
                        (f64::from(low) + part * f64::from(score - low)) as f32
                    }
                    _ => score,
                };
            }
            before = Some((next, score));
        }
        before.map_or(f32::NEG_INFINITY, |(_, score)| score)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        ensure!(
            self.version == FAMILIARITY_VERSION,
            "its familiarity is of version {}, this program reads {FAMILIARITY_VERSION}",
            self.version
        );
        let ends = [self.quantiles.first(), self.quantiles.last()];
        ensure!(
            self.images > 0
                && ends.map(|end| end.map(|&(share, _)| share)) == [Some(1.0), Some(0.0)],
            "its familiarity does not reach from all validation images to none"
        );
        let is_in_order = self
            .quantiles
            .windows(2)
            .all(|pair| pair[0].0 > pair[1].0 && pair[0].1 <= pair[1].1);
        ensure!(
            is_in_order && self.quantiles.iter().all(|(_, score)| score.is_finite()),
            "the scores of its familiarity are out of order"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn the_score_is_high_where_one_class_stands_out_however_high_all_are() {
        let score =
            |logits: ndarray::Array1<f32>, temperature| familiarity(logits.view(), temperature);
        assert!((score(array![0.0, 0.0], 1.0) - 2f32.ln()).abs() < 1e-6);
        assert!((score(array![7.0, 7.0], 2.0) - 2.0 * 2f32.ln()).abs() < 1e-6);
        // ln(e² + 2) of logits 3, 1 and 1, less the mean of 2, 0 and 0.
        let by_hand = (2f32.exp() + 2.0).ln() - 2.0 / 3.0;
        assert!((score(array![3.0, 1.0, 1.0], 1.0) - by_hand).abs() < 1e-6);
        assert!(score(array![3.0, 0.0, 0.0], 1.0) > score(array![3.0, 2.0, 2.0], 1.0));
        assert!(score(array![1e38, -1e38], 1e-3).is_finite());
    }

    #[test]
    fn a_threshold_keeps_the_share_that_was_asked_for() {
        let familiarity = Familiarity::of((0..=1000).map(|score| score as f32).collect()).unwrap();
        familiarity.validate().unwrap();
        assert_eq!(familiarity.images, 1001);
        for (share, threshold) in [(1.0, 0.0), (0.99, 10.0), (0.95, 50.0), (0.0, 1000.0)] {
            assert!(
                (familiarity.threshold(share) - threshold).abs() < 1e-3,
                "{share}"
            );
        }
        // Between two that are stored.
        assert!((familiarity.threshold(0.9995) - 0.5).abs() < 1e-3);
        assert!((familiarity.threshold(0.75) - 250.0).abs() < 1e-2);
        let one = Familiarity::of(vec![2.5]).unwrap();
        assert_eq!((one.threshold(0.99), one.threshold(0.5)), (2.5, 2.5));
        assert_eq!(Familiarity::of(vec![]), None);
        assert_eq!(Familiarity::of(vec![1.0, f32::NAN]), None);
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let refused = |change: fn(&mut Familiarity)| {
            let mut familiarity = Familiarity::of(vec![1.0, 2.0, 3.0]).unwrap();
            change(&mut familiarity);
            familiarity.validate().unwrap_err().to_string()
        };
        assert!(refused(|it| it.version = 2).contains("version 2, this program reads 1"));
        assert!(refused(|it| it.images = 0).contains("does not reach"));
        assert!(refused(|it| it.quantiles.clear()).contains("does not reach"));
        assert!(refused(|it| it.quantiles[0].0 = 0.5).contains("does not reach"));
        assert!(refused(|it| it.quantiles[1].1 = f32::NAN).contains("out of order"));
        assert!(refused(|it| it.quantiles[1].1 = 9.0).contains("out of order"));
        assert!(refused(|it| it.quantiles[1].0 = 1.0).contains("out of order"));
    }
}
