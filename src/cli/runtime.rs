//! `catalog runtime`: shows, installs and checks ONNX Runtime libraries.

use std::iter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use ort::ep::{CPU, CUDA, ExecutionProvider};

use super::table::table;
use super::{GlobalArgs, print};
use crate::runtime::install::{Depth, Source, State, Store, identify, megabytes};
use crate::runtime::pip::Pip;
use crate::runtime::wheel::{Accelerator, Platform, Wheel, wheels_for};
use crate::runtime::{self, Need, Origin, Runtime, RuntimeSettings, cuda, wheel_to_fetch};

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
        Action::Doctor => doctor(&settings),
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

fn doctor(settings: &RuntimeSettings) -> Result<ExitCode> {
    // Looking must not change anything: what would be fetched is said, not fetched.
    let inspected = runtime::load(
        &RuntimeSettings {
            offline: true,
            ..settings.clone()
        },
        Need::Inference,
    );
    let pip = Pip::find();
    let writable = check_writable(&settings.cache);
    let obstacle = match (settings.offline, &pip, &writable) {
        (true, ..) => Some(
            "--offline (CATALOG_OFFLINE) forbids to fetch it; run `catalog runtime install` without it, or with --wheel FILE"
                .to_owned(),
        ),
        (_, Err(error), _) => Some(format!("{error:#}")),
        (.., Err(error)) => Some(format!("{error:#}")),
        _ => None,
    };

    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    row("platform", Platform::current().to_string());
    match &inspected {
        Ok(library) => describe(library, &mut row),
        Err(error) => row("library", format!("none: {}", trouble(settings, error))),
    }
    row(
        "pip",
        pip.as_ref().map_or_else(
            |error| format!("none: {error:#}"),
            |pip| format!("{}, version {}", pip.command(), pip.version),
        ),
    );
    let cache = settings.cache.display();
    row(
        "cache",
        writable.as_ref().map_or_else(
            |error| format!("{cache}: {error:#}"),
            |()| format!("{cache}, writable"),
        ),
    );
    describe_cuda(&mut row, settings);
    let mut healthy = true;
    for (command, need) in [("train", Need::Training), ("classify", Need::Inference)] {
        let verdict = verdict(settings, need, &inspected, obstacle.as_deref());
        healthy &= verdict.is_ok();
        row(
            command,
            verdict.unwrap_or_else(|reason| format!("would not run: {reason}")),
        );
    }
    print(&table(&rows))?;
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn describe(library: &Runtime, row: &mut impl FnMut(&str, String)) {
    let origin = match library.origin {
        Origin::Given => "named by --onnxruntime or ORT_DYLIB_PATH",
        Origin::Installed | Origin::Fetched => {
            "installed by `catalog runtime install` or on first use"
        }
    };
    row("library", format!("{} ({origin})", library.path.display()));
    row("version", library.version.clone());
    row("training API", yes_or_no(library.training).to_owned());
    row("providers", providers());
}

/// Driver, GPUs, and NVIDIA's libraries for each installed ONNX Runtime that can use them. None of them is needed on the CPU.
fn describe_cuda(row: &mut impl FnMut(&str, String), settings: &RuntimeSettings) {
    let driver = cuda::Driver::read();
    let loaded = cuda::load_driver();
    let version = driver.version.as_deref().unwrap_or("unknown version");
    row(
        "NVIDIA driver",
        loaded
            .as_ref()
            .map_or_else(|error| format!("none: {error:#}"), |()| version.to_owned()),
    );
    row(
        "GPUs",
        match driver.gpus.as_slice() {
            [] => "none that the driver names".to_owned(),
            gpus => gpus.join(", "),
        },
    );
    let store = Store::new(&settings.cache);
    let folders = cuda::search_folders();
    for (command, training) in [("train", true), ("classify", false)] {
        let Some(wheel) = wheels_for(Platform::current())
            .find(|wheel| wheel.accelerator == Accelerator::Cuda && wheel.training == training)
        else {
            continue;
        };
        let mut missing = Vec::new();
        if store.state(wheel, Depth::Quick) != State::Installed {
            missing.push(wheel.id());
        }
        for found in cuda::find(cuda::components(wheel.version), &store, &folders) {
            let key = found.component.key;
            match found.folder {
                Some(folder) => row(key, folder.display().to_string()),
                None if found.component.needed => {
                    missing.push(key.to_owned());
                    row(key, "not found".to_owned());
                }
                None => row(key, "not found (not always needed)".to_owned()),
            }
        }
        if loaded.is_err() {
            missing.push("the NVIDIA driver".to_owned());
        }
        row(
            &format!("{command} on CUDA"),
            match missing.as_slice() {
                [] => "would run".to_owned(),
                missing => format!(
                    "would not run: {} missing; see `catalog runtime install --cuda`",
                    missing.join(", ")
                ),
            },
        );
    }
}

/// Why there is no library, in the words of someone who looks and does not fetch.
fn trouble(settings: &RuntimeSettings, error: &anyhow::Error) -> String {
    let store = Store::new(&settings.cache);
    let mut trouble = "not installed".to_owned();
    for wheel in wheels_for(Platform::current()) {
        match store.state(wheel, Depth::Quick) {
            State::Installed => return format!("{error:#}"),
            State::Damaged(reason) => trouble = format!("{} is damaged: {reason}", wheel.id()),
            State::Missing => {}
        }
    }
    if settings.library.is_some() {
        format!("{error:#}")
    } else {
        trouble
    }
}

/// Whether a command would run, given what was found: how, or why not.
fn verdict(
    settings: &RuntimeSettings,
    need: Need,
    inspected: &Result<Runtime>,
    obstacle: Option<&str>,
) -> Result<String, String> {
    match inspected {
        Ok(library) if library.training || need == Need::Inference => {
            return Ok("would run".to_owned());
        }
        Ok(library) if library.origin == Origin::Given => {
            return Err(
                "the library has no training API; leave out --onnxruntime (ORT_DYLIB_PATH)"
                    .to_owned(),
            );
        }
        Err(error) if settings.library.is_some() => return Err(format!("{error:#}")),
        _ => {}
    }
    let wheel = wheel_to_fetch(Platform::current(), need).map_err(|error| format!("{error:#}"))?;
    match (
        Store::new(&settings.cache).state(wheel, Depth::Quick),
        inspected,
        obstacle,
    ) {
        // It is there and whole, so what was found is that this machine cannot load it.
        (State::Installed, Err(error), _) => Err(format!("{error:#}")),
        (State::Installed, Ok(_), _) => Ok("would run".to_owned()),
        (_, _, Some(obstacle)) => Err(format!("{} is not installed, and {obstacle}", wheel.id())),
        (_, _, None) => Ok(format!(
            "would run once {} ({}) is fetched, which happens on first use",
            wheel.id(),
            megabytes(wheel.size)
        )),
    }
}

/// The execution providers that the loaded library was built with, of those the program can use.
fn providers() -> String {
    let known = [
        (CPU::NAME, CPU::is_available()),
        (CUDA::NAME, CUDA::is_available()),
    ];
    let names: Vec<_> = known
        .into_iter()
        .filter(|(_, available)| matches!(available, Ok(true)))
        .map(|(name, _)| name.trim_end_matches("ExecutionProvider"))
        .collect();
    names.join(", ")
}

/// Tries to write into `folder`, or into the nearest folder above it that exists, and leaves nothing behind.
fn check_writable(folder: &Path) -> Result<()> {
    let folder = std::path::absolute(folder)?;
    let existing = folder
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(&folder);
    if let Err(error) = tempfile::tempfile_in(existing) {
        bail!(
            "cannot write to {} ({error}); choose another place with --cache DIR or CATALOG_CACHE",
            existing.display()
        );
    }
    Ok(())
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

    #[test]
    fn an_unwritable_cache_is_noticed_and_a_missing_one_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("a/b");
        check_writable(&missing).unwrap();
        assert!(!folder.path().join("a").exists());
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(check_writable(&folder.path().join("file/b")).is_err());
    }
}
