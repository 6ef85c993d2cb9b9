//! The command line: argv becomes a clap struct, a clap struct becomes domain values, and nothing past this module sees a flag.

mod acceptance;
mod audit;
mod backbone;
mod bytes;
mod classify;
mod dataset;
mod device;
mod diff;
mod ensemble;
mod evaluate;
mod inspect;
mod logging;
mod merge;
mod model;
mod pretrained;
mod runtime;
mod signals;
mod table;
mod terminal;
mod tolerance;
mod train;
mod tune;
mod validation_report;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use clap::{ArgAction, Parser, Subcommand};
use pipeline::decode;

use crate::runtime::{RuntimeSettings, default_cache};

/// The version, and what decides how fast the program is.
fn long_version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        format!(
            "{}\nJPEG for small inputs: {}",
            env!("CARGO_PKG_VERSION"),
            decode::reduced_jpeg_decoder()
        )
    })
}

/// Sorts product images into categories.
#[derive(Debug, Parser)]
#[command(
    name = "catalog",
    version,
    long_version = long_version(),
    about,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Options every command takes.
#[derive(Clone, Debug, clap::Args)]
pub struct GlobalArgs {
    /// Say less: only warnings, errors and results
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice for every detail
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Write log lines as JSON objects
    #[arg(long, global = true)]
    pub json_log: bool,
    /// ONNX Runtime library to use instead of the one the program installs
    #[arg(long, global = true, value_name = "FILE", env = "ORT_DYLIB_PATH")]
    pub onnxruntime: Option<PathBuf>,
    /// Never fetch anything: fail and say what is missing
    #[arg(long, global = true, env = "CATALOG_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub offline: bool,
    /// Folder for fetched libraries, weights and data sets [default: `catalog` in the user's cache folder]
    #[arg(long, global = true, value_name = "DIR", env = "CATALOG_CACHE")]
    pub cache: Option<PathBuf>,
}

impl GlobalArgs {
    /// Where to look for ONNX Runtime, as these options say.
    fn runtime_settings(&self) -> Result<RuntimeSettings> {
        Ok(RuntimeSettings {
            library: self
                .onnxruntime
                .clone()
                .filter(|path| !path.as_os_str().is_empty()),
            cache: self.cache_folder()?,
            offline: self.offline,
        })
    }

    /// The program's cache folder, as these options say.
    fn cache_folder(&self) -> Result<PathBuf> {
        self.cache
            .clone()
            .filter(|path| !path.as_os_str().is_empty())
            .map_or_else(default_cache, Ok)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    Ensemble(ensemble::EnsembleArgs),
    Tune(tune::TuneArgs),
    Classify(Box<classify::ClassifyArgs>),
    Merge(merge::MergeArgs),
    Diff(diff::DiffArgs),
    Evaluate(evaluate::EvaluateArgs),
    Inspect(inspect::InspectArgs),
    Audit(audit::AuditArgs),
    Dataset(dataset::DatasetArgs),
    Backbone(backbone::BackboneArgs),
    Runtime(runtime::RuntimeArgs),
}

/// Exit code of a run whose result is in place, though not every file could be used without complaint.
const NOT_ALL_OK: u8 = 3;

/// Exit code of a comparison that found more changes than were allowed.
const TOO_MANY_CHANGES: u8 = 4;

/// Runs the program: parses `argv`, starts logging, runs the command, reports an error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(&cli.global);
    decode::install_quiet_panic_hook();
    signals::survive_file_size_limit();
    let outcome = match &cli.command {
        Command::Train(arguments) => train::run(arguments, &cli.global),
        Command::Ensemble(arguments) => ensemble::run(arguments, &cli.global),
        Command::Tune(arguments) => tune::run(arguments, &cli.global),
        Command::Classify(arguments) => classify::run(arguments, &cli.global),
        Command::Merge(arguments) => merge::run(arguments),
        Command::Diff(arguments) => diff::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments, &cli.global),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Audit(arguments) => audit::run(arguments, &cli.global),
        Command::Dataset(arguments) => dataset::run(arguments, &cli.global),
        Command::Backbone(arguments) => backbone::run(arguments, &cli.global),
        Command::Runtime(arguments) => runtime::run(arguments, &cli.global),
    };
    outcome.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    })
}

/// The place of the report of a run: beside its labels.
fn report_beside(labels: &Path) -> PathBuf {
    let mut path = OsString::from(labels);
    path.push(".report.json");
    path.into()
}

/// Writes a result to stdout. A reader that went away, as in `| head`, has what it wanted: that is no error.
fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}
