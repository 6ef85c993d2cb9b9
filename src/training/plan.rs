//! How many steps a run has, and where in its schedule each of them is.
//!
//! A run of so many epochs knows that from the start. A run with a time budget measures how long a step takes and plans again and
//! again what still fits, so that its schedule comes to its end, with the lowest learning rate, when the time does.

use serde::{Deserialize, Serialize};

use super::schedule::Schedule;

/// Steps before the first measurement is trusted.
const FIRST_MEASUREMENT: u64 = 20;
/// Steps between two measurements.
const BETWEEN_MEASUREMENTS: u64 = 50;
/// Share of the budget that is left for the end: the last validation took longer than thought, the model has to be written.
const RESERVE: f64 = 0.02;
/// Time of an evaluated image as a share of that of one that is learnt from, until it is measured: a forward pass of three passes
/// of about the same cost.
const EVALUATION_SHARE: f64 = 1.0 / 3.0;
/// The schedule is a function of whole steps: a run with a budget is taken to have so many.
const SCHEDULE_STEPS: usize = 1_000_000;

/// The plan of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    epochs: usize,
    steps_per_epoch: usize,
    budget: Option<Budget>,
}

/// What a run with a time budget knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Budget {
    seconds: f64,
    /// Share of the schedule that is behind.
    progress: f64,
    /// Steps that still fit; none before the first measurement.
    steps_left: Option<f64>,
    /// Seconds of a validation.
    validation_seconds: Option<f64>,
    /// Images of a validation as a share of those of a step.
    steps_of_a_validation: f64,
}

impl Plan {
    /// At most `epochs` of `steps_per_epoch` steps of `batch` images; within `budget_seconds`, if there is such a limit.
    pub fn new(
        epochs: usize,
        steps_per_epoch: usize,
        budget_seconds: Option<u64>,
        validation_images: usize,
        batch: usize,
    ) -> Self {
        Self {
            epochs,
            steps_per_epoch,
            budget: budget_seconds.map(|seconds| Budget {
                seconds: seconds as f64,
                progress: 0.0,
                steps_left: None,
                validation_seconds: None,
                steps_of_a_validation: validation_images as f64 / batch.max(1) as f64,
            }),
        }
    }

    /// Learning rate of the next step, of which `done` are behind.
    pub fn learning_rate(&self, schedule: &Schedule, done: u64) -> f32 {
        match &self.budget {
            None => schedule.learning_rate(done as usize, self.most_steps() as usize),
            Some(budget) => {
                let step = (budget.progress * SCHEDULE_STEPS as f64) as usize;
                schedule.learning_rate(step, SCHEDULE_STEPS)
            }
        }
    }

    /// Whether no step is left.
    pub fn is_done(&self, done: u64) -> bool {
        let out_of_time = self
            .budget
            .as_ref()
            .is_some_and(|budget| budget.steps_left.is_some_and(|left| left < 1.0));
        out_of_time || done >= self.most_steps()
    }

    /// Whether it is known how many steps there are; with a time budget that takes a measurement.
    pub fn is_known(&self) -> bool {
        self.budget
            .as_ref()
            .is_none_or(|budget| budget.steps_left.is_some())
    }

    /// Epochs of the whole run, the last one perhaps cut short.
    pub fn epochs(&self, done: u64) -> usize {
        match self.steps_left() {
            None => self.epochs,
            Some(left) => (done + left).div_ceil(self.steps_per_epoch.max(1) as u64) as usize,
        }
    }

    /// Steps of the whole run.
    pub fn steps(&self, done: u64) -> u64 {
        self.steps_left()
            .map_or(self.most_steps(), |left| done + left)
    }

