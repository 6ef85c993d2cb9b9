//! The options of `catalog classify`, and the settings they stand for.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use pipeline::classify::{
    DEFAULT_MEMORY_BUDGET, DEFAULT_READERS, Destination, Format, Inputs, Link, Naming, Restart,
    Settings, Shard, SortInto, Taxonomy, read_list,
};
use pipeline::decode::Limits;

use crate::cli::acceptance::AcceptanceArgs;
use crate::cli::model::{ModelArgs, at_least_one, cores};
use crate::cli::report_beside;
use crate::cli::tolerance::Tolerance;

/// Label every image under some folders
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  catalog classify photos --out labels.csv
  catalog classify photos --out labels.csv --model models/fashion/model.onnx
  catalog classify photos --out labels.csv --model model.onnx --top-k 3 --report run.json
  catalog classify photos --out monday.csv --previous sunday.csv --max-failures 1%
  catalog classify photos --out part-2.csv --shard 2/8
  catalog classify photos --out labels.csv --sort-into sorted --link symbolic
  catalog classify photos --out labels.csv --target-precision 0.99
  catalog classify photos --out labels.csv --target-precision 0.99 --taxonomy taxonomy.csv --reject-unknown
  find photos -name '*.jpg' -print0 | catalog classify --files-from - --null --out - --format jsonl
  catalog classify photos --out labels.csv --model other.onnx --labels names.txt --preprocess contract.json

A run that was stopped goes on where it was when the same command is run again. What is done lies in a folder beside the
labels (labels.csv.state), which also tells the next run which files did not change.

Exit codes: 0 every file was classified, or no more than --max-failures were not; 1 nothing was published, 2 wrong usage,
3 the labels are published, but more files than tolerated are damaged or no images,
130, 143 or 129 stopped by Ctrl-C, SIGTERM or SIGHUP; nothing was published, the same command goes on")]
pub(in crate::cli) struct ClassifyArgs {
    /// Folders, searched with everything below them, and image files
    #[arg(required_unless_present = "files_from", value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// File to write, or - for standard output; a file appears whole when the run is over, replacing an old one
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// How many classes to write per image, most probable first
    #[arg(short = 'k', long, value_name = "K", default_value_t = 1)]
    top_k: usize,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// Threads that decode images [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = at_least_one)]
    jobs: Option<usize>,
    /// Threads that run the model, those of all its sessions on a device together [default: as many as decode]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) model_threads: Option<usize>,
    /// Threads that read files before they are decoded; more help where opening a file takes long, as on a network, and 0 leaves
    /// reading to those that decode
    #[arg(long, value_name = "N", default_value_t = DEFAULT_READERS)]
    readers: usize,
    /// Sessions of the model on each device, which take batches in turn [default: 2 on a GPU; on the CPU one
    /// for each thread of the model, 4 at most]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) sessions: Option<usize>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    acceptance: AcceptanceArgs,
    #[command(flatten)]
    unknown: UnknownArgs,
    #[command(flatten)]
    earlier: EarlierArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Which files, and what they are called.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
struct FileArgs {
    /// Take the files to classify from a list, one a line; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    files_from: Option<PathBuf>,
    /// The list has a NUL behind each name, as of `find -print0`
    #[arg(short = '0', long, requires = "files_from")]
    null: bool,
    /// Write paths relative to this folder
    #[arg(long, value_name = "DIR", conflicts_with = "absolute")]
    relative_to: Option<PathBuf>,
    /// Write absolute paths
    #[arg(long)]
    absolute: bool,
    /// Classify only share I of N of the files; `catalog merge` joins the shares
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
}

/// What is written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// How labels are written
    #[arg(long, value_enum, default_value_t = FormatArg::Csv)]
    format: FormatArg,
    /// Write the CSV for Excel: with a byte order mark and CRLF
    #[arg(long, conflicts_with = "format")]
    excel: bool,
    /// CSV with the columns label, path (such as `Clothes > Tops > Shirts`) and, if wished, external_id: rows get their category
    #[arg(long, value_name = "FILE.csv")]
    taxonomy: Option<PathBuf>,
    /// Sort the files into a new folder with one folder a class, `review` for what is not accepted, and `failed` for the rest
    #[arg(long, value_name = "DIR")]
    sort_into: Option<PathBuf>,
    /// What stands for a file in the sorted folder
    #[arg(long, value_enum, default_value_t = LinkArg::Hard, requires = "sort_into")]
    link: LinkArg,
    /// JSON file for the figures of the run [default: the name of the labels and .report.json]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    Csv,
    /// One JSON object a line
    Jsonl,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LinkArg {
    Hard,
    Symbolic,
    Copy,
}

/// What is taken for something the model does not know.
#[derive(Debug, Args)]
#[command(next_help_heading = "Decisions")]
struct UnknownArgs {
    /// Tell pictures that look like none of the classes, keeping this share of known ones [0.95 where none is given]
    #[arg(long, value_name = "SHARE", num_args = 0..=1, require_equals = true, default_missing_value = "0.95", value_parser = share)]
    reject_unknown: Option<f64>,
}

/// What earlier runs did.
#[derive(Debug, Args)]
#[command(next_help_heading = "Earlier runs")]
struct EarlierArgs {
    /// Go on where a stopped run was [default where there is one]; refuse to start over where settings changed
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Start anew, whatever was done before
    #[arg(long)]
    overwrite: bool,
    /// Take the labels of unchanged files from another run: the file it wrote, or its journal
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// Tell unchanged files by their content, not by size and time of change
    #[arg(long)]
    by_content: bool,
}

/// What is tolerated.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// End with success while no more files than this are not ok: a number, or a share such as 0.5%
    #[arg(long, value_name = "N|P%", default_value = "0")]
    max_failures: Tolerance,
    /// End the run, without publishing anything, once there are more failures than --max-failures
    #[arg(long)]
    fail_fast: bool,
    /// Memory for files and decoded images, such as 512M or 2G
    #[arg(long, value_name = "SIZE", default_value_t = DEFAULT_MEMORY_BUDGET, value_parser = crate::cli::bytes::size)]
    memory_budget: u64,
    /// Refuse images of more pixels
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_pixels)]
    max_pixels: u64,
    /// Refuse files of more bytes
    #[arg(long, value_name = "SIZE", default_value_t = Limits::default().max_file_bytes, value_parser = crate::cli::bytes::size)]
    max_file_bytes: u64,
}

