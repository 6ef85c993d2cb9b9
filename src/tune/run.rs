//! The search itself: decide, train, write down, until trials or time are used up.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use ort::environment::Environment;

use crate::dataset::Dataset;
use crate::training::events::Event;
use crate::training::history::History;
use crate::training::options::TrainOptions;
use crate::training::run::{Ending, Trained, train};
use crate::training::start::Start;

use super::journal::{Identity, Journal};
use super::plan::{Attempt, Plan, State};
use super::records::{self, Record, Status};
use super::settings::Settings;

/// Something that happened.
#[derive(Debug)]
pub enum News<'a> {
    /// An earlier run left so many trainings.
    Resumed {
        /// How many.
        trainings: usize,
        /// What it used of the time budget, in seconds.
        seconds: f64,
    },
    /// A training starts.
    Started {
        /// Number of the configuration.
        trial: usize,
        /// Its rung.
        rung: usize,
        /// Epochs of this training.
        epochs: usize,
        /// Its options, with the epochs of the full training.
        options: &'a TrainOptions,
    },
    /// The training under way has something to tell.
    Training(&'a Event),
    /// A training has ended and is written down.
    Done {
        /// What came of it.
        record: &'a Record,
        /// The best training so far.
        best: Option<&'a Record>,
        /// Seconds left of the budget.
        seconds_left: Option<f64>,
    },
}

/// What came of a search.
#[derive(Clone, Debug)]
pub struct Searched {
    /// All trainings, in the order in which they were made.
    pub records: Vec<Record>,
    /// Place of the best one among them.
    pub best: Option<usize>,
    /// Whether the best was trained at full length.
    pub is_full: bool,
    /// Whether the user stopped the search.
    pub stopped: bool,
}

/// Searches, writing journal, table and best options into `folder` after every training. A folder with the journal of the same
/// search continues it.
///
/// # Errors
/// When the data set has no validation part, the journal belongs to another search, nothing can be written, or one training after
/// the other fails with an error; a single failure is a row of the table.
pub fn search(
    dataset: &Dataset,
    settings: &Settings,
    environment: &Environment,
    folder: &Path,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Searched> {
    let identity = Identity::new(
        dataset.fingerprint.clone(),
        settings.networks.clone(),
        settings.search,
        settings.space.clone(),
        settings.base.clone(),
    );
    let (mut journal, records) = Journal::open(folder, &identity)?;
    let mut state = State::new(dataset, settings, records)?;
    if !state.records.is_empty() {
        tell(&News::Resumed {
            trainings: state.records.len(),
            seconds: state.elapsed(),
        });
    }
    let mut stopped = stop.load(Ordering::Relaxed);
    while !stopped && let Some(plan) = state.next()? {
        tell(&News::Started {
            trial: plan.trial,
            rung: plan.rung,
            epochs: plan.epochs,
            options: &plan.options,
        });
        let attempted = match state.repeated(&plan) {
            Some(known) => Some(known),
            None => {
                let limit = state.limit(&plan);
                attempt(dataset, &plan, limit, environment, stop, tell)
            }
        };
        let Some(attempt) = attempted else {
            stopped = true;
            break;
        };
        let record = state.record(plan, attempt);
        journal.add(&record)?;
        state.add(record);
        let best = state.best().and_then(|place| state.records.get(place));
        records::save(folder, &state.records, best)?;
        if let Some(record) = state.records.last() {
            tell(&News::Done {
                record,
                best,
                seconds_left: state.seconds_left(),
            });
        }
        state.give_up_after_errors()?;
        stopped = stop.load(Ordering::Relaxed);
    }
    let best = state.best();
    records::save(
        folder,
        &state.records,
        best.and_then(|best| state.records.get(best)),
    )?;
    let is_full = best
        .and_then(|best| state.records.get(best))
        .is_some_and(|record| record.rung == state.scheduler.top());
    Ok(Searched {
        records: state.records,
        best,
        is_full,
        stopped,
    })
}

/// Trains, unless the user stops it: then there is nothing to write down.
fn attempt(
    dataset: &Dataset,
    plan: &Plan,
    limit: Option<Duration>,
    environment: &Environment,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&News<'_>),
) -> Option<Attempt> {
    let started = Instant::now();
    let options = TrainOptions {
        epochs: plan.epochs,
        ..plan.options.clone()
    };
    let cut = AtomicBool::new(false);
    let trained = train(
        dataset,
        &options,
        Start::Random,
        environment,
        None,
        &cut,
        &mut |event| {
            let is_late = limit.is_some_and(|limit| started.elapsed() > limit);
            if is_late || stop.load(Ordering::Relaxed) {
                cut.store(true, Ordering::Relaxed);
            }
            tell(&News::Training(event));
        },
    );
    if stop.load(Ordering::Relaxed) {
        return None;
    }
    let seconds = started.elapsed().as_secs_f64();
    let (status, history, message) = judged(trained, seconds);
    let best = history.best();
    let epochs = history.epochs.len().max(1) as f64;
    Some(Attempt {
        status,
        accuracy: best.map(|epoch| epoch.validation_accuracy),
        loss: best.map(|epoch| epoch.validation_loss),
        best_epoch: best.map(|epoch| epoch.epoch),
        seconds,
        seconds_per_epoch: history
            .epochs
            .iter()
            .map(|epoch| epoch.seconds)
            .sum::<f64>()
            / epochs,
        message,
    })
}

fn judged(trained: Result<Trained>, seconds: f64) -> (Status, History, String) {
    match trained {
        Ok(trained) => {
            let (status, message) = match trained.ending {
                Ending::Finished => (Status::Ok, String::new()),
                Ending::Stopped => (
                    Status::TooSlow,
                    format!("stopped after {seconds:.0} s, which was its limit"),
                ),
                Ending::Diverged { step } => (
                    Status::Diverged,
                    format!("the loss was no number any more at step {step}"),
                ),
            };
            (status, trained.history, message)
        }
        Err(error) => (status_of(&error), History::default(), format!("{error:#}")),
    }
}

/// A divergence before the first validation leaves no weights, so training reports it as an error.
fn status_of(error: &Error) -> Status {
    match error.to_string().contains("no number any more") {
        true => Status::Diverged,
        false => Status::Failed,
    }
}
