//! A run of `classify`, from its settings to labels that wait to be put in place.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use super::ahead::Budgets;
use super::columns::Columns;
use super::contents::Contents;
use super::decision::Decisions;
use super::earlier::Earlier;
use super::journal::{Begun, Identity, State, open_previous};
use super::labels_facts::LabelsFacts;
use super::output::Output;
use super::ruling::Rules;
use super::settings::{Destination, Settings};
use super::sinks::{Labels, Sinks};
use super::slabs::Slabs;
use super::sorted::{self, Sorter};
use super::stages::flow;
use super::summary::{Memory, Summary};
use super::walk::SkipReason;
use crate::atomic_file::{self, DurableFile, StagedFile};
use crate::model::Classifier;

/// Something a caller may want to tell its user, in the order in which it happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run starts with the work of a stopped one, or of the last one, or with both.
    Continuing {
        /// A run was stopped, and its rows are taken over.
        stopped: bool,
        /// The rows of an earlier run are taken over where files did not change.
        previous: bool,
    },
    /// Something got no row.
    Skipped {
        /// Where it is.
        path: &'a Path,
        /// Why.
        reason: &'a SkipReason,
    },
    /// More rows were written.
    Progress {
        /// Rows so far.
        rows: u64,
        /// Rows so far whose status is not [`Status::Ok`](crate::decode::Status::Ok).
        not_ok: u64,
    },
}

/// A run that is over, its labels written but not yet put in place.
pub struct Finished {
    /// What was found and done.
    pub summary: Summary,
    /// What the labels are, for whoever joins them with others.
    pub labels: LabelsFacts,
    /// What decided about rows.
    pub rules: Rules,
    /// The files sorted into folders, where that was asked for.
    sorted: Option<Sorter>,
    /// None where the labels went to standard output.
    whole: Option<(DurableFile, State)>,
}

impl Finished {
    /// Puts the labels, and the sorted folder, in place; without this call the old file stays untouched, and the work is kept for another run.
    pub fn publish(self) -> Result<()> {
        if let Some(sorted) = self.sorted {
            sorted.publish()?;
        }
        let Some((labels, state)) = self.whole else {
            return Ok(());
        };
        labels.publish()?;
        state.finish()
    }
}

/// Checks what can be checked before a model is loaded: that the output can be written and is no input, and that there is a
/// file at all. [`run`] checks it too; calling this first gives the error before time is spent.
pub fn check(settings: &Settings) -> Result<()> {
    if let Destination::File(output) = &settings.output {
        settings.inputs.refuse_output(output)?;
        drop(StagedFile::create(output)?);
    }
    if let Some(wish) = &settings.sort_into {
        sorted::check(wish)?;
        settings.inputs.refuse_output(&wish.folder)?;
    }
    settings.inputs.check_not_empty()
}

/// Classifies everything in `settings.inputs` and writes the labels beside their final place, or to standard output.
///
/// `classifiers` are sessions of one model, on one device or several of a kind, which take batches in turn; what is written does not
/// depend on how many there are.
///
/// `stop` may be set from anywhere, such as a signal handler: the run then ends with an error after the batches in flight.
/// Whatever ends a run that writes a file, its rows so far are kept, and the same call continues it. `report` is called on
/// this thread.
///
/// # Errors
/// When the output cannot be written or lies among the inputs, when another run is writing it, when a stopped run had other
/// settings, when there is no file at all, when the model cannot be run. What is wrong with a single file is a row, never an
/// error, unless the settings ask for that.
pub fn run(
    classifiers: &mut [Classifier],
    settings: &Settings,
    stop: &AtomicBool,
    mut report: impl FnMut(Event<'_>),
) -> Result<Finished> {
    let started = Instant::now();
    let classifier = classifiers.first().context("no session of the model")?;
    ensure!(
        classifiers
            .iter()
            .all(|other| other.identity() == classifier.identity()),
        "the sessions are of different models"
    );
    let classes = classifier.labels().len();
    ensure!(settings.batch_size > 0, "a batch needs at least one image");
    ensure!(
        (1..=classes).contains(&settings.top_k),
        "{} classes a row were asked for, the model has {classes}",
        settings.top_k
    );
    check(settings)?;
    let rules = Rules::of(settings, classifier)?;
    let identity = settings.identity(classifier);
    let (state, begun) = begin(settings, &identity)?;
    let Begun {
        stopped,
        previous,
        journal,
    } = begun;
    if stopped.is_some() || previous.is_some() {
        report(Event::Continuing {
            stopped: stopped.is_some(),
            previous: previous.is_some(),
        });
    }
    let earlier = Earlier::new(stopped, previous, settings.by_content)?;
    let slabs = Slabs::new(settings, earlier);
    let labels = classifier.labels().to_vec();
    let output = match &settings.output {
        Destination::File(path) => Output::staged(StagedFile::create(path)?),
        Destination::Stdout => Output::stdout(),
    };
    let mut sinks = Sinks {
        labels: Labels::new(
            output,
            settings.format,
            Columns {
                labels: &labels,
                top_k: settings.top_k,
                decision: rules.thresholding.is_some(),
                taxonomy: rules.taxonomy.as_ref(),
            },
        )?,
        journal,
        sorter: match &settings.sort_into {
            Some(wish) => Some(Sorter::begin(wish, &labels, rules.taxonomy.as_ref())?),
            None => None,
        },
        summary: Summary {
            decisions: rules.thresholding.is_some().then(Decisions::default),
            ..Summary::new(&labels)
        },
        rules,
        stop_after_failures: settings.stop_after_failures,
        contents: Contents::default(),
    };
    let memory = Budgets::of(settings.memory_budget);

    let (walked, stages) = flow(
        classifiers,
        settings,
        slabs,
        &memory,
        &mut sinks,
        stop,
        &mut report,
    )?;
    if stop.load(Ordering::Relaxed) {
        bail!("stopped; nothing was published");
    }
    let Sinks {
        labels,
        journal,
        sorter: sorted,
        mut summary,
        rules,
        ..
    } = sinks;
    if let Some(journal) = journal {
        journal.finish()?;
    }
    let (output, digest) = labels.finish()?.finish()?;
    let whole = match (output, state) {
        (Some(file), Some(state)) => Some((file, state)),
        _ => None,
    };
    let labels = LabelsFacts {
        format: settings.format,
        rows: summary.found,
        digest,
        shard: settings.shard,
        tree: walked.tree,
        made_with: settings.made_with(&identity),
    };
    summary.comparison = walked.comparison;
    summary.memory = Memory {
        budget_bytes: memory.limit(),
        peak_bytes: memory.peak(),
    };
    summary.stages = stages;
    summary.seconds = started.elapsed().as_secs_f64();
    summary.images_per_second = summary.found as f64 / summary.seconds.max(f64::MIN_POSITIVE);
    Ok(Finished {
        summary,
        labels,
        rules,
        sorted,
        whole,
    })
}

/// Takes over what earlier runs left. What goes to standard output has no state of its own.
fn begin(settings: &Settings, identity: &Identity) -> Result<(Option<State>, Begun)> {
    let (state, mut begun) = match &settings.output {
        Destination::File(output) => {
            let state = State::lock(output)?;
            // With the lock in hand, what other runs left half-written can go.
            atomic_file::remove_leftovers(output)?;
            let begun = state.begin(identity, settings.restart)?;
            (Some(state), begun)
        }
        Destination::Stdout => (None, Begun::default()),
    };
    if let Some(previous) = &settings.previous {
        begun.previous = open_previous(previous, identity)?;
    }
    Ok((state, begun))
}
