//! How long a training will take: measured for a configuration that was trained before, guessed from its arithmetic for a new one.

use crate::artifacts::Optimizer;
use crate::training::options::TrainOptions;

/// A guess may be off by as much for a configuration that was never trained …
const MARGIN_OF_NEW: f64 = 1.3;
/// … and for one that was.
const MARGIN_OF_KNOWN: f64 = 1.1;
/// Seconds to build the graphs and the session, and to compare at the end.
const SET_UP: f64 = 1.0;

/// What a training costs, apart from the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Arithmetic of the network, in operations an image.
    pub flops: usize,
    /// Trained numbers.
    pub parameters: usize,
    /// Images to learn from.
    pub train_images: usize,
    /// Images to validate with.
    pub validation_images: usize,
}

impl Work {
    /// Seconds of a training of `epochs` on the machine the constants were taken from: two cores with AVX-512. Only the ratio
    /// between trainings matters; [`Pace`] holds what another machine makes of it.
    fn seconds(&self, options: &TrainOptions, epochs: usize) -> f64 {
        let flops = self.flops as f64;
        let forward = flops / 2.5e11;
        let an_image = 3.0 * forward + 15e-6;
        // Gradients, state and weights are read and written once a step.
        let a_parameter = match options.optimizer.optimizer {
            Optimizer::Sgd { .. } => 1.5e-9,
            Optimizer::AdamW { .. } => 4e-9,
        };
        let steps = self.train_images as f64 / options.batch_size as f64;
        let an_epoch = self.train_images as f64 * an_image
            + steps * self.parameters as f64 * a_parameter
            + self.validation_images as f64 * (forward + 5e-6);
        SET_UP + epochs as f64 * an_epoch
    }
}

/// How this machine compares with the constants, learnt from trainings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pace {
    /// Measured seconds over guessed ones.
    ratios: Vec<f64>,
}

impl Pace {
    /// Learns from a training that took `seconds`.
    pub fn learn(&mut self, work: &Work, options: &TrainOptions, epochs: usize, seconds: f64) {
        self.ratios.push(seconds / work.seconds(options, epochs));
    }

    /// Seconds that a training of a configuration that was never trained will hardly exceed; `None` before anything was.
    pub fn guess(&self, work: &Work, options: &TrainOptions, epochs: usize) -> Option<f64> {
        let mut sorted = self.ratios.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2)?;
        Some(median * work.seconds(options, epochs) * MARGIN_OF_NEW)
    }
}

/// Seconds that a training will hardly exceed that has `more_epochs` than one of the same configuration that took `seconds`,
/// `seconds_per_epoch` for each of its epochs.
pub fn longer(seconds: f64, seconds_per_epoch: f64, more_epochs: f64) -> f64 {
    (seconds + more_epochs * seconds_per_epoch).max(0.0) * MARGIN_OF_KNOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Work = Work {
        flops: 8_000_000,
        parameters: 400_000,
        train_images: 48_000,
        validation_images: 12_000,
    };
    const LARGE: Work = Work {
        flops: 32_000_000,
        ..SMALL
    };

    #[test]
    fn a_guess_needs_a_measurement_and_grows_with_work_and_epochs() {
        let options = TrainOptions::default();
        let mut pace = Pace::default();
        assert_eq!(pace.guess(&SMALL, &options, 1), None);
        pace.learn(&SMALL, &options, 1, 10.0);
        let seconds = |work, epochs| pace.guess(work, &options, epochs).unwrap();
        assert!((seconds(&SMALL, 1) - 13.0).abs() < 1e-9);
        assert!(seconds(&LARGE, 1) > 2.5 * seconds(&SMALL, 1));
        assert!(seconds(&SMALL, 9) > 7.0 * seconds(&SMALL, 1));
    }

    #[test]
    fn one_disturbed_measurement_changes_little() {
        let options = TrainOptions::default();
        let mut pace = Pace::default();
        for seconds in [10.0, 11.0, 300.0, 10.5, 9.5] {
            pace.learn(&SMALL, &options, 1, seconds);
        }
        assert!(pace.guess(&SMALL, &options, 1).unwrap() < 15.0);
    }

    #[test]
    fn a_known_configuration_is_taken_at_its_word() {
        // One second of set-up and nine epochs of six.
        assert!((longer(7.0, 6.0, 8.0) - 60.5).abs() < 1e-9);
    }
}
