//! The pipeline: walk and read → decode → infer → write, each on its own thread, in path order throughout.
//!
//! | thread | works | gives on |
//! |---|---|---|
//! | `read` | takes the next slab of files from the walk, reads ahead what no earlier run knows, on threads of its own | 1 slab waits, with the files' content |
//! | `decode` | decodes with rayon | 1 slab waits, with its pixels |
//! | `infer` | owns the model; one thread for each of its sessions, which take slabs in turn | 2 slabs wait, as rows without pixels |
//! | the caller's | writes rows, reports | |
//!
//! A slab has the files between two batches: at most a batch of files to look at, and those among them whose row is known.
//! Buffers of `batch size · H · W · C` bytes go round between `decode` and `infer` — one being filled, and for each session one
//! waiting and one in the model — and that is all the pixels there are, apart from what each decoding thread has in hand. A closed
//! channel means stop: whichever thread ends early, by error or by wish, the others notice at their next exchange.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::ahead::{Budgets, Readers};
use super::batch::{Decoding, Finding, Looked, ReadAhead, Todo};
use super::infer::Infer;
use super::queue::{Collect, Deal, Receiver, Sender, bounded};
use super::rows::{Kept, RowInProgress};
use super::run::Event;
use super::settings::Settings;
use super::sinks::Sinks;
use super::slabs::{Slab, Slabs, Walked};
use super::summary::{StageTimes, Stages};
use super::walk::{SkipReason, Skipped};
use crate::decode::Status;
use crate::model::Classifier;

/// Slabs with the content of their files that wait to be decoded.
const READ_SLABS: usize = 1;
/// Decoded slabs that wait for each session of the model.
const DECODED_SLABS: usize = 1;
/// Labelled slabs of each session that wait to be written.
const LABELLED_SLABS: usize = 2;
/// Contents of files that are remembered to find duplicates; then all are forgotten, so that memory does not grow.
const CONTENTS: usize = 1 << 15;

struct Read<'a> {
    slab: Slab,
    /// One per file to look at.
    ahead: Vec<ReadAhead<'a>>,
}

pub(super) struct Decoded {
    pub(super) slab: Slab,
    /// One per file to look at.
    pub(super) looked: Vec<Looked>,
    pub(super) pixels: Vec<u8>,
    /// Duplicates of files before this slab do not come any more.
    pub(super) forget: bool,
}

pub(super) struct Labelled {
    pub(super) rows: Vec<RowInProgress>,
    pub(super) skipped: Vec<(PathBuf, SkipReason)>,
    pub(super) forget: bool,
}

/// Sends everything in `slabs` through the stages; what the walk found, and how long each stage took.
///
/// Ends early, without an error, when `stop` is set.
///
/// # Errors
/// The first that a stage had: nothing that is wrong with a single file is one.
pub(super) fn flow(
    classifiers: &mut [Classifier],
    settings: &Settings,
    slabs: Slabs,
    memory: &Budgets,
    sinks: &mut Sinks,
    stop: &AtomicBool,
    report: &mut impl FnMut(Event<'_>),
) -> Result<(Walked, Stages)> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(settings.jobs)
        .thread_name(|number| format!("decode-{number}"))
        .build()
        .context("the decoding threads could not be started")?;
    let readers = Readers::new(settings.readers, &settings.limits, &memory.ahead)?;
    thread::scope(|scope| -> Result<_> {
        let (read_sender, mut read_receiver) = bounded(READ_SLABS);
        let sessions = classifiers.len();
        let (decoded_senders, decoded_receivers) = channels(sessions, DECODED_SLABS);
        let (labelled_senders, labelled_receivers) = channels(sessions, LABELLED_SLABS);
        let mut decoded = Deal::new(decoded_senders);
        let mut labelled = Collect::new(labelled_receivers);
        let first = classifiers.first().context("no session of the model")?;
        let preprocess = first.preprocess().clone();
        let kept = Kept {
            top_k: settings.top_k,
            temperature: first.temperature(),
            taxonomy: settings.taxonomy.as_ref(),
        };
        let bytes = settings.batch_size * preprocess.bytes_per_image();
        let buffers = 1 + (DECODED_SLABS + 1) * sessions;
        let (buffer_sender, buffer_receiver) = mpsc::sync_channel(buffers);
        for _ in 0..buffers {
            buffer_sender
                .send(vec![0; bytes])
                .context("the buffers could not be handed out")?;
        }
        let reader = thread::Builder::new()
            .name("read".into())
            .spawn_scoped(scope, move || read(slabs, &readers, stop, &read_sender))?;
        let decoder =
            thread::Builder::new()
                .name("decode".into())
                .spawn_scoped(scope, move || {
                    let decoding = Decoding {
                        preprocess: &preprocess,
                        limits: &settings.limits,
                        memory: &memory.looking,
                    };
                    decode(
                        &decoding,
                        &pool,
                        &mut read_receiver,
                        &buffer_receiver,
                        &mut decoded,
                    )
                })?;
        let mut models = Vec::with_capacity(sessions);
        let channels = decoded_receivers.into_iter().zip(labelled_senders);
        for (classifier, (decoded, labelled)) in classifiers.iter_mut().zip(channels) {
            let session = Infer {
                classifier,
                kept,
                decoded,
                buffers: buffer_sender.clone(),
                labelled,
            };
            let thread = thread::Builder::new().name("infer".into());
            models.push(thread.spawn_scoped(scope, move || session.run())?);
        }
        // The last session that ends takes the last of them: then the decoding thread waits for none any more.
        drop(buffer_sender);
        let written = write(sinks, &mut labelled, report);
        // Whoever still waits to hand rows over must not wait for ever.
        drop(labelled);
        // What went wrong first is told: a stage that stops early makes those before it stop, without an error of their own.
        let write_times = written?;
        let infer_times = models.into_iter().map(joined).collect::<Result<Vec<_>>>()?;
        let (by_content, decode_times) = joined(decoder)?;
        let (mut walked, walk_times, read_times) = joined(reader)?;
        walked.comparison.reused += by_content.same;
        walked.comparison.changed += by_content.changed;
        let stages = Stages {
            walk: walk_times,
            read: read_times,
            decode: decode_times,
            infer: StageTimes::side_by_side(&infer_times),
            write: write_times,
        };
        Ok((walked, stages))
    })
}

