//! `catalog classify`: labels every image under some folders.

mod progress;
mod report;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ort::ep::{CUDA, ExecutionProvider as _};
use pipeline::classify::{self, Inputs, Settings, StagedFile, Summary};
use pipeline::decode::{self, Limits, Status};
use pipeline::model::{Classifier, Device, ForeignFacts, ModelFile, SessionSettings};

use self::progress::Progress;
use self::report::Report;
use super::GlobalArgs;
use crate::runtime::{self, Need, Runtime};

/// Exit code of a run whose labels are in place, though not every file could be classified without complaint.
const NOT_ALL_OK: u8 = 3;
/// Exit code of a run that was told to stop.
const STOPPED: u8 = 130;

/// Label every image under some folders
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  catalog classify photos --out labels.csv --model models/fashion/model.onnx
  catalog classify photos --out labels.csv --model model.onnx --top-k 3 --report run.json
  catalog classify photos --out labels.csv --model other.onnx --labels names.txt --preprocess contract.json

Exit codes: 0 every file was classified, 1 nothing was published, 2 wrong usage,
3 the labels are published, but some files are damaged or no images, 130 stopped")]
pub(super) struct ClassifyArgs {
    /// Folders, searched with everything below them, and image files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// CSV file to write; it appears whole when the run is over, replacing an old one
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Model file
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// How many classes to write per image, most probable first
    #[arg(short = 'k', long, value_name = "K", default_value_t = 1)]
    top_k: usize,
    /// Where the model runs: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Images per run of the model
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    batch_size: usize,
    /// Threads that decode images, and threads that run the model [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = at_least_one)]
    jobs: Option<usize>,
    /// JSON file for the figures of the run [default: the name of the CSV file and .report.json]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Class names of a model that was not made by catalog, one a line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Preprocessing contract of a model that was not made by catalog, as JSON
    #[arg(long, value_name = "FILE")]
    preprocess: Option<PathBuf>,
    /// Refuse images of more pixels
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_pixels)]
    max_pixels: u64,
    /// Refuse files of more bytes
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_file_bytes)]
    max_file_bytes: u64,
}

/// Where the user wants the model to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeviceChoice {
    /// A GPU if one can be used, else the processor.
    Auto,
    /// This device or none.
    Only(Device),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Only(Device::Cpu)),
            None if text == "cuda" => Ok(Self::Only(Device::Cuda(0))),
            Some(("cuda", number)) if let Ok(number) = number.parse() => {
                Ok(Self::Only(Device::Cuda(number)))
            }
            _ => Err("expected auto, cpu, cuda or cuda:N".to_owned()),
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a whole number".to_owned()),
    }
}

/// Runs `catalog classify`.
pub(super) fn run(arguments: &ClassifyArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let started = SystemTime::now();
    let settings = settings(arguments)?;
    let report_path = arguments
        .report
        .clone()
        .unwrap_or_else(|| default_report(&arguments.out));
    classify::check(&settings)?;
    settings.inputs.refuse_output(&report_path)?;
    let mut report_file = StagedFile::create(&report_path)?;
    let model = model(arguments)?;
    let runtime = runtime::load(&global.runtime_settings()?, Need::Inference)?;
    let (mut classifier, device) = classifier(&runtime, &model, arguments.device, settings.jobs)?;

    decode::install_quiet_panic_hook();
    let stop = stop_on_signal()?;
    let mut progress = Progress::new(global);
    let outcome = classify::run(&mut classifier, &settings, &stop, |event| {
        progress.show(&event)
    });
    progress.finish();
    if stop.load(Ordering::Relaxed) {
        tracing::warn!("stopped: {} was not written", settings.output.display());
        return Ok(ExitCode::from(STOPPED));
    }
    let finished = outcome?;

    let report = Report::new(
        arguments,
        &settings,
        &model,
        &runtime,
        device,
        &finished.summary,
        started,
    );
    serde_json::to_writer_pretty(&mut report_file, &report)
        .context("the report could not be written")?;
    report_file
        .write_all(b"\n")
        .context("the report could not be written")?;
    // The labels come last: when they are in place, everything is.
    report_file.make_durable()?.publish()?;
    finished.labels.publish()?;

    for line in summary_lines(&finished.summary) {
        tracing::info!("{line}");
    }
    tracing::info!(
        "labels in {}, figures in {}",
        settings.output.display(),
        report_path.display()
    );
    Ok(if finished.summary.is_all_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_ALL_OK)
    })
}

fn settings(arguments: &ClassifyArgs) -> Result<Settings> {
    let limits = Limits {
        max_pixels: arguments.max_pixels,
        max_file_bytes: arguments.max_file_bytes,
        ..Limits::default()
    };
    Ok(Settings {
        inputs: Inputs::new(&arguments.paths)?,
        output: arguments.out.clone(),
        top_k: arguments.top_k,
        batch_size: arguments.batch_size,
        jobs: arguments.jobs.unwrap_or_else(cores),
        limits,
    })
}

/// One where the system does not say how many there are.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn default_report(out: &Path) -> PathBuf {
    let mut path = OsString::from(out);
    path.push(".report.json");
    path.into()
}

