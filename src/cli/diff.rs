//! `catalog diff`: what changed between two files of labels of the same folder.

mod output;
mod pictures;
mod runs;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Result, bail, ensure};
use clap::Args;
use pipeline::classify::LabelsReader;

use self::output::Outputs;
use self::runs::Run;
use super::terminal::space;
use super::tolerance::Tolerance;
use super::{TOO_MANY_CHANGES, print};
use crate::diff::change::Kind;
use crate::diff::figures::Figures;
use crate::diff::{Settings, compare, display};
use crate::report::diff::DiffReport;
use crate::report::environment::moment;

/// Say what changed between two files of labels of the same folder
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  catalog diff labels-old-model.csv labels-new-model.csv
  catalog diff sunday.csv monday.csv --html diff.html --pictures photos
  catalog diff old.csv new.csv --out changes.csv --max-changes 1%
  catalog diff old.csv new.csv --out - --min-move 0.2

Both files are read once, side by side, in the path order in which `classify` and `merge` write them. A file is in another
category when its label changed, was lost or was gained; those are what --max-changes counts, of the files that both have.

Exit codes: 0 no more changes than allowed, 1 there is no result, 2 wrong usage,
4 everything is written, but more files are in another category than --max-changes allows")]
pub(super) struct DiffArgs {
    /// CSV of the labels before
    #[arg(value_name = "OLD.csv")]
    old: PathBuf,
    /// CSV of the labels now
    #[arg(value_name = "NEW.csv")]
    new: PathBuf,
    /// Write a page for people: figures, matrix of changes, and the files worth a look
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Write every change as CSV, or - for standard output
    #[arg(short, long, value_name = "FILE.csv")]
    out: Option<PathBuf>,
    /// End with exit code 4 where more files are in another category: a number, or a share such as 0.5%
    #[arg(long, value_name = "N|P%")]
    max_changes: Option<Tolerance>,
    /// Also count and write files of which only the confidence moved, from this difference on
    #[arg(long, value_name = "C", value_parser = difference)]
    min_move: Option<f32>,
    /// Show pictures on the page; the folder below which the paths of the labels lie
    #[arg(long, value_name = "DIR", requires = "html")]
    pictures: Option<PathBuf>,
    /// How many files each list of the page has
    #[arg(short = 'n', long, value_name = "N", default_value_t = 24, requires = "html", value_parser = listed)]
    top: usize,
}

/// Runs `catalog diff`.
pub(super) fn run(arguments: &DiffArgs) -> Result<ExitCode> {
    let readers = [
        LabelsReader::open(&arguments.old)?,
        LabelsReader::open(&arguments.new)?,
    ];
    let has_decisions = readers.iter().all(LabelsReader::has_decisions);
    let mut outputs = Outputs::create(arguments, has_decisions)?;
    let [old, new] = readers;
    let settings = Settings {
        listed: arguments.top,
        least_move: arguments.min_move,
    };
    let figures = compare(old, new, &settings, |change| outputs.write(change))?;
    let runs = [
        Run::read(&arguments.old, figures.old_files),
        Run::read(&arguments.new, figures.new_files),
    ];
    let mismatches: Vec<String> = runs.iter().filter_map(Run::mismatch).collect();
    if let (Some(mismatch), Some(_)) = (mismatches.first(), arguments.max_changes) {
        bail!("{mismatch} Only whole files of labels can be judged by --max-changes");
    }
    let gate = Gate::of(&figures, arguments.max_changes)?;
    let mut remarks = remarks(&figures, &gate);
    remarks.extend(mismatches);
    for remark in &remarks {
        tracing::warn!("{remark}");
    }

    let html = match &arguments.html {
        Some(_) => {
            remarks.extend(runs::same_model(&runs));
            Some(page(arguments, &figures, runs, remarks)?)
        }
        None => None,
    };
    let text = display::text(&figures, space());
    // Where the changes themselves go to standard output, nothing else does.
    if outputs.is_stdout_taken() {
        text.lines().for_each(|line| tracing::info!("{line}"));
    } else {
        print(&text)?;
    }
    outputs.publish(html)?;
    Ok(match gate {
        Gate::Beyond { .. } => ExitCode::from(TOO_MANY_CHANGES),
        Gate::Open | Gate::Within => ExitCode::SUCCESS,
    })
}

/// What `--max-changes` makes of a comparison.
#[derive(Clone, Debug, PartialEq)]
enum Gate {
    /// It was not given.
    Open,
    /// There are no more changes than allowed.
    Within,
    /// There are more.
    Beyond { changed: u64, allowed: String },
}

