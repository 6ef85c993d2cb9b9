//! `catalog classify`: labels every image under some folders.

mod arguments;
mod progress;
mod report;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use pipeline::atomic_file::StagedFile;
use pipeline::classify::{self, Decision, Decisions, Destination, Summary};
use pipeline::decode::Status;
use pipeline::model::Expectation;

pub(super) use self::arguments::ClassifyArgs;
use self::progress::Progress;
use self::report::{Placing, Report};
use super::signals::Stop;
use super::tolerance::Tolerance;
use super::{GlobalArgs, NOT_ALL_OK};
use crate::runtime::{self, Need};

/// Runs `catalog classify`.
pub(super) fn run(arguments: &ClassifyArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let started = SystemTime::now();
    // Before anything that takes time: a signal must never find the program deaf.
    let stop = Stop::listen()?;
    let mut settings = arguments.settings()?;
    classify::check(&settings)?;
    let report_path = arguments.report();
    if let Some(path) = &report_path {
        settings.inputs.refuse_output(path)?;
        // Made only at the end, but a place that cannot be written is known now.
        drop(StagedFile::create(path)?);
    }
    let model = arguments.model.read()?;
    settings.taxonomy = arguments.taxonomy(&model.metadata().labels)?;
    let runtime = runtime::load(&global.runtime_settings()?, Need::Inference)?;
    let model_threads = arguments.model_threads.unwrap_or(settings.jobs);
    let (mut classifiers, devices) =
        arguments
            .model
            .classifiers(&runtime, &model, model_threads, arguments.sessions)?;

    let mut progress = Progress::new(global);
    let outcome = classify::run(&mut classifiers, &settings, stop.flag(), |event| {
        progress.show(&event)
    });
    progress.finish();
    if stop.is_asked() {
        match &settings.output {
            Destination::File(path) => tracing::warn!(
                "stopped: {} was not written; the same command goes on from here",
                path.display()
            ),
            Destination::Stdout => tracing::warn!("stopped"),
        }
        return Ok(stop.exit_code());
    }
    let finished = outcome?;
    let shortfall = shortfall(&finished.summary, arguments.max_failures());

    if let Some(path) = &report_path {
        let report = Report::new(
            arguments,
            &settings,
            &model,
            &runtime,
            Placing {
                devices: &devices,
                sessions: classifiers.len(),
                images_per_run: classifiers
                    .first()
                    .map_or(0, |first| first.images_per_run(settings.batch_size)),
            },
            &finished,
            started,
        );
        let mut file = StagedFile::create(path)?;
        serde_json::to_writer_pretty(&mut file, &report)
            .context("the report could not be written")?;
        file.write_all(b"\n")
            .context("the report could not be written")?;
        file.make_durable()?.publish()?;
    }
    let summary = finished.summary.clone();
    let thresholding = finished.rules.thresholding.clone();
    // The labels come last: when they are in place, everything is.
    finished.publish()?;

    for line in summary_lines(&summary) {
        tracing::info!("{line}");
    }
    if let Some(decisions) = summary.decisions {
        let expected = thresholding.and_then(|thresholding| thresholding.expected);
        tracing::info!("{}", decisions_line(decisions, expected));
    }
    if let (Destination::File(labels), Some(report)) = (&settings.output, &report_path) {
        tracing::info!(
            "labels in {}, figures in {}",
            labels.display(),
            report.display()
        );
    }
    Ok(match shortfall {
        None => ExitCode::SUCCESS,
        Some(shortfall) => {
            tracing::warn!("{shortfall}");
            ExitCode::from(NOT_ALL_OK)
        }
    })
}