fn model(arguments: &ClassifyArgs) -> Result<ModelFile> {
    let Some(path) = &arguments.model else {
        bail!("no model was given: name a model file with --model")
    };
    match (&arguments.preprocess, &arguments.labels) {
        (None, None) => ModelFile::read(path).map_err(|error| match error {
            error @ pipeline::model::ModelFileError::Foreign { .. } => {
                anyhow::anyhow!("{error}: give them with --labels and --preprocess")
            }
            error => error.into(),
        }),
        (Some(contract), Some(labels)) => Ok(ModelFile::read_foreign(
            path,
            ForeignFacts::read(contract, labels)?,
        )?),
        (Some(_), None) => bail!(
            "--preprocess describes a foreign model, whose class names are needed too: give them with --labels"
        ),
        (None, Some(_)) => bail!(
            "--labels names the classes of a foreign model, whose preprocessing is needed too: give it with --preprocess"
        ),
    }
}

/// Loads the model where the user wants it, or where it can run, and says which that is.
fn classifier(
    runtime: &Runtime,
    model: &ModelFile,
    choice: DeviceChoice,
    threads: usize,
) -> Result<(Classifier, Device)> {
    let load = |device| {
        // Spinning would take the cores from the decoders.
        let session = SessionSettings {
            device,
            threads,
            spinning: false,
        };
        Classifier::load(&runtime.environment, model, &session)
            .map(|classifier| (classifier, device))
    };
    match choice {
        DeviceChoice::Only(device) => load(device),
        DeviceChoice::Auto if !matches!(CUDA::is_available(), Ok(true)) => {
            tracing::info!(
                "running on the CPU: ONNX Runtime {} here has no CUDA",
                runtime.version
            );
            load(Device::Cpu)
        }
        DeviceChoice::Auto => match load(Device::Cuda(0)) {
            Ok(loaded) => {
                tracing::info!("running on GPU 0 with CUDA");
                Ok(loaded)
            }
            Err(error) => {
                tracing::info!("running on the CPU: CUDA cannot be used ({error:#})");
                load(Device::Cpu)
            }
        },
    }
}

/// A flag that the first interrupt sets; the second one ends the program at once.
fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(STOPPED.into());
        }
    })
    .context("interrupts cannot be handled")?;
    Ok(stop)
}

/// What a person wants to know at the end.
fn summary_lines(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    let parts: Vec<String> = Status::ALL
        .into_iter()
        .filter(|&status| status == Status::Ok || summary.with_status(status) > 0)
        .map(|status| format!("{} {status}", summary.with_status(status)))
        .collect();
    lines.push(format!(
        "{} files found = {}",
        summary.found,
        parts.join(" + ")
    ));
    let width = summary
        .classes
        .iter()
        .map(|class| class.label.chars().count())
        .max()
        .unwrap_or(0);
    for class in summary.classes.iter().filter(|class| class.count > 0) {
        lines.push(format!("  {:width$}  {}", class.label, class.count));
    }
    let skipped = &summary.skipped;
    let reasons: Vec<String> = [
        (skipped.unreadable_folders, "folders that cannot be read"),
        (skipped.links_to_folders, "links to folders"),
        (skipped.broken_links, "broken links"),
        (skipped.not_files, "FIFOs, devices or sockets"),
    ]
    .into_iter()
    .filter(|&(count, _)| count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if !reasons.is_empty() {
        lines.push(format!("without a row: {}", reasons.join(", ")));
    }
    lines.push(format!(
        "{:.1} s, {:.0} images/s; the slowest stage was: {}",
        summary.seconds,
        summary.images_per_second,
        summary.stages.bottleneck()
    ));
    lines
}

#[cfg(test)]
mod tests {
    use pipeline::classify::{ClassCount, Skipped, Stages};

    use super::*;

    #[test]
    fn devices_are_named_in_words() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Only(Device::Cpu)));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Only(Device::Cuda(0))));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Only(Device::Cuda(3))));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cpu:1"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_report_lies_beside_the_labels() {
        assert_eq!(
            default_report(Path::new("out/labels.csv")),
            Path::new("out/labels.csv.report.json")
        );
    }

    #[test]
    fn the_summary_adds_up_before_the_readers_eyes() {
        let mut statuses = [0; Status::ALL.len()];
        statuses[Status::Degraded as usize] = 1;
        statuses[Status::Corrupt as usize] = 2;
        statuses[Status::Ok as usize] = 7;
        let class = |label: &str, count| ClassCount {
            label: label.to_owned(),
            count,
        };
        let summary = Summary {
            found: 10,
            statuses,
            classes: vec![class("bag", 3), class("coat", 0), class("t-shirt", 5)],
            confidence_histogram: [0; 10],
            skipped: Skipped {
                broken_links: 1,
                ..Skipped::default()
            },
            seconds: 2.5,
            images_per_second: 4.0,
            stages: Stages::default(),
        };
        assert_eq!(
            summary_lines(&summary),
            [
                "10 files found = 7 ok + 1 degraded + 2 corrupt",
                "  bag      3",
                "  t-shirt  5",
                "without a row: 1 broken links",
                "2.5 s, 4 images/s; the slowest stage was: walk",
            ]
        );
    }
}
