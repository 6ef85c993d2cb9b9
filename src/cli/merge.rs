//! `catalog merge`: joins the labels of shards.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use pipeline::atomic_file::StagedFile;
use pipeline::classify::{LabelsFacts, Part, merge, path_text};
use serde::{Deserialize, Serialize};

use super::tolerance::Tolerance;
use super::{NOT_ALL_OK, report_beside};

/// Join the labels that `classify --shard` wrote
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  catalog merge part-1.csv part-2.csv part-3.csv --out labels.csv

Beside each file its report is needed (part-1.csv.report.json). The result has the bytes of one run over all files; a shard that is
missing, was given twice, changed, or came from another model, other settings or other files is refused.

Exit codes: 0 every file was classified, or no more failed than --max-failures allows, 1 nothing was published, 2 wrong usage,
3 published, but more files are not ok, or a folder could not be read")]
pub(super) struct MergeArgs {
    /// Labels of all shards, in any order
    #[arg(required = true, value_name = "FILE")]
    parts: Vec<PathBuf>,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// End with success while no more files of all shards than this are not ok: a number, or a share such as 0.5%
    #[arg(long, value_name = "N|P%", default_value = "0")]
    max_failures: Tolerance,
}

/// What is read of a shard's report.
#[derive(Deserialize)]
struct PartReport {
    labels: LabelsFacts,
    summary: PartSummary,
}

#[derive(Deserialize)]
struct PartSummary {
    statuses: BTreeMap<String, u64>,
    skipped: BTreeMap<String, u64>,
    #[serde(default)]
    decisions: BTreeMap<String, u64>,
}

/// The report of the whole.
#[derive(Serialize)]
struct Report<'a> {
    program: &'static str,
    version: &'static str,
    parts: Vec<String>,
    labels: &'a LabelsFacts,
    statuses: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    decisions: BTreeMap<String, u64>,
    /// Every shard walks all folders, so this is what the one that missed most missed.
    unreadable_folders: u64,
}

/// Runs `catalog merge`.
pub(super) fn run(arguments: &MergeArgs) -> Result<ExitCode> {
    let MergeArgs {
        parts: paths,
        out,
        max_failures,
    } = arguments;
    ensure!(
        !paths.contains(out),
        "{} is one of the shards; write the whole to another place",
        out.display()
    );
    let mut staged = StagedFile::create(out)?;
    let mut report_file = StagedFile::create(&report_beside(out))?;
    let mut parts = Vec::new();
    let (mut statuses, mut decisions) = (BTreeMap::new(), BTreeMap::new());
    let mut unreadable_folders = 0;
    for path in paths {
        let report = read_report(path)?;
        for (status, count) in report.summary.statuses {
            *statuses.entry(status).or_insert(0) += count;
        }
        for (decision, count) in report.summary.decisions {
            *decisions.entry(decision).or_insert(0) += count;
        }
        let unreadable = report.summary.skipped.get("unreadable_folders");
        unreadable_folders = unreadable_folders.max(unreadable.copied().unwrap_or(0));
        parts.push(Part {
            path: path.clone(),
            facts: report.labels,
        });
    }
    let labels = merge(&parts, &mut staged)?;
    let failures = labels.rows - statuses.get("ok").copied().unwrap_or(0).min(labels.rows);
    let report = Report {
        program: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        parts: paths.iter().map(|path| path_text(path)).collect(),
        labels: &labels,
        statuses,
        decisions,
        unreadable_folders,
    };
    serde_json::to_writer_pretty(&mut report_file, &report)
        .context("the report could not be written")?;
    report_file
        .write_all(b"\n")
        .context("the report could not be written")?;
    let labels_file = staged.make_durable()?;
    report_file.make_durable()?.publish()?;
    labels_file.publish()?;
    tracing::info!(
        "{} rows of {} shards in {}",
        labels.rows,
        parts.len(),
        out.display()
    );
    Ok(
        match max_failures.shortfall(failures, labels.rows, unreadable_folders) {
            None => ExitCode::SUCCESS,
            Some(shortfall) => {
                tracing::warn!("{shortfall}");
                ExitCode::from(NOT_ALL_OK)
            }
        },
    )
}

fn read_report(labels: &Path) -> Result<PartReport> {
    let path = report_beside(labels);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "the report {} that belongs to {} cannot be read",
            path.display(),
            labels.display()
        )
    })?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not the report of a run", path.display()))
}