fn channels<T>(count: usize, capacity: usize) -> (Vec<Sender<T>>, Vec<Receiver<T>>) {
    (0..count).map(|_| bounded(capacity)).unzip()
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| {
        Err(anyhow!(
            "a thread of the pipeline panicked; this is a bug of the program"
        ))
    })
}

/// The first stage. Ends when there is nothing left, when told to stop, or when nobody takes its slabs any more.
fn read<'a>(
    mut slabs: Slabs,
    readers: &Readers<'a>,
    stop: &AtomicBool,
    read: &Sender<Read<'a>>,
) -> Result<(Walked, StageTimes, StageTimes)> {
    let (mut walk_times, mut times) = (StageTimes::default(), StageTimes::default());
    while !stop.load(Ordering::Relaxed) {
        let slab = timed(&mut walk_times.busy_seconds, || slabs.next())?;
        let Some(slab) = slab else { break };
        walk_times.files += slab.rows.len() as u64;
        let ahead = timed(&mut times.busy_seconds, || readers.read(&slab.files));
        times.files += ahead.iter().flatten().count() as u64;
        let next = Read { slab, ahead };
        if timed(&mut times.blocked_seconds, || read.send(next)).is_err() {
            break;
        }
    }
    Ok((slabs.finish()?, walk_times.over(), times.over()))
}

/// How many of the files that can be told only by their content are the same as last time.
#[derive(Default)]
struct ByContent {
    same: u64,
    changed: u64,
}

impl ByContent {
    fn count(&mut self, files: &[Todo], looked: &[Looked]) {
        for (file, looked) in files.iter().zip(looked) {
            match looked.finding {
                Finding::Unchanged => self.same += 1,
                _ if file.last_time.is_some() => self.changed += 1,
                _ => {}
            }
        }
    }
}

/// The second stage. Ends when no slab comes any more, or when nobody takes its own.
fn decode(
    decoding: &Decoding<'_>,
    pool: &ThreadPool,
    read: &mut Receiver<Read<'_>>,
    buffers: &mpsc::Receiver<Vec<u8>>,
    decoded: &mut Deal<Decoded>,
) -> Result<(ByContent, StageTimes)> {
    let mut times = StageTimes::default();
    let mut by_content = ByContent::default();
    let mut seen = HashSet::new();
    while let Ok(next) = timed(&mut times.starved_seconds, || read.recv()) {
        let Read { slab, ahead } = next;
        let Ok(mut pixels) = timed(&mut times.blocked_seconds, || buffers.recv()) else {
            break;
        };
        let forget = seen.len() > CONTENTS;
        if forget {
            seen.clear();
        }
        let looked = timed(&mut times.busy_seconds, || {
            pool.install(|| decoding.look_at(&slab.files, ahead, &mut pixels, &mut seen))
        })?;
        times.files += slab.files.len() as u64;
        by_content.count(&slab.files, &looked);
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
    times.queue_depth = Some(read.mean_depth());
    Ok((by_content, times.over()))
}

/// The last stage. Ends when no rows come any more or they cannot be written.
fn write(
    sinks: &mut Sinks,
    labelled: &mut Collect<Labelled>,
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
                sinks.contents.forget();
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
    times.files = sinks.summary.found;
    times.queue_depth = Some(labelled.mean_depth());
    Ok(times.over())
}

/// Does `work` and adds the seconds it took to `total`.
pub(super) fn timed<T>(total: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *total += start.elapsed().as_secs_f64();
    result
}
