//! `catalog runtime`: shows, installs and checks ONNX Runtime libraries.

mod doctor;

use std::iter;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::table::table;
use super::{GlobalArgs, print};
use crate::runtime::install::{Depth, Source, State, Store, identify, megabytes};
use crate::runtime::wheel::{Accelerator, Platform, Wheel, wheels_for};
use crate::runtime::{Need, RuntimeSettings, cuda, wheel_to_fetch};

/// Show, install and check ONNX Runtime libraries
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  catalog runtime doctor                what would be used, and whether it works
  catalog runtime install               fetch the library now instead of on first use
  catalog runtime install --cuda        fetch all that training and classification on a GPU need
  catalog runtime install --wheel FILE  install from a wheel that was fetched elsewhere")]
pub(super) struct RuntimeArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the libraries known for this machine, and which are installed
    List,
    /// Install a library: by default the one that trains and classifies on the CPU
    Install(InstallArgs),
    /// Say which library would be used and whether training and classification would run
    Doctor,
}

#[derive(Debug, Args)]
struct InstallArgs {
    /// Name of a library as `list` shows it
    #[arg(value_name = "NAME", conflicts_with_all = ["cuda", "wheel"])]
    name: Option<String>,
    /// Install all that training and classification on NVIDIA GPUs need: ONNX Runtime for each, and NVIDIA's libraries (about 3 GB)
    #[arg(long, conflicts_with = "wheel")]
    cuda: bool,
    /// Install from this wheel instead of fetching one; its SHA-256 says which library it is
    #[arg(long, value_name = "FILE")]
    wheel: Option<PathBuf>,
}

/// Runs `catalog runtime`.
pub(super) fn run(arguments: &RuntimeArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let settings = global.runtime_settings()?;
    match &arguments.action {
        Action::List => list(&settings),
        Action::Install(options) => install(&settings, options),
        Action::Doctor => doctor::run(&settings),
    }
}

fn list(settings: &RuntimeSettings) -> Result<ExitCode> {
    let store = Store::new(&settings.cache);
    let heading = [
        "NAME", "VERSION", "DEVICE", "TRAINING", "DOWNLOAD", "ON DISK", "STATUS",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    for wheel in wheels_for(Platform::current()) {
        let status = match store.state(wheel, Depth::Quick) {
            State::Installed => store.library(wheel).display().to_string(),
            State::Missing => "not installed".to_owned(),
            State::Damaged(reason) => format!("damaged: {reason}"),
        };
        rows.push([
            wheel.name.to_owned(),
            wheel.version.to_owned(),
            device(wheel).to_owned(),
            yes_or_no(wheel.training).to_owned(),
            megabytes(wheel.size),
            megabytes(wheel.installed_size()),
            status,
        ]);
    }
    print(&table(&rows))?;
    if rows.len() == 1 {
        tracing::warn!(
            "no library is known for {}: name one with --onnxruntime or ORT_DYLIB_PATH",
            Platform::current()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn install(settings: &RuntimeSettings, options: &InstallArgs) -> Result<ExitCode> {
    let source = match &options.wheel {
        Some(path) => Source::File(path),
        None => Source::Pip,
    };
    let wheels = match options.cuda {
        true => for_cuda(Platform::current())?,
        false => vec![choose(options)?],
    };
    let store = Store::new(&settings.cache);
    for wheel in wheels {
        install_one(settings, &store, wheel, source)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs a wheel and prints where its library is.
fn install_one(
    settings: &RuntimeSettings,
    store: &Store,
    wheel: &Wheel,
    source: Source<'_>,
) -> Result<()> {
    if settings.offline
        && matches!(source, Source::Pip)
        && store.state(wheel, Depth::Full) != State::Installed
    {
        bail!(
            "--offline (CATALOG_OFFLINE) forbids to fetch {}; run `{}` on a machine with network, then here `catalog runtime install --wheel FILE`",
            wheel.id(),
            wheel.package().download_command()
        );
    }
    let installed = store.install(wheel, source)?;
    if !installed.new {
        tracing::info!("{} was installed already", wheel.id());
    }
    print(&format!("{}\n", installed.path.display()))
}

/// All wheels that commands on a GPU need: ONNX Runtime for each command, and NVIDIA's libraries for each of those.
fn for_cuda(platform: Platform) -> Result<Vec<&'static Wheel>> {
    let libraries = wheels_for(platform).filter(|wheel| wheel.accelerator == Accelerator::Cuda);
    let wheels: Vec<_> = libraries
        .flat_map(|library| {
            let needed = cuda::components(library.version).iter();
            iter::once(library).chain(needed.map(|component| &component.wheel))
        })
        .collect();
    if wheels.is_empty() {
        bail!("no library for NVIDIA GPUs is known for {platform}; they exist for x86-64 Linux");
    }
    Ok(wheels)
}

/// The wheel that the options ask for.
fn choose(options: &InstallArgs) -> Result<&'static Wheel> {
    let platform = Platform::current();
    if let Some(path) = &options.wheel {
        let for_cuda = for_cuda(platform).unwrap_or_default();
        return identify(path, wheels_for(platform).chain(for_cuda));
    }
    if let Some(name) = &options.name {
        if let Some(wheel) =
            wheels_for(platform).find(|wheel| wheel.name == name || wheel.id() == *name)
        {
            return Ok(wheel);
        }
        let names: Vec<_> = wheels_for(platform).map(|wheel| wheel.name).collect();
        bail!(
            "no library {name:?} is known for {platform}; there are: {}",
            names.join(", ")
        );
    }
    wheel_to_fetch(platform, Need::Training).or_else(|_| wheel_to_fetch(platform, Need::Inference))
}

fn device(wheel: &Wheel) -> &'static str {
    match wheel.accelerator {
        Accelerator::None => "cpu",
        Accelerator::Cuda => "cpu, cuda",
    }
}

fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_chosen_by_name_or_by_what_it_can_do() {
        let options = |name: Option<&str>| InstallArgs {
            name: name.map(str::to_owned),
            cuda: false,
            wheel: None,
        };
        let message = choose(&options(Some("tensorflow")))
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("no library \"tensorflow\" is known for"),
            "{message}"
        );
        if Platform::current()
            == (Platform {
                system: "linux",
                processor: "x86_64",
            })
        {
            assert_eq!(
                choose(&options(None)).unwrap().id(),
                "onnxruntime-training-cpu-1.19.2"
            );
            let ids: Vec<_> = for_cuda(Platform::current())
                .unwrap()
                .into_iter()
                .map(Wheel::id)
                .collect();
            assert_eq!(ids.len(), 15, "{ids:?}");
            for id in [
                "onnxruntime-gpu-1.31.1",
                "onnxruntime-training-1.19.2",
                "nvidia-cudnn-cu11-8.9.6.50",
                "nvidia-cudnn-cu13-9.19.0.56",
            ] {
                assert!(ids.iter().any(|known| known == id), "{id}");
            }
            assert_eq!(
                choose(&options(Some("onnxruntime"))).unwrap().id(),
                "onnxruntime-1.32.0"
            );
            assert_eq!(
                choose(&options(Some("onnxruntime-gpu-1.31.1")))
                    .unwrap()
                    .id(),
                "onnxruntime-gpu-1.31.1"
            );
        }
    }
}
