//! The learning rate of every step of a run, as a pure function of the step.

use std::f64::consts::PI;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// How the learning rate goes over a run.
///
/// A fraction of the run is rounded down to whole steps where it is a warm-up of [`Schedule::Cosine`] or [`Schedule::Constant`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Up along a half cosine to the peak, down along another to almost nothing: Smith & Topin, "Super-Convergence" (2018),
    /// in the form of PyTorch's `OneCycleLR` with `anneal_strategy="cos"`, `three_phase=False`.
    ///
    /// With `s` the step from 0, `T` the number of steps, `a = warmup_fraction · T − 1`, `b = T − 1` and
    /// `anneal(from, to, x) = to + (from − to) / 2 · (1 + cos πx)`:
    /// `s ≤ a`: `anneal(initial, peak, s / a)`; otherwise `anneal(peak, final, (s − a) / (b − a))`,
    /// where `initial = peak / initial_divisor` and `final = initial / final_divisor`.
    /// Where the warm-up has no room for even one step (`a ≤ 0`) the run starts at the peak.
    OneCycle {
        /// Highest learning rate.
        peak: f32,
        /// Fraction of the steps that lead up to the peak; 0 to 1.
        warmup_fraction: f32,
        /// The run starts at `peak / initial_divisor`.
        initial_divisor: f32,
        /// The run ends at `peak / initial_divisor / final_divisor`.
        final_divisor: f32,
    },
    /// Linear warm-up, then down along a half cosine: Loshchilov & Hutter, "SGDR" (2017), equation 5, without restarts.
    ///
    /// With `w` warm-up steps: `s < w`: `peak · (s + 1) / w`; otherwise `final + (peak − final) / 2 · (1 + cos(π (s − w) / (T − w)))`
    /// with `final = peak · final_fraction`. `final` would be reached at step `T`, so that the last step, `T − 1`, still learns.
    Cosine {
        /// Highest learning rate.
        peak: f32,
        /// Fraction of the steps that lead up to the peak; 0 to 1.
        warmup_fraction: f32,
        /// The learning rate that is approached, as a fraction of the peak; 0 to 1.
        final_fraction: f32,
    },
    /// Linear warm-up as in [`Schedule::Cosine`], then always the peak.
    Constant {
        /// The learning rate.
        peak: f32,
        /// Fraction of the steps that lead up to the peak; 0 to 1.
        warmup_fraction: f32,
    },
}

impl Schedule {
    /// One cycle with PyTorch's defaults: warm-up over 30 % of the steps from a 25th of the peak, down to a 10,000th of that.
    pub fn one_cycle(peak: f32) -> Self {
        Self::OneCycle {
            peak,
            warmup_fraction: 0.3,
            initial_divisor: 25.0,
            final_divisor: 1e4,
        }
    }

    /// Cosine down to 0, with warm-up over 5 % of the steps.
    pub fn cosine(peak: f32) -> Self {
        Self::Cosine {
            peak,
            warmup_fraction: 0.05,
            final_fraction: 0.0,
        }
    }

    /// Always the same learning rate, without warm-up.
    pub fn constant(peak: f32) -> Self {
        Self::Constant {
            peak,
            warmup_fraction: 0.0,
        }
    }

    /// The highest learning rate of the run.
    pub fn peak(&self) -> f32 {
        match *self {
            Self::OneCycle { peak, .. }
            | Self::Cosine { peak, .. }
            | Self::Constant { peak, .. } => peak,
        }
    }

    /// Learning rate of step `step`, counted from 0, of a run of `total_steps`.
    ///
    /// Steps past the end have the learning rate of the last one; a run of a single step is taken at the peak.
    pub fn learning_rate(&self, step: usize, total_steps: usize) -> f32 {
        let last = total_steps.saturating_sub(1);
        let step = step.min(last) as f64;
        let (total, last) = (total_steps as f64, last as f64);
        let rate = match *self {
            Self::OneCycle {
                peak,
                warmup_fraction,
                initial_divisor,
                final_divisor,
            } => {
                let peak = f64::from(peak);
                let initial = peak / f64::from(initial_divisor);
                let lowest = initial / f64::from(final_divisor);
                let top = (fraction(warmup_fraction) * total - 1.0).max(0.0);
                if step <= top && top > 0.0 {
                    anneal(initial, peak, step / top)
                } else if last > top {
                    anneal(peak, lowest, (step - top) / (last - top))
                } else {
                    peak
                }
            }
            Self::Cosine {
                peak,
                warmup_fraction,
                final_fraction,
            } => {
                let peak = f64::from(peak);
                let warmup = (fraction(warmup_fraction) * total).floor();
                if step < warmup {
                    peak * (step + 1.0) / warmup
                } else {
                    anneal(
                        peak,
                        peak * f64::from(final_fraction),
                        (step - warmup) / (total - warmup).max(1.0),
                    )
                }
            }
            Self::Constant {
                peak,
                warmup_fraction,
            } => {
                let warmup = (fraction(warmup_fraction) * total).floor();
                if step < warmup {
                    f64::from(peak) * (step + 1.0) / warmup
                } else {
                    f64::from(peak)
                }
            }
        };
        rate as f32
    }

