//! The pipeline: walk and decode → infer → write, each on its own thread, in path order throughout.
//!
//! | thread | works | gives on |
//! |---|---|---|
//! | `decode` | takes the next slab of files from the walk, decodes with rayon what no earlier run knows | 1 slab waits, with its pixels |
//! | `infer` | owns the model | 2 slabs wait, as rows without pixels |
//! | the caller's | writes rows, reports | |
//!
//! A slab has the files between two batches: at most a batch of files to look at, and those among them whose row is known. Three
//! buffers of `batch size · H · W · C` bytes go round between the first two threads — one being filled, one waiting, one in the
//! model — and that is all the pixels there are, apart from what each decoding thread has in hand. A closed channel means
//! stop: whichever thread ends early, by error or by wish, the others notice at their next exchange.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::batch::{Decoding, Looked, Todo};
use super::columns::Columns;
use super::decision::Decisions;
use super::earlier::Earlier;
use super::journal::{Begun, Identity, State, open_previous};
use super::labels_facts::LabelsFacts;
use super::output::Output;
use super::rows::{Kept, RowInProgress, row};
use super::ruling::Rules;
use super::settings::{Destination, Settings};
use super::sinks::{Labels, Sinks};
use super::slabs::{Slab, Slabs, Walked};
use super::sorted::{self, Sorter};
use super::summary::{Memory, StageTimes, Stages, Summary};
use super::walk::{SkipReason, Skipped};
use crate::atomic_file::{self, DurableFile, StagedFile};
use crate::decode::{MemoryBudget, Status};
use crate::model::Classifier;

/// Buffers for pixels that go round.
const BUFFERS: usize = 3;
/// Decoded slabs that wait for the model.
const DECODED_SLABS: usize = 1;
/// Labelled slabs that wait to be written.
const LABELLED_SLABS: usize = 2;
/// Contents of files that are remembered to find duplicates; then all are forgotten, so that memory does not grow.
const CONTENTS: usize = 1 << 16;

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
        /// Rows so far whose status is not [`Status::Ok`].
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

struct Decoded {
    slab: Slab,
    /// One per file to look at.
    looked: Vec<Looked>,
    pixels: Vec<u8>,
    /// Duplicates of files before this slab do not come any more.
    forget: bool,
}

struct Labelled {
    rows: Vec<RowInProgress>,
    skipped: Vec<(PathBuf, SkipReason)>,
    forget: bool,
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
/// `stop` may be set from anywhere, such as a signal handler: the run then ends with an error after the batches in flight.
/// Whatever ends a run that writes a file, its rows so far are kept, and the same call continues it. `report` is called on
/// this thread.
///
/// # Errors
/// When the output cannot be written or lies among the inputs, when another run is writing it, when a stopped run had other
/// settings, when there is no file at all, when the model cannot be run. What is wrong with a single file is a row, never an
/// error, unless the settings ask for that.
pub fn run(
    classifier: &mut Classifier,
    settings: &Settings,
    stop: &AtomicBool,
    mut report: impl FnMut(Event<'_>),
) -> Result<Finished> {
    let started = Instant::now();
    let classes = classifier.labels().len();
    ensure!(settings.batch_size > 0, "a batch needs at least one image");
    ensure!(
        (1..=classes).contains(&settings.top_k),
        "{} classes a row were asked for, the model has {classes}",
        settings.top_k
    );
    check(settings)?;
    let rules = Rules::of(settings, classifier)?;
    let pool = ThreadPoolBuilder::new()
        .num_threads(settings.jobs)
        .thread_name(|number| format!("decode-{number}"))
        .build()
        .context("the decoding threads could not be started")?;
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
        outcomes: HashMap::new(),
    };
    let memory = MemoryBudget::new(settings.memory_budget);

    let (walked, stages) = thread::scope(|scope| -> Result<_> {
        let (decoded_sender, decoded_receiver) = sync_channel(DECODED_SLABS);
        let (labelled_sender, labelled_receiver) = sync_channel(LABELLED_SLABS);
        let (buffer_sender, buffer_receiver) = sync_channel(BUFFERS);
        let preprocess = classifier.preprocess().clone();
        let temperature = classifier.temperature();
        let bytes = settings.batch_size * preprocess.bytes_per_image();
        for _ in 0..BUFFERS {
            buffer_sender
                .send(vec![0; bytes])
                .context("the buffers could not be handed out")?;
        }
        let memory = &memory;
        let decoder =
            thread::Builder::new()
                .name("decode".into())
                .spawn_scoped(scope, move || {
                    let decoding = Decoding {
                        preprocess: &preprocess,
                        limits: &settings.limits,
                        memory,
                    };
                    decode(
                        slabs,
                        &decoding,
                        &pool,
                        stop,
                        &buffer_receiver,
                        &decoded_sender,
                    )
                })?;
        let model = thread::Builder::new()
            .name("infer".into())
            .spawn_scoped(scope, move || {
                infer(
                    classifier,
                    Kept {
                        top_k: settings.top_k,
                        temperature,
                        taxonomy: settings.taxonomy.as_ref(),
                    },
                    &decoded_receiver,
                    &buffer_sender,
                    &labelled_sender,
                )
            })?;
        let written = write(&mut sinks, &labelled_receiver, &mut report);
        // Whoever still waits to hand rows over must not wait for ever.
        drop(labelled_receiver);
        // What went wrong first is told: a stage that stops early makes those before it stop, without an error of their own.
        let write_times = written?;
        let infer_times = joined(model)?;
        let (walked, walk_times, decode_times) = joined(decoder)?;
        let stages = Stages {
            walk: walk_times,
            decode: decode_times,
            infer: infer_times,
            write: write_times,
        };
        Ok((walked, stages))
    })?;
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

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| {
        Err(anyhow!(
            "a thread of the pipeline panicked; this is a bug of the program"
        ))
    })
}

