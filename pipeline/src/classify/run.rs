//! The pipeline: walk and decode → infer → write, each on its own thread, in path order throughout.
//!
//! | thread | works | gives on |
//! |---|---|---|
//! | `decode` | takes the next batch of paths from the walk, decodes it with rayon | 1 batch waits, with its pixels |
//! | `infer` | owns the model | 2 batches wait, as rows without pixels |
//! | the caller's | writes rows, reports | |
//!
//! Three buffers of `batch size · H · W · C` bytes go round between the first two — one being filled, one waiting, one in the
//! model — and that is all the pixels there are, apart from what each decoding thread has in hand. A closed channel means
//! stop: whichever thread ends early, by error or by wish, the others notice at their next exchange.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::batch::Batch;
use super::csv_output::CsvOutput;
use super::inputs::Inputs;
use super::rows::{Row, rows};
use super::summary::{StageTimes, Stages, Summary};
use super::walk::{SkipReason, Skipped, Source, Visit, Walk};
use crate::atomic_file::{DurableFile, StagedFile};
use crate::decode::{Limits, Status};
use crate::model::Classifier;

/// Buffers for pixels that go round.
const BUFFERS: usize = 3;
/// Decoded batches that wait for the model.
const DECODED_BATCHES: usize = 1;
/// Labelled batches that wait to be written.
const LABELLED_BATCHES: usize = 2;

/// What to classify and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folders and files.
    pub inputs: Inputs,
    /// The CSV file to write.
    pub output: std::path::PathBuf,
    /// Classes per row, best first; at most as many as the model has.
    pub top_k: usize,
    /// Images per run of the model.
    pub batch_size: usize,
    /// Threads that decode.
    pub jobs: usize,
    /// What one image may cost.
    pub limits: Limits,
}

/// Something a caller may want to tell its user, in the order in which it happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something got no row.
    Skipped {
        /// Where it is.
        path: &'a std::path::Path,
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
    /// The labels; [`DurableFile::publish`] puts them in place, dropping them leaves the old file untouched.
    pub labels: DurableFile,
}

/// Something the walk skipped, on its way to the caller's thread.
type SkippedPath = (std::path::PathBuf, SkipReason);

struct Decoded {
    batch: Batch,
    skipped: Vec<SkippedPath>,
}

struct Labelled {
    rows: Vec<Row>,
    skipped: Vec<SkippedPath>,
}

/// Checks what can be checked before a model is loaded: that the output can be written and is no input, and that there is a
/// file at all. [`run`] checks it too; calling this first gives the error before time is spent.
pub fn check(settings: &Settings) -> Result<()> {
    settings.inputs.refuse_output(&settings.output)?;
    drop(StagedFile::create(&settings.output)?);
    let mut walk = Walk::new(settings.inputs.clone());
    ensure!(
        walk.any(|visit| matches!(visit, Visit::File(_))),
        "there are no files to classify in {}",
        settings.inputs
    );
    Ok(())
}

/// Classifies everything in `settings.inputs` and writes the labels beside their final place.
///
/// `stop` may be set from anywhere, such as a signal handler: the run then ends with an error after the batches in flight.
/// `report` is called on this thread.
///
/// # Errors
/// When the output cannot be written or lies among the inputs, when there is no file at all, when the model cannot be run.
/// What is wrong with a single file is a row, never an error.
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
    let staged = StagedFile::create(&settings.output)?;
    let pool = ThreadPoolBuilder::new()
        .num_threads(settings.jobs)
        .thread_name(|number| format!("decode-{number}"))
        .build()
        .context("the decoding threads could not be started")?;
    let labels = classifier.labels().to_vec();
    let mut summary = Summary::new(&labels);
    let output = CsvOutput::new(staged, &labels, settings.top_k)?;

    let (written, stages) = thread::scope(|scope| -> Result<_> {
        let (decoded_sender, decoded_receiver) = sync_channel(DECODED_BATCHES);
        let (labelled_sender, labelled_receiver) = sync_channel(LABELLED_BATCHES);
        let (buffer_sender, buffer_receiver) = sync_channel(BUFFERS);
        let preprocess = classifier.preprocess().clone();
        let bytes = settings.batch_size * preprocess.bytes_per_image();
        for _ in 0..BUFFERS {
            buffer_sender
                .send(vec![0; bytes])
                .context("the buffers could not be handed out")?;
        }
        let decoder = thread::Builder::new()
            .name("decode".into())
            .spawn_scoped(scope, {
                move || {
                    decode(
                        settings,
                        &preprocess,
                        &pool,
                        stop,
                        &buffer_receiver,
                        &decoded_sender,
                    )
                }
            })?;
        let model = thread::Builder::new()
            .name("infer".into())
            .spawn_scoped(scope, move || {
                infer(
                    classifier,
                    settings.top_k,
                    &decoded_receiver,
                    &buffer_sender,
                    &labelled_sender,
                )
            })?;
        let written = write(output, &labelled_receiver, &mut summary, &mut report);
        // Whoever still waits to hand rows over must not wait for ever.
        drop(labelled_receiver);
        // What went wrong first is told: a stage that stops early makes those before it stop, without an error of their own.
        let (staged, write_times) = written?;
        let infer_times = joined(model)?;
        let (walk_times, decode_times) = joined(decoder)?;
        let stages = Stages {
            walk: walk_times,
            decode: decode_times,
            infer: infer_times,
            write: write_times,
        };
        Ok((staged, stages))
    })?;
    if stop.load(Ordering::Relaxed) {
        bail!("stopped; nothing was published");
    }
    let labels = written.make_durable()?;
    summary.stages = stages;
    summary.seconds = started.elapsed().as_secs_f64();
    summary.images_per_second = summary.found as f64 / summary.seconds.max(f64::MIN_POSITIVE);
    Ok(Finished { summary, labels })
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| {
        Err(anyhow!(
            "a thread of the pipeline panicked; this is a bug of the program"
        ))
    })
}