    /// Counts a step; `seconds` is how long the run has taken, `training_seconds` how much of that went into the `done` steps that
    /// were measured.
    pub fn step_done(&mut self, done: u64, seconds: f64, training_seconds: f64) {
        let most = self.most_steps();
        let steps_per_epoch = self.steps_per_epoch.max(1) as f64;
        let Some(budget) = &mut self.budget else {
            return;
        };
        if let Some(left) = &mut budget.steps_left {
            budget.progress += (1.0 - budget.progress) / left.max(1.0);
            *left -= 1.0;
        }
        let is_time = done >= FIRST_MEASUREMENT
            && (done - FIRST_MEASUREMENT).is_multiple_of(BETWEEN_MEASUREMENTS);
        if !is_time {
            return;
        }
        let step = training_seconds / done as f64;
        let validation = budget
            .validation_seconds
            .unwrap_or(step * budget.steps_of_a_validation * EVALUATION_SHARE);
        // The last validation comes whenever the steps end; the others come with the epochs.
        let left = budget.seconds * (1.0 - RESERVE) - seconds - validation;
        let fit = left / (step + validation / steps_per_epoch);
        budget.steps_left = Some(fit.clamp(0.0, (most - done.min(most)) as f64).floor());
    }

    /// Notes how long a validation took.
    pub fn validated(&mut self, seconds: f64) {
        if let Some(budget) = &mut self.budget {
            budget.validation_seconds = Some(seconds);
        }
    }

    fn most_steps(&self) -> u64 {
        self.epochs.saturating_mul(self.steps_per_epoch) as u64
    }

    fn steps_left(&self) -> Option<u64> {
        let left = self.budget.as_ref()?.steps_left?;
        Some(left.max(0.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a plan on a machine whose steps take `step(n)` seconds, and gives the seconds it took, the steps and the last rate.
    fn run(mut plan: Plan, validation: f64, step: impl Fn(u64) -> f64) -> (f64, u64, f32) {
        let schedule = Schedule::one_cycle(1.0);
        let (mut seconds, mut training, mut done, mut rate) = (0.0, 0.0, 0, 0.0);
        while !plan.is_done(done) {
            rate = plan.learning_rate(&schedule, done);
            done += 1;
            seconds += step(done);
            training += step(done);
            plan.step_done(done, seconds, training);
            if done.is_multiple_of(plan.steps_per_epoch as u64) || plan.is_done(done) {
                seconds += validation;
                plan.validated(validation);
            }
        }
        (seconds, done, rate)
    }

    #[test]
    fn without_a_budget_a_run_is_its_epochs() {
        let plan = Plan::new(3, 10, None, 64, 32);
        let (_, steps, _) = run(plan.clone(), 1.0, |_| 1.0);
        assert_eq!(steps, 30);
        assert_eq!((plan.epochs(7), plan.steps(7)), (3, 30));
        let schedule = Schedule::one_cycle(0.1);
        assert_eq!(
            plan.learning_rate(&schedule, 11),
            schedule.learning_rate(11, 30)
        );
    }

    #[test]
    fn a_budget_is_used_and_kept_and_the_schedule_ends() {
        for (step, validation) in [(0.05, 2.0), (0.2, 5.0), (1.0, 30.0)] {
            let plan = Plan::new(1000, 400, Some(1200), 6000, 128);
            let (seconds, _, rate) = run(plan, validation, |_| step);
            assert!((1080.0..=1200.0).contains(&seconds), "{seconds}");
            assert!(rate < 0.01, "{rate}");
        }
    }

    #[test]
    fn a_machine_that_becomes_slower_or_faster_changes_the_plan() {
        for late in [0.5, 2.0] {
            let plan = Plan::new(1000, 400, Some(1200), 6000, 128);
            let (seconds, _, rate) =
                run(plan, 3.0, |done| if done < 2000 { 0.1 } else { 0.1 * late });
            assert!((1050.0..=1230.0).contains(&seconds), "{seconds}");
            assert!(rate < 0.02, "{rate}");
        }
    }

    #[test]
    fn epochs_limit_a_budget_that_has_room_for_more() {
        let plan = Plan::new(2, 100, Some(100_000), 64, 32);
        let (_, steps, rate) = run(plan, 1.0, |_| 0.1);
        assert_eq!(steps, 200);
        assert!(rate < 0.02, "{rate}");
    }

    #[test]
    fn a_budget_without_room_ends_after_the_first_measurement() {
        let plan = Plan::new(5, 100, Some(1), 64, 32);
        let (_, steps, _) = run(plan, 1.0, |_| 10.0);
        assert_eq!(steps, FIRST_MEASUREMENT);
    }
}