impl ClassifyArgs {
    /// What the options ask for.
    pub(super) fn settings(&self) -> Result<Settings> {
        let LimitArgs {
            max_failures,
            fail_fast,
            memory_budget,
            max_pixels,
            max_file_bytes,
        } = &self.limits;
        let EarlierArgs {
            resume,
            overwrite,
            previous,
            by_content,
        } = &self.earlier;
        let output = if self.out.as_os_str() == "-" {
            ensure!(
                !resume,
                "--resume needs a file to go on with, not standard output"
            );
            Destination::Stdout
        } else {
            Destination::File(self.out.clone())
        };
        let stop_after_failures = match (fail_fast, max_failures) {
            (false, _) => None,
            (true, Tolerance::Files(files)) => Some(*files),
            (true, Tolerance::Percent(_)) => anyhow::bail!(
                "--fail-fast needs a number in --max-failures: a share is known only at the end"
            ),
        };
        Ok(Settings {
            format: match (self.output.excel, self.output.format) {
                (true, _) => Format::Excel,
                (false, FormatArg::Csv) => Format::Csv,
                (false, FormatArg::Jsonl) => Format::Jsonl,
            },
            top_k: self.top_k,
            batch_size: self.model.batch_size(),
            jobs: self.jobs.unwrap_or_else(cores),
            readers: self.readers,
            limits: Limits {
                max_pixels: *max_pixels,
                max_file_bytes: *max_file_bytes,
                ..Limits::default()
            },
            memory_budget: *memory_budget,
            shard: self.files.shard,
            restart: match (resume, overwrite) {
                (_, true) => Restart::Anew,
                (true, false) => Restart::OnlyContinue,
                (false, false) => Restart::Continue,
            },
            previous: previous.clone(),
            by_content: *by_content,
            acceptance: self.acceptance.acceptance(),
            reject_unknown: self.unknown.reject_unknown,
            sort_into: self.output.sort_into.clone().map(|folder| SortInto {
                folder,
                link: match self.output.link {
                    LinkArg::Hard => Link::Hard,
                    LinkArg::Symbolic => Link::Symbolic,
                    LinkArg::Copy => Link::Copy,
                },
            }),
            stop_after_failures,
            ..Settings::new(self.inputs()?, output)
        })
    }

    /// The categories of the model's labels, where they were given.
    pub(super) fn taxonomy(&self, labels: &[String]) -> Result<Option<Taxonomy>> {
        let path = self.output.taxonomy.as_deref();
        path.map(|path| Taxonomy::read(path, labels)).transpose()
    }

    fn inputs(&self) -> Result<Inputs> {
        let FileArgs {
            files_from,
            null,
            relative_to,
            absolute,
            shard: _,
        } = &self.files;
        let naming = match relative_to {
            Some(folder) => Naming::RelativeTo(folder.clone()),
            None if *absolute => Naming::Absolute,
            None => Naming::AsGiven,
        };
        let Some(list) = files_from else {
            return Inputs::new(&self.paths, naming);
        };
        let separator = if *null { 0 } else { b'\n' };
        let paths = if list.as_os_str() == "-" {
            read_list(io::stdin().lock(), separator)
        } else {
            File::open(list).and_then(|file| read_list(BufReader::new(file), separator))
        };
        Inputs::from_list(
            paths.with_context(|| format!("the list {} cannot be read", list.display()))?,
            naming,
        )
    }

    /// Where the figures go; nowhere where labels go to standard output and no file was named.
    pub(super) fn report(&self) -> Option<PathBuf> {
        match &self.output.report {
            Some(path) => Some(path.clone()),
            None if self.out.as_os_str() == "-" => None,
            None => Some(report_beside(&self.out)),
        }
    }

    /// How many failures are no reason to complain.
    pub(super) fn max_failures(&self) -> Tolerance {
        self.limits.max_failures
    }
}

/// A share of which something is kept and something is not.
fn share(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("expected a number above 0 and below 1, such as 0.99"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_neither_nothing_nor_everything() {
        assert_eq!(share("0.95"), Ok(0.95));
        for wrong in ["0", "1", "95%", "NaN", ""] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
