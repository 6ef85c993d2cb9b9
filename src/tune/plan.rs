//! What to train next, within the time there is: the scheduler's wish where it fits, and the reserve for the last training.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::dataset::Dataset;
use crate::network::{self, Task};
use crate::training::options::TrainOptions;

use super::configuration::Setting;
use super::cost::{self, Pace, Work};
use super::records::{Record, Status};
use super::scheduler::{Action, Outcome, Scheduler};
use super::settings::Settings;

/// No configuration may need more than this share of the time budget at full length: others would go short.
const LARGEST_SHARE: f64 = 1.0 / 6.0;
/// So many points in a row may be too dear before the search gives up on finding a cheaper one.
const POINTS_TO_TRY: u64 = 200;
/// A training is stopped when it takes longer than what was expected times this …
const PATIENCE: f64 = 2.5;
/// … and this many seconds.
const LEAST_PATIENCE: f64 = 20.0;
/// So many errors in a row are no accident of a configuration.
const ERRORS_IN_A_ROW: usize = 5;

/// What came of a training.
pub(super) struct Attempt {
    pub(super) status: Status,
    pub(super) accuracy: Option<f64>,
    pub(super) loss: Option<f64>,
    pub(super) best_epoch: Option<usize>,
    pub(super) seconds: f64,
    pub(super) seconds_per_epoch: f64,
    pub(super) message: String,
}

/// A training to make.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) trial: usize,
    pub(super) rung: usize,
    pub(super) point: Option<u64>,
    /// Epochs of this training.
    pub(super) epochs: usize,
    /// Options of the full one.
    pub(super) options: TrainOptions,
    pub(super) work: Work,
    /// Seconds it will hardly exceed.
    pub(super) expected: Option<f64>,
}

/// All that decisions rest on.
pub(super) struct State<'a> {
    settings: &'a Settings,
    pub(super) scheduler: Scheduler,
    task: Task,
    images: [usize; 2],
    pub(super) records: Vec<Record>,
    outcomes: Vec<Outcome>,
    pace: Pace,
    started: Instant,
    /// Seconds that earlier runs used.
    before: f64,
}

impl<'a> State<'a> {
    pub(super) fn new(
        dataset: &Dataset,
        settings: &'a Settings,
        records: Vec<Record>,
    ) -> Result<Self> {
        let validation = dataset
            .validation
            .as_ref()
            .context("the data set has no validation part")?;
        let classes = dataset.classes.len();
        let shape = &dataset.preprocess;
        let channels = shape.colour.channels();
        let mut state = Self {
            settings,
            scheduler: Scheduler {
                rungs: rungs(settings.space.epochs[1]),
                trials: settings.trials,
            },
            // Mean and deviation do not change what a network costs.
            task: Task {
                height: shape.height as usize,
                width: shape.width as usize,
                channels,
                classes,
                mean: vec![0.0; channels],
                deviation: vec![1.0; channels],
            },
            images: [dataset.train.len(), validation.len()],
            before: records.last().map_or(0.0, |record| record.elapsed_seconds),
            records: Vec::new(),
            outcomes: Vec::new(),
            pace: Pace::default(),
            started: Instant::now(),
        };
        for record in records {
            state.add(record);
        }
        Ok(state)
    }

    pub(super) fn add(&mut self, record: Record) {
        if is_measured(&record) {
            let work = self.work(record.parameters, record.flops);
            self.pace
                .learn(&work, &record.options, record.epochs, record.seconds);
        }
        self.outcomes.push(record.outcome());
        self.records.push(record);
    }

