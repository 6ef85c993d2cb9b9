//! `catalog classify`: labels every image under some folders.

mod progress;
mod report;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use clap::Args;
use pipeline::atomic_file::StagedFile;
use pipeline::classify::{self, Inputs, Settings, Summary};
use pipeline::decode::{Limits, Status};

use self::progress::Progress;
use self::report::Report;
use super::model::{ModelArgs, at_least_one, cores};
use super::signals::Stop;
use super::{GlobalArgs, NOT_ALL_OK};
use crate::runtime::{self, Need};

/// Label every image under some folders
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  catalog classify photos --out labels.csv
  catalog classify photos --out labels.csv --model models/fashion/model.onnx
  catalog classify photos --out labels.csv --model model.onnx --top-k 3 --report run.json
  catalog classify photos --out labels.csv --model other.onnx --labels names.txt --preprocess contract.json

Exit codes: 0 every file was classified, 1 nothing was published, 2 wrong usage,
3 the labels are published, but some files are damaged or no images,
130, 143 or 129 stopped by Ctrl-C, SIGTERM or SIGHUP, nothing was published")]
pub(super) struct ClassifyArgs {
    /// Folders, searched with everything below them, and image files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// CSV file to write; it appears whole when the run is over, replacing an old one
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// How many classes to write per image, most probable first
    #[arg(short = 'k', long, value_name = "K", default_value_t = 1)]
    top_k: usize,
    #[command(flatten)]
    model: ModelArgs,
    /// Threads that decode images, and threads that run the model [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = at_least_one)]
    jobs: Option<usize>,
    /// JSON file for the figures of the run [default: the name of the CSV file and .report.json]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Refuse images of more pixels
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_pixels)]
    max_pixels: u64,
    /// Refuse files of more bytes
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_file_bytes)]
    max_file_bytes: u64,
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
    let model = arguments.model.read()?;
    let runtime = runtime::load(&global.runtime_settings()?, Need::Inference)?;
    let (mut classifier, device) = arguments
        .model
        .classifier(&runtime, &model, settings.jobs)?;

    let stop = Stop::listen()?;
    let mut progress = Progress::new(global);
    let outcome = classify::run(&mut classifier, &settings, stop.flag(), |event| {
        progress.show(&event)
    });
    progress.finish();
    if stop.is_asked() {
        tracing::warn!("stopped: {} was not written", settings.output.display());
        return Ok(stop.exit_code());
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
        batch_size: arguments.model.batch_size(),
        jobs: arguments.jobs.unwrap_or_else(cores),
        limits,
    })
}

fn default_report(out: &Path) -> PathBuf {
    let mut path = OsString::from(out);
    path.push(".report.json");
    path.into()
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