/// The first stage. Ends when there is nothing left, when told to stop, or when nobody takes its batches any more.
fn decode(
    settings: &Settings,
    preprocess: &crate::preprocess::Preprocess,
    pool: &ThreadPool,
    stop: &AtomicBool,
    buffers: &Receiver<Vec<u8>>,
    batches: &SyncSender<Decoded>,
) -> Result<(StageTimes, StageTimes)> {
    let (mut walk_times, mut times) = (StageTimes::default(), StageTimes::default());
    let mut walk = Walk::new(settings.inputs.clone());
    while !stop.load(Ordering::Relaxed) {
        let (sources, skipped) = timed(&mut walk_times.busy_seconds, || {
            next_slab(&mut walk, settings.batch_size)
        });
        if sources.is_empty() && skipped.is_empty() {
            break;
        }
        let Ok(buffer) = timed(&mut times.blocked_seconds, || buffers.recv()) else {
            break;
        };
        let batch = timed(&mut times.busy_seconds, || {
            pool.install(|| Batch::decode(sources, buffer, preprocess, &settings.limits))
        });
        if timed(&mut times.blocked_seconds, || {
            batches.send(Decoded { batch, skipped })
        })
        .is_err()
        {
            break;
        }
    }
    Ok((walk_times, times))
}

/// The next `count` files, or fewer at the end, with what was skipped on the way.
fn next_slab(walk: &mut Walk, count: usize) -> (Vec<Source>, Vec<SkippedPath>) {
    let (mut sources, mut skipped) = (Vec::with_capacity(count), Vec::new());
    // A tree full of what gets no row must not be collected in memory either.
    while sources.len() < count && skipped.len() < 4096 {
        match walk.next() {
            Some(Visit::File(source)) => sources.push(source),
            Some(Visit::Skipped { path, reason }) => skipped.push((path, reason)),
            None => break,
        }
    }
    (sources, skipped)
}

/// The second stage. Ends when no batch comes any more, when nobody takes its rows, or when the model cannot be run.
fn infer(
    classifier: &mut Classifier,
    top_k: usize,
    batches: &Receiver<Decoded>,
    buffers: &SyncSender<Vec<u8>>,
    labelled: &SyncSender<Labelled>,
) -> Result<StageTimes> {
    let mut times = StageTimes::default();
    while let Ok(Decoded { batch, skipped }) = timed(&mut times.starved_seconds, || batches.recv())
    {
        let Batch {
            sources,
            decoded,
            pixels,
        } = batch;
        let rows = timed(&mut times.busy_seconds, || -> Result<_> {
            // A batch without a single image is not worth a run of the model.
            let predictions = if decoded.iter().any(Result::is_ok) {
                Some(
                    classifier
                        .classify(&pixels, sources.len())
                        .context("the model could not be run")?,
                )
            } else {
                None
            };
            Ok(rows(sources, decoded, predictions.as_ref(), top_k))
        })?;
        // At the end nobody wants the buffer back.
        let _ = buffers.send(pixels);
        if timed(&mut times.blocked_seconds, || {
            labelled.send(Labelled { rows, skipped })
        })
        .is_err()
        {
            break;
        }
    }
    Ok(times)
}

/// The last stage. Ends when no rows come any more or they cannot be written.
fn write(
    mut output: CsvOutput<StagedFile>,
    labelled: &Receiver<Labelled>,
    summary: &mut Summary,
    report: &mut impl FnMut(Event<'_>),
) -> Result<(StagedFile, StageTimes)> {
    let mut times = StageTimes::default();
    let mut skipped_counts = Skipped::default();
    while let Ok(Labelled { rows, skipped }) = timed(&mut times.starved_seconds, || labelled.recv())
    {
        timed(&mut times.busy_seconds, || -> Result<()> {
            for (path, reason) in &skipped {
                skipped_counts.count(reason);
                report(Event::Skipped { path, reason });
            }
            for row in &rows {
                summary.count(row);
                output
                    .write(row)
                    .context("the labels could not be written")?;
            }
            let not_ok = summary.found - summary.with_status(Status::Ok);
            report(Event::Progress {
                rows: summary.found,
                not_ok,
            });
            Ok(())
        })?;
    }
    summary.skipped = skipped_counts;
    Ok((
        output.finish().context("the labels could not be written")?,
        times,
    ))
}

/// Does `work` and adds the seconds it took to `total`.
fn timed<T>(total: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *total += start.elapsed().as_secs_f64();
    result
}
