//! The command line: argv becomes a clap struct, a clap struct becomes domain values, and nothing past this module sees a flag.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};

pub mod dataset;

/// Sorts product images into categories.
#[derive(Debug, Parser)]
#[command(name = "catalog", version, about, arg_required_else_help = true)]
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
    /// Folder for fetched libraries and data sets [default: `catalog` in the user's cache folder]
    #[arg(long, global = true, value_name = "DIR", env = "CATALOG_CACHE")]
    pub cache: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dataset(dataset::DatasetArgs),
}

/// Runs the program: parses `argv`, starts logging, runs the command, reports an error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Dataset(args) => dataset::run(args, &cli.global),
    };
    result.unwrap_or_else(|error| {
        // Nothing is left to do if stderr is closed too.
        let _ = writeln!(std::io::stderr().lock(), "error: {error:#}");
        ExitCode::FAILURE
    })
}