/// The first stage. Ends when there is nothing left, when told to stop, or when nobody takes its slabs any more.
fn decode(
    mut slabs: Slabs,
    decoding: &Decoding<'_>,
    pool: &ThreadPool,
    stop: &AtomicBool,
    buffers: &Receiver<Vec<u8>>,
    decoded: &SyncSender<Decoded>,
) -> Result<(Walked, StageTimes, StageTimes)> {
    let (mut walk_times, mut times) = (StageTimes::default(), StageTimes::default());
    let mut seen = HashSet::new();
    while !stop.load(Ordering::Relaxed) {
        let slab = timed(&mut walk_times.busy_seconds, || slabs.next())?;
        let Some(slab) = slab else { break };
        let Ok(mut pixels) = timed(&mut times.blocked_seconds, || buffers.recv()) else {
            break;
        };
        let forget = seen.len() > CONTENTS;
        if forget {
            seen.clear();
        }
        let looked = timed(&mut times.busy_seconds, || {
            pool.install(|| decoding.look_at(&slab.files, &mut pixels, &mut seen))
        })?;
        slabs.compare(&slab.files, &looked);
        let next = Decoded {
            slab,
            looked,
            pixels,
            forget,
        };
        if !timed(&mut times.blocked_seconds, || decoded.send(next).is_ok()) {
            break;
        }
    }
    Ok((slabs.finish()?, walk_times, times))
}

/// The second stage. Ends when no slab comes any more, when nobody takes its rows, or when the model cannot be run.
fn infer(
    classifier: &mut Classifier,
    kept: Kept<'_>,
    decoded: &Receiver<Decoded>,
    buffers: &SyncSender<Vec<u8>>,
    labelled: &SyncSender<Labelled>,
) -> Result<StageTimes> {
    let mut times = StageTimes::default();
    while let Ok(next) = timed(&mut times.starved_seconds, || decoded.recv()) {
        let Decoded {
            slab,
            looked,
            pixels,
            forget,
        } = next;
        let rows = timed(&mut times.busy_seconds, || -> Result<_> {
            // A batch without a single image is not worth a run of the model.
            let predictions = if looked.iter().any(Looked::is_image) {
                Some(
                    classifier
                        .classify(&pixels, looked.len())
                        .context("the model could not be run")?,
                )
            } else {
                None
            };
            let mut new = join(slab.files, looked)
                .map(|(image, file, looked)| row(image, file, looked, predictions.as_ref(), kept));
            let rows = slab.rows.into_iter();
            Ok(rows
                .filter_map(|known| known.map(RowInProgress::Whole).or_else(|| new.next()))
                .collect())
        })?;
        // At the end nobody wants the buffer back.
        let _ = buffers.send(pixels);
        let labels = Labelled {
            rows,
            skipped: slab.skipped,
            forget,
        };
        if timed(&mut times.blocked_seconds, || labelled.send(labels)).is_err() {
            break;
        }
    }
    Ok(times)
}

fn join(files: Vec<Todo>, looked: Vec<Looked>) -> impl Iterator<Item = (usize, Todo, Looked)> {
    files
        .into_iter()
        .zip(looked)
        .enumerate()
        .map(|(image, (file, looked))| (image, file, looked))
}

/// The last stage. Ends when no rows come any more or they cannot be written.
fn write(
    sinks: &mut Sinks,
    labelled: &Receiver<Labelled>,
    report: &mut impl FnMut(Event<'_>),
) -> Result<StageTimes> {
    let mut times = StageTimes::default();
    let mut skipped_counts = Skipped::default();
    while let Ok(next) = timed(&mut times.starved_seconds, || labelled.recv()) {
        timed(&mut times.busy_seconds, || -> Result<()> {
            let Labelled {
                rows,
                skipped,
                forget,
            } = next;
            for (path, reason) in &skipped {
                skipped_counts.count(reason);
                report(Event::Skipped { path, reason });
            }
            if forget {
                sinks.outcomes.clear();
            }
            sinks.write(rows)?;
            let summary = &sinks.summary;
            report(Event::Progress {
                rows: summary.found,
                not_ok: summary.found - summary.with_status(Status::Ok),
            });
            Ok(())
        })?;
    }
    sinks.summary.skipped = skipped_counts;
    Ok(times)
}

/// Does `work` and adds the seconds it took to `total`.
fn timed<T>(total: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *total += start.elapsed().as_secs_f64();
    result
}