    /// Checks that every number is in its range.
    ///
    /// # Errors
    /// Names the first number that is not, and its range.
    pub fn validate(&self) -> Result<()> {
        let peak = self.peak();
        ensure!(
            peak.is_finite() && peak > 0.0,
            "the learning rate is {peak}, expected a number above 0"
        );
        let warmup = match *self {
            Self::OneCycle {
                warmup_fraction,
                initial_divisor,
                final_divisor,
                ..
            } => {
                for (name, divisor) in [("initial", initial_divisor), ("final", final_divisor)] {
                    ensure!(
                        divisor.is_finite() && divisor >= 1.0,
                        "the {name} divisor of the learning rate is {divisor}, expected at least 1"
                    );
                }
                warmup_fraction
            }
            Self::Cosine {
                warmup_fraction,
                final_fraction,
                ..
            } => {
                ensure!(
                    (0.0..=1.0).contains(&final_fraction),
                    "the final fraction of the learning rate is {final_fraction}, expected 0 to 1"
                );
                warmup_fraction
            }
            Self::Constant {
                warmup_fraction, ..
            } => warmup_fraction,
        };
        ensure!(
            (0.0..=1.0).contains(&warmup),
            "the warm-up is {warmup} of the run, expected a fraction from 0 to 1"
        );
        Ok(())
    }
}

/// From `from` at 0 to `to` at 1 along a half cosine.
fn anneal(from: f64, to: f64, progress: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + (PI * progress).cos())
}

