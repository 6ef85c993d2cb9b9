//! `catalog runtime doctor`: what this machine has, and which commands would run on it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use ort::ep::{CPU, CUDA, ExecutionProvider, TensorRT};

use super::yes_or_no;
use crate::cli::print;
use crate::cli::table::table;
use crate::runtime::install::{Depth, State, Store, megabytes};
use crate::runtime::pip::Pip;
use crate::runtime::wheel::{Accelerator, Platform, wheels_for};
use crate::runtime::{
    self, Need, Origin, Runtime, RuntimeSettings, cuda, tensorrt, wheel_to_fetch,
};

/// Runs `catalog runtime doctor`.
pub(super) fn run(settings: &RuntimeSettings) -> Result<ExitCode> {
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
        let on_cuda = match missing.as_slice() {
            [] => "would run".to_owned(),
            missing => format!(
                "would not run: {} missing; see `catalog runtime install --cuda`",
                missing.join(", ")
            ),
        };
        row(&format!("{command} on CUDA"), on_cuda);
        if !training {
            describe_tensorrt(row, missing.is_empty());
        }
    }
}

/// Where TensorRT is, if anywhere, and whether `classify` would run with it.
fn describe_tensorrt(row: &mut impl FnMut(&str, String), cuda_would_run: bool) {
    let folders = tensorrt::search_folders();
    let found = tensorrt::find(&folders);
    row(
        tensorrt::KEY,
        match &found {
            Ok(folder) => folder.display().to_string(),
            Err(_) => "not found (for --device tensorrt only)".to_owned(),
        },
    );
    row(
        "classify on TensorRT",
        match found {
            Err(error) => format!("would not run: {error:#}"),
            Ok(_) if cuda_would_run => "would run".to_owned(),
            Ok(_) => "would not run: it needs all that CUDA needs".to_owned(),
        },
    );
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
        (TensorRT::NAME, TensorRT::is_available()),
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

#[cfg(test)]
mod tests {
    use super::*;

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