    /// Seconds used of the budget, by earlier runs too.
    pub(super) fn elapsed(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    pub(super) fn seconds_left(&self) -> Option<f64> {
        let budget = self.settings.time_budget?.as_secs_f64();
        Some((budget - self.elapsed()).max(0.0))
    }

    /// Place of the best record.
    pub(super) fn best(&self) -> Option<usize> {
        let best = self.scheduler.best(&self.outcomes)?;
        self.outcomes.iter().position(|outcome| *outcome == best)
    }

    /// What the scheduler wants, where the time allows it; else the best finalist that can still be trained at full length.
    pub(super) fn next(&self) -> Result<Option<Plan>> {
        let plan = match self.scheduler.next(&self.outcomes) {
            Action::Start { trial } => self.new_trial(trial)?,
            Action::Promote { trial, rung } => self.promotion(trial, rung)?,
            Action::Done => return Ok(None),
        };
        let Some(left) = self.seconds_left() else {
            return Ok(plan);
        };
        let top = self.scheduler.top();
        if let Some(plan) = plan {
            let reserve = match plan.rung == top {
                true => 0.0,
                false => self.reserve(&plan, left)?,
            };
            if left > 0.0 && plan.expected.unwrap_or_default() + reserve <= left {
                return Ok(Some(plan));
            }
        }
        self.finalist_within(left)
    }

    /// The best finalist that can be trained at full length in `left` seconds.
    fn finalist_within(&self, left: f64) -> Result<Option<Plan>> {
        for trial in self.scheduler.finalists(&self.outcomes) {
            let plan = self.promotion(trial, self.scheduler.top())?;
            if let Some(plan) = plan.filter(|plan| fits(plan, left)) {
                return Ok(Some(plan));
            }
        }
        Ok(None)
    }

    /// Seconds to keep back so that, after `plan`, the best can still be trained at full length: the present finalist, or the
    /// trial of the plan itself, whichever takes longer.
    fn reserve(&self, plan: &Plan, left: f64) -> Result<f64> {
        let finalist = self
            .finalist_within(left)?
            .and_then(|finalist| finalist.expected)
            .unwrap_or_default();
        let more = plan.options.epochs as f64 / plan.epochs.max(1) as f64;
        let own = plan
            .expected
            .map(|seconds| seconds * more)
            .filter(|&seconds| seconds <= left)
            .unwrap_or_default();
        Ok(finalist.max(own))
    }

    /// The first trials are the networks' defaults, all others points of the space.
    fn new_trial(&self, trial: usize) -> Result<Option<Plan>> {
        if let Some(kind) = self.settings.networks.get(trial) {
            let options = TrainOptions {
                architecture: kind.default_architecture(),
                ..self.settings.base.clone()
            };
            return self.plan(trial, 0, None, options).map(Some);
        }
        let setting = Setting {
            networks: &self.settings.networks,
            base: &self.settings.base,
            train_images: self.images[0],
        };
        let next = self.records.iter().filter_map(|record| record.point).max();
        let next = next.map_or(0, |point| point + 1);
        for index in next..next + POINTS_TO_TRY {
            let point = self.settings.search.point(self.settings.base.seed, index);
            let mut options = self.settings.space.options(&point, &setting);
            if self.is_affordable(&mut options)? {
                return self.plan(trial, 0, Some(index), options).map(Some);
            }
        }
        Ok(None)
    }

    /// Shortens the full training to its share of the time budget; false where less than the shortest would be left.
    fn is_affordable(&self, options: &mut TrainOptions) -> Result<bool> {
        let Some(budget) = self.settings.time_budget else {
            return Ok(true);
        };
        let work = self.work_of(options)?;
        let seconds = |epochs| self.pace.guess(&work, options, epochs);
        let Some(full) = seconds(options.epochs) else {
            return Ok(true);
        };
        let share = budget.as_secs_f64() * LARGEST_SHARE;
        if full <= share {
            return Ok(true);
        }
        let epochs = (options.epochs as f64 * share / full) as usize;
        let shortest = self.settings.space.epochs[0].min(self.settings.base.epochs);
        options.epochs = epochs.max(1);
        Ok(epochs >= shortest)
    }

    fn promotion(&self, trial: usize, rung: usize) -> Result<Option<Plan>> {
        let known = self.records.iter().find(|record| record.trial == trial);
        known
            .map(|known| self.plan(trial, rung, known.point, known.options.clone()))
            .transpose()
    }

    fn plan(
        &self,
        trial: usize,
        rung: usize,
        point: Option<u64>,
        options: TrainOptions,
    ) -> Result<Plan> {
        let epochs = self.scheduler.epochs(options.epochs, rung);
        let work = self.work_of(&options)?;
        let longest = self
            .records
            .iter()
            .filter(|record| record.trial == trial && is_measured(record))
            .max_by_key(|record| record.epochs);
        let expected = match longest {
            Some(known) => Some(cost::longer(
                known.seconds,
                known.seconds_per_epoch,
                epochs as f64 - known.epochs as f64,
            )),
            None => self.pace.guess(&work, &options, epochs),
        };
        Ok(Plan {
            trial,
            rung,
            point,
            epochs,
            options,
            work,
            expected,
        })
    }

    fn work_of(&self, options: &TrainOptions) -> Result<Work> {
        let network = network::build(&options.architecture, &self.task)
            .context("a network of the search does not fit the images")?;
        let parameters = network.graph.trained_scalars();
        Ok(self.work(parameters, network.graph.flops_per_image()))
    }

    fn work(&self, parameters: usize, flops: usize) -> Work {
        Work {
            flops,
            parameters,
            train_images: self.images[0],
            validation_images: self.images[1],
        }
    }

    /// When to stop a training that takes too long. Without a budget there is none but the user's: how busy the machine is must
    /// not decide what a search finds.
    pub(super) fn limit(&self, plan: &Plan) -> Option<Duration> {
        let budgeted = self.seconds_left().map(|left| {
            let patience = |expected: f64| (expected * PATIENCE).max(LEAST_PATIENCE);
            Duration::from_secs_f64(plan.expected.map_or(left, patience).min(left))
        });
        [budgeted, self.settings.trial_limit]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is known already: two rungs of a short training may have as many epochs, and the same training has the same result.
    pub(super) fn repeated(&self, plan: &Plan) -> Option<Attempt> {
        let known = self.records.iter().find(|record| {
            record.trial == plan.trial && record.epochs == plan.epochs && is_measured(record)
        })?;
        Some(Attempt {
            status: Status::Ok,
            accuracy: known.validation_accuracy,
            loss: known.validation_loss,
            best_epoch: known.best_epoch,
            seconds: 0.0,
            seconds_per_epoch: 0.0,
            message: format!("as in rung {}, which has as many epochs", known.rung),
        })
    }

    pub(super) fn record(&self, plan: Plan, attempt: Attempt) -> Record {
        Record {
            trial: plan.trial,
            rung: plan.rung,
            point: plan.point,
            status: attempt.status,
            epochs: plan.epochs,
            validation_accuracy: attempt.accuracy,
            validation_loss: attempt.loss,
            best_epoch: attempt.best_epoch,
            parameters: plan.work.parameters,
            flops: plan.work.flops,
            seconds: attempt.seconds,
            seconds_per_epoch: attempt.seconds_per_epoch,
            elapsed_seconds: self.elapsed(),
            message: attempt.message,
            options: plan.options,
        }
    }

    /// One configuration may be impossible; when one after the other is, something else is wrong.
    pub(super) fn give_up_after_errors(&self) -> Result<()> {
        let last = self.records.iter().rev().take(ERRORS_IN_A_ROW);
        let failed = last
            .filter(|record| record.status == Status::Failed)
            .count();
        match self.records.last() {
            Some(record) if failed == ERRORS_IN_A_ROW => bail!(
                "{ERRORS_IN_A_ROW} trainings in a row failed; the last one with: {}",
                record.message
            ),
            _ => Ok(()),
        }
    }
}

/// As many rungs as the longest training can be divided by three, up to three.
fn rungs(longest: usize) -> usize {
    match longest {
        0..3 => 1,
        3..9 => 2,
        _ => 3,
    }
}

/// Whether a training tells how long its configuration takes; a result taken over from another rung does not.
fn is_measured(record: &Record) -> bool {
    record.status == Status::Ok && record.seconds > 0.0
}

fn fits(plan: &Plan, left: f64) -> bool {
    plan.expected.is_some_and(|expected| expected <= left)
}
