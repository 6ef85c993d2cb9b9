//! A moving average of the weights over the steps, which is judged, kept and exported in place of the weights themselves.
//!
//! Averages of weights along the path of an optimizer generalise as well as a lower learning rate at its end (Polyak & Juditsky,
//! "Acceleration of Stochastic Approximation by Averaging", 1992; as an exponential average: Tarvainen & Valpola, 2017).

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Steps from one sample of the weights to the next: neighbours differ too little to be worth a copy.
const EVERY: u64 = 8;

/// Over how long weights are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AveragingOptions {
    /// Epochs in which what an epoch has added to the average falls to 1/e.
    pub epochs: f32,
}

impl AveragingOptions {
    /// Checks what the type cannot.
    ///
    /// # Errors
    /// Names the option and its range.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            self.epochs.is_finite() && self.epochs > 0.0,
            "weights are averaged over more than 0 epochs, not {}",
            self.epochs
        );
        Ok(())
    }

    /// Whether the weights after so many steps are a sample.
    pub fn is_due(steps_done: u64) -> bool {
        steps_done.is_multiple_of(EVERY)
    }

    /// The share of the average that stays when the sample after `steps_done` steps is added. The first samples count the same.
    fn decay(&self, steps_done: u64, steps_per_epoch: usize) -> f32 {
        let constant = f64::from(self.epochs) * steps_per_epoch as f64 / EVERY as f64;
        let before = (steps_done / EVERY).saturating_sub(1) as f64;
        f64::min((-1.0 / constant).exp(), before / (before + 1.0)) as f32
    }

    /// Adds the sample after `steps_done` steps; there is no average before the first.
    pub fn add(
        &self,
        average: &mut Option<Vec<Vec<f32>>>,
        sample: Vec<Vec<f32>>,
        steps_done: u64,
        steps_per_epoch: usize,
    ) {
        let Some(average) = average else {
            *average = Some(sample);
            return;
        };
        let rest = 1.0 - self.decay(steps_done, steps_per_epoch);
        let values = average.iter_mut().flatten();
        for (value, new) in values.zip(sample.iter().flatten()) {
            *value += rest * (new - *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn averaged(options: AveragingOptions, samples: &[f32]) -> f32 {
        let mut average = None;
        for (steps, &sample) in (1..).map(|number| number * EVERY).zip(samples) {
            assert!(AveragingOptions::is_due(steps) && !AveragingOptions::is_due(steps + 1));
            options.add(&mut average, vec![vec![], vec![sample]], steps, 10);
        }
        average.unwrap()[1][0]
    }

    #[test]
    fn the_first_samples_count_the_same_and_old_ones_fade() {
        let long = AveragingOptions { epochs: 100.0 };
        assert_eq!(averaged(long, &[3.0]), 3.0);
        assert!((averaged(long, &[3.0, 1.0, 2.0, 6.0]) - 3.0).abs() < 1e-6);
        // 8 epochs of 10 steps are 10 samples.
        let short = AveragingOptions { epochs: 8.0 };
        let mut samples = [0.0; 200];
        samples[150..].fill(1.0);
        let expected = 1.0 - (-50.0_f32 / 10.0).exp();
        assert!((averaged(short, &samples) - expected).abs() < 1e-4);
    }

    #[test]
    fn a_length_that_is_none_is_refused() {
        for epochs in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(AveragingOptions { epochs }.validate().is_err());
        }
    }
}