/// The decimal fraction a person wrote: 0.3 as `f32` is 0.30000001, and 0.30000001 · 10 steps is one step more than 3.
fn fraction(value: f32) -> f64 {
    (f64::from(value) * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, prop_assert, prop_oneof, proptest};

    use super::*;

    fn close(found: f32, expected: f64) {
        assert!(
            (f64::from(found) - expected).abs() <= 1e-6 * expected,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn one_cycle_starts_peaks_and_ends_where_pytorch_does() {
        let schedule = Schedule::one_cycle(0.01);
        close(schedule.learning_rate(0, 100), 0.01 / 25.0);
        close(schedule.learning_rate(29, 100), 0.01);
        close(schedule.learning_rate(99, 100), 0.01 / 25.0 / 1e4);
        let highest = (0..100).max_by(|&a, &b| {
            schedule
                .learning_rate(a, 100)
                .total_cmp(&schedule.learning_rate(b, 100))
        });
        assert_eq!(highest, Some(29));
    }

    /// Figures that PyTorch 2.15.0 gave; `one_cycle.py` lies beside them.
    #[test]
    fn one_cycle_agrees_with_pytorch() {
        let reference: Vec<f64> =
            serde_json::from_str(include_str!("../../tests/fixtures/schedule/one_cycle.json"))
                .unwrap();
        assert_eq!(reference.len(), 37);
        let schedule = Schedule::OneCycle {
            peak: 0.004,
            warmup_fraction: 0.25,
            initial_divisor: 10.0,
            final_divisor: 100.0,
        };
        for (step, &expected) in reference.iter().enumerate() {
            close(schedule.learning_rate(step, reference.len()), expected);
        }
    }

    #[test]
    fn cosine_by_hand() {
        let schedule = Schedule::Cosine {
            peak: 1.0,
            warmup_fraction: 0.2,
            final_fraction: 0.5,
        };
        close(schedule.learning_rate(0, 10), 0.5);
        close(schedule.learning_rate(1, 10), 1.0);
        close(schedule.learning_rate(2, 10), 1.0);
        close(schedule.learning_rate(6, 10), 0.75);
        assert!(schedule.learning_rate(9, 10) > 0.5);
        assert!(
            Schedule::cosine(1.0).learning_rate(9, 10) > 0.0,
            "the last step learns"
        );
    }

    #[test]
    fn constant_warms_up_then_stays() {
        let schedule = Schedule::Constant {
            peak: 0.8,
            warmup_fraction: 0.4,
        };
        for (step, expected) in [(0, 0.2), (1, 0.4), (2, 0.6), (3, 0.8), (4, 0.8), (9, 0.8)] {
            close(schedule.learning_rate(step, 10), expected);
        }
        close(Schedule::constant(0.8).learning_rate(0, 10), 0.8);
    }

    #[test]
    fn a_decimal_warmup_is_the_steps_a_person_expects() {
        let schedule = Schedule::Constant {
            peak: 1.0,
            warmup_fraction: 0.3,
        };
        assert!(schedule.learning_rate(1, 10) < 1.0);
        close(schedule.learning_rate(2, 10), 1.0);
        // 0.7 as f32 is a little less than 0.7, which must not make it 6 steps.
        let schedule = Schedule::Constant {
            peak: 1.0,
            warmup_fraction: 0.7,
        };
        assert!(schedule.learning_rate(5, 10) < 1.0);
    }

    #[test]
    fn runs_of_hardly_any_steps_and_steps_past_the_end_are_defined() {
        for schedule in [
            Schedule::one_cycle(0.1),
            Schedule::cosine(0.1),
            Schedule::constant(0.1),
        ] {
            close(schedule.learning_rate(0, 1), 0.1);
            close(schedule.learning_rate(0, 0), 0.1);
            assert_eq!(
                schedule.learning_rate(50, 20),
                schedule.learning_rate(19, 20)
            );
        }
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        for schedule in [
            Schedule::one_cycle(0.1),
            Schedule::cosine(0.1),
            Schedule::constant(0.1),
        ] {
            schedule.validate().unwrap();
        }
        let message = |schedule: Schedule| schedule.validate().unwrap_err().to_string();
        assert_eq!(
            message(Schedule::constant(0.0)),
            "the learning rate is 0, expected a number above 0"
        );
        assert!(message(Schedule::cosine(f32::NAN)).contains("NaN"));
        assert!(
            message(Schedule::Constant {
                peak: 1.0,
                warmup_fraction: 1.5
            })
            .contains("warm-up is 1.5")
        );
        assert!(
            message(Schedule::Cosine {
                peak: 1.0,
                warmup_fraction: 0.0,
                final_fraction: -1.0
            })
            .contains("final fraction")
        );
        let divided_by_zero = Schedule::OneCycle {
            peak: 1.0,
            warmup_fraction: 0.3,
            initial_divisor: 0.0,
            final_divisor: 1.0,
        };
        assert!(message(divided_by_zero).contains("initial divisor"));
    }

    #[test]
    fn reads_back_from_json() {
        let json = serde_json::to_string(&Schedule::one_cycle(0.01)).unwrap();
        assert!(
            json.starts_with(r#"{"kind":"one-cycle","peak":0.01"#),
            "{json}"
        );
        assert_eq!(
            serde_json::from_str::<Schedule>(&json).unwrap(),
            Schedule::one_cycle(0.01)
        );
    }

    fn schedules() -> impl Strategy<Value = (Schedule, f64)> {
        let fraction = || prop_oneof![Just(0.0f32), Just(1.0), 0.0f32..1.0];
        // With each schedule, the lowest learning rate it may reach as a fraction of the peak.
        prop_oneof![
            (fraction(), 1.0f32..50.0, 1.0f32..1e5).prop_map(
                |(warmup_fraction, initial_divisor, final_divisor)| (
                    Schedule::OneCycle {
                        peak: 0.5,
                        warmup_fraction,
                        initial_divisor,
                        final_divisor
                    },
                    1.0 / f64::from(initial_divisor) / f64::from(final_divisor)
                )
            ),
            (fraction(), fraction()).prop_map(|(warmup_fraction, final_fraction)| (
                Schedule::Cosine {
                    peak: 0.5,
                    warmup_fraction,
                    final_fraction
                },
                0.0
            )),
            fraction().prop_map(|warmup_fraction| (
                Schedule::Constant {
                    peak: 0.5,
                    warmup_fraction
                },
                0.0
            )),
        ]
    }

    proptest! {
        #[test]
        fn stays_between_its_bounds((schedule, lowest) in schedules(), total in 1usize..3000, step in 0usize..3000) {
            let rate = f64::from(schedule.learning_rate(step, total));
            prop_assert!(rate.is_finite());
            prop_assert!(rate <= 0.5 * (1.0 + 1e-6) && rate >= 0.5 * lowest * (1.0 - 1e-4) - 1e-9, "{rate}");
        }

        #[test]
        fn has_no_jumps((schedule, _) in schedules(), total in 2usize..3000, step in 0usize..3000) {
            let step = step % (total - 1);
            let change = schedule.learning_rate(step + 1, total) - schedule.learning_rate(step, total);
            // Neither a line nor a half cosine over n steps moves by more than π/2/n of its height in one step; over a phase that
            // is short the bound is the height itself.
            let warmup = match schedule {
                Schedule::OneCycle { warmup_fraction, .. }
                | Schedule::Cosine { warmup_fraction, .. }
                | Schedule::Constant { warmup_fraction, .. } => f64::from(warmup_fraction),
            };
            let shortest = (warmup.min(1.0 - warmup) * total as f64 - 2.0).max(1.0);
            let bound = if warmup == 0.0 || warmup == 1.0 { PI / 2.0 / (total as f64 - 1.0) } else { PI / 2.0 / shortest };
            prop_assert!(f64::from(change.abs()) <= 0.5 * bound.min(1.0) + 1e-6, "{change} over {bound}");
        }
    }
}