impl Gate {
    /// Judges the figures.
    ///
    /// # Errors
    /// When there is nothing to judge: labels that have no file in common say nothing about a model.
    fn of(figures: &Figures, allowed: Option<Tolerance>) -> Result<Self> {
        let Some(allowed) = allowed else {
            return Ok(Self::Open);
        };
        ensure!(
            figures.files > 0,
            "no file is in both files of labels, so there is nothing that --max-changes could judge; both have to be of the \
             same folder, with paths written the same way (--relative-to, --absolute)"
        );
        let changed = figures.changed();
        Ok(if allowed.allows(changed, figures.files) {
            Self::Within
        } else {
            Self::Beyond {
                changed,
                allowed: allowed.described(),
            }
        })
    }
}

/// What a reader should know before the figures.
fn remarks(figures: &Figures, gate: &Gate) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Gate::Beyond { changed, allowed } = gate {
        remarks.push(format!(
            "{changed} of {} files are in another category, more than the {allowed} that are allowed.",
            figures.files
        ));
    }
    let (added, gone) = (figures.with(Kind::Added), figures.with(Kind::Gone));
    if figures.files == 0 && added + gone > 0 {
        remarks.push(
            "No file is in both: are the paths written the same way (--relative-to, --absolute)?"
                .to_owned(),
        );
    } else if added + gone > 0 {
        remarks.push(format!(
            "{added} files are only in the new labels and {gone} only in the old ones; they are no changes of category."
        ));
    }
    remarks
}

fn page(
    arguments: &DiffArgs,
    figures: &Figures,
    runs: [Run; 2],
    mut remarks: Vec<String>,
) -> Result<String> {
    let pictures = match &arguments.pictures {
        Some(folder) => pictures::read(folder, figures)?,
        None => pictures::Pictures::default(),
    };
    if pictures.missing > 0 {
        let remark = format!(
            "{} pictures could not be shown: they are not below the folder of the pictures, or damaged.",
            pictures.missing
        );
        tracing::warn!("{remark}");
        remarks.push(remark);
    }
    let report = DiffReport {
        figures,
        runs: runs::facts(&runs),
        names: runs.map(|run| run.name),
        remarks,
        pictures: pictures.by_path,
        footer: format!(
            "Written by catalog {} on {}.",
            env!("CARGO_PKG_VERSION"),
            moment(SystemTime::now())
        ),
    };
    Ok(report.html())
}

/// A difference of two confidences.
fn difference(text: &str) -> Result<f32, &'static str> {
    match text.parse() {
        Ok(difference) if (0.0..=1.0).contains(&difference) => Ok(difference),
        _ => Err("expected a number from 0 to 1, such as 0.1"),
    }
}

/// How many files a list can have: each may bring its picture into the page.
fn listed(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(number) if number <= 1000 => Ok(number),
        _ => Err("expected a number up to 1000"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::figures::tests::{example, figures};

    #[test]
    fn the_gate_counts_changed_categories_of_files_in_both() {
        let gate = |figures: &Figures, allowed: &str| Gate::of(figures, allowed.parse().ok());
        // Four of seven files.
        let figures = example();
        assert_eq!(gate(&figures, "nothing").unwrap(), Gate::Open);
        for within in ["4", "58%", "100%"] {
            assert_eq!(gate(&figures, within).unwrap(), Gate::Within, "{within}");
        }
        for beyond in ["0", "3", "57%"] {
            let gate = gate(&figures, beyond).unwrap();
            assert!(matches!(gate, Gate::Beyond { changed: 4, .. }), "{beyond}");
        }
    }

    #[test]
    fn labels_with_nothing_in_common_pass_no_gate() {
        const HEADER: &str = "path,label,confidence,status,error\n";
        let figures = figures(
            &format!("{HEADER}./a,x,1,ok,\n"),
            &format!("{HEADER}/b/a,x,1,ok,\n"),
        );
        let error = Gate::of(&figures, Some(Tolerance::Percent(100.0)))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no file is in both") && error.contains("--relative-to"),
            "{error}"
        );
        assert!(remarks(&figures, &Gate::Open)[0].contains("No file is in both"));
    }

    #[test]
    fn what_is_only_in_one_is_said() {
        let figures = example();
        let remarks = remarks(
            &figures,
            &Gate::of(&figures, Some(Tolerance::Files(3))).unwrap(),
        );
        assert_eq!(
            remarks,
            [
                "4 of 7 files are in another category, more than the 3 files that are allowed.",
                "1 files are only in the new labels and 1 only in the old ones; they are no changes of category."
            ]
        );
    }
}