/// Why a run is no success.
fn shortfall(summary: &Summary, tolerated: Tolerance) -> Option<String> {
    let failures = summary.found - summary.with_status(Status::Ok);
    tolerated.shortfall(failures, summary.found, summary.skipped.unreadable_folders)
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
    let comparison = &summary.comparison;
    let counts: Vec<String> = [
        (comparison.continued, "done before the stop"),
        (comparison.reused, "unchanged since the last run"),
        (comparison.new, "new"),
        (comparison.changed, "changed"),
        (comparison.retried, "tried again"),
        (comparison.gone, "gone"),
        (summary.duplicates, "the same as another file"),
    ]
    .into_iter()
    .filter(|&(count, _)| count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    // In a first run every file is new, which says nothing.
    if summary.found > comparison.new + summary.duplicates || summary.duplicates > 0 {
        lines.push(format!("files: {}", counts.join(", ")));
    }
    let busy = summary.stages.named().map(|(name, stage)| {
        let share = stage.busy_seconds / summary.seconds.max(f64::MIN_POSITIVE);
        format!("{name} {:.0} %", 100.0 * share)
    });
    lines.push(format!(
        "{:.1} s, {:.0} images/s; the slowest stage was: {} (busy: {})",
        summary.seconds,
        summary.images_per_second,
        summary.stages.bottleneck(),
        busy.join(", ")
    ));
    lines
}

/// How many labels are to be looked at, and what the model's validation images let expect.
fn decisions_line(decisions: Decisions, expected: Option<Expectation>) -> String {
    let Decisions {
        accept,
        rolled_up,
        review,
        unknown,
    } = decisions;
    let mut line = format!("decisions: {accept} accept");
    for (count, decision) in [
        (rolled_up, Decision::RolledUp),
        (review, Decision::Review),
        (unknown, Decision::Unknown),
    ] {
        // Only with some options can there be any of the others.
        if count > 0 || decision == Decision::Review {
            line += &format!(", {count} {}", decision.as_str());
        }
    }
    if let Some(Expectation {
        coverage,
        precision,
    }) = expected
    {
        line += &format!("; of the model's validation images {coverage:.3} were accepted");
        if let Some(precision) = precision {
            line += &format!(", {precision:.4} of them rightly");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use pipeline::classify::ClassCount;

    use super::*;

    fn summary() -> Summary {
        let mut summary = Summary::new(&[]);
        let class = |label: &str, count| ClassCount {
            label: label.to_owned(),
            count,
        };
        summary.classes = vec![class("bag", 3), class("coat", 0), class("t-shirt", 5)];
        summary.found = 10;
        summary.statuses[Status::Degraded as usize] = 1;
        summary.statuses[Status::Corrupt as usize] = 2;
        summary.statuses[Status::Ok as usize] = 7;
        summary.comparison.new = 10;
        summary.seconds = 2.5;
        summary.stages.decode.busy_seconds = 2.0;
        summary.stages.write.busy_seconds = 0.01;
        summary.images_per_second = 4.0;
        summary
    }

    #[test]
    fn the_summary_adds_up_before_the_readers_eyes() {
        let mut summary = summary();
        summary.skipped.broken_links = 1;
        assert_eq!(
            summary_lines(&summary),
            [
                "10 files found = 7 ok + 1 degraded + 2 corrupt",
                "  bag      3",
                "  t-shirt  5",
                "without a row: 1 broken links",
                "2.5 s, 4 images/s; the slowest stage was: decode (busy: walk 0 %, read 0 %, decode 80 %, infer 0 %, write 0 %)",
            ]
        );
    }

    #[test]
    fn decisions_are_counted_by_their_words() {
        let mut decisions = Decisions {
            accept: 5,
            ..Decisions::default()
        };
        let line = |decisions| decisions_line(decisions, None);
        assert_eq!(line(decisions), "decisions: 5 accept, 0 review");
        decisions.rolled_up = 2;
        decisions.unknown = 1;
        assert_eq!(
            line(decisions),
            "decisions: 5 accept, 2 rolled_up, 0 review, 1 unknown"
        );
    }

    #[test]
    fn a_folder_that_could_not_be_read_is_never_tolerated() {
        let mut summary = summary();
        assert!(shortfall(&summary, Tolerance::Files(2)).is_some());
        assert_eq!(shortfall(&summary, Tolerance::Files(3)), None);
        summary.skipped.unreadable_folders = 1;
        assert!(shortfall(&summary, Tolerance::Percent(100.0)).is_some());
    }

    #[test]
    fn a_night_says_what_became_of_the_files_of_the_last_one() {
        let mut summary = summary();
        summary.comparison.new = 2;
        summary.comparison.reused = 8;
        summary.comparison.gone = 1;
        let lines = summary_lines(&summary);
        assert_eq!(
            lines[3],
            "files: 8 unchanged since the last run, 2 new, 1 gone"
        );
    }
}
