//! What ONNX Runtime needs to compute on NVIDIA GPUs: finding the driver and NVIDIA's libraries, and loading those beforehand.
//!
//! A library that the process has loaded already is the one ONNX Runtime's CUDA provider gets, whatever the system's search path
//! says: so nothing needs to be set in the environment. Which device a command uses is not decided here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::Runtime;
use super::install::{Depth, State, Store};
use super::nvidia::{CUDA_11, CUDA_13, Component};

/// The file beside the ONNX Runtime library that computes on NVIDIA GPUs.
const PROVIDER: &str = "libonnxruntime_providers_cuda.so";
/// The part of the driver that programs load.
const DRIVER: &str = "libcuda.so.1";
/// Where the driver describes itself and the GPUs.
const DRIVER_FACTS: &str = "/proc/driver/nvidia";
/// Where Debian's packages put libraries.
pub(super) const SYSTEM_LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
/// Where Python may be installed for everybody.
pub(super) const SYSTEM_PYTHONS: [&str; 3] = ["/usr/local", "/usr", "/opt/conda"];

/// A library of NVIDIA's, and where it is.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was looked for.
    pub component: &'static Component,
    /// The folder that holds it; none where it was not found.
    pub folder: Option<PathBuf>,
}

/// What the driver says about this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Version of the driver, where it tells.
    pub version: Option<String>,
    /// Names of the GPUs, in the order of their bus addresses. Empty also where the driver tells nothing, as under WSL.
    pub gpus: Vec<String>,
}

impl Driver {
    /// Reads what the driver of this machine tells.
    pub fn read() -> Self {
        Self::read_from(Path::new(DRIVER_FACTS))
    }

    fn read_from(facts: &Path) -> Self {
        let version = fs::read_to_string(facts.join("version")).ok();
        let mut gpus = entries(&facts.join("gpus"));
        gpus.sort();
        let model = |gpu: &PathBuf| {
            let text = fs::read_to_string(gpu.join("information")).ok()?;
            let model = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
            Some(model.trim().to_owned())
        };
        Self {
            version: version.as_deref().and_then(version_in),
            gpus: gpus.iter().filter_map(model).collect(),
        }
    }
}

/// The first word of digits and points: `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 …`.
fn version_in(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        word.contains('.')
            && word
                .chars()
                .all(|letter| letter == '.' || letter.is_ascii_digit())
    };
    text.split_whitespace()
        .find(is_version)
        .map(ToOwned::to_owned)
}

/// Loads the driver's library; the error says that there is none, and what to do.
///
/// # Errors
/// When this machine has no driver for NVIDIA GPUs, or it cannot be loaded.
pub fn load_driver() -> Result<()> {
    ort::util::preload_dylib(DRIVER).map_err(|error| {
        let reason = std::error::Error::source(&error)
            .map_or_else(|| error.to_string(), ToString::to_string);
        anyhow!("no driver for NVIDIA GPUs was found ({reason}); install it, or in a container pass the GPU through, or use --device cpu")
    })
}

/// The libraries that ONNX Runtime of this version needs on a GPU, in the order of loading.
pub fn components(version: &str) -> &'static [Component] {
    // The last builds with the training API are older than CUDA 12.
    if version.starts_with("1.19.") {
        CUDA_11
    } else {
        CUDA_13
    }
}

/// Looks for `components`: first among what the program installed, then in `folders`, the first of which wins. All files of one
/// component come from one folder, so that versions are never mixed.
pub fn find(components: &'static [Component], store: &Store, folders: &[PathBuf]) -> Vec<Found> {
    let folder = |component: &Component| {
        if store.state(&component.wheel, Depth::Quick) == State::Installed {
            return store.library(&component.wheel).parent().map(Path::to_owned);
        }
        folders
            .iter()
            .find(|folder| folder.join(component.key).is_file())
            .cloned()
    };
    components
        .iter()
        .map(|component| Found {
            component,
            folder: folder(component),
        })
        .collect()
}

/// The files to load, each after those it needs. What an installation of another version lacks is left out.
///
/// # Errors
/// When a needed library was not found: which, and what to run.
fn preload_order(found: &[Found]) -> Result<Vec<PathBuf>> {
    let missing: Vec<_> = found
        .iter()
        .filter(|found| found.component.needed && found.folder.is_none())
        .map(|found| format!("{} ({})", found.component.key, found.component.wheel.id()))
        .collect();
    ensure!(
        missing.is_empty(),
        "libraries of NVIDIA's are missing: {}; run `catalog runtime install --cuda`, or set CUDA_HOME or VIRTUAL_ENV to where they are",
        missing.join(", ")
    );
    let files = found.iter().flat_map(|found| {
        let folder = found.folder.as_deref();
        let files = found.component.wheel.files.iter();
        files.filter_map(move |member| Some(folder?.join(member.name)))
    });
    Ok(files.filter(|path| path.is_file()).collect())
}

/// Makes the process ready for GPU `number` of `runtime`: checks driver, GPU and libraries, and loads these.
///
/// # Errors
/// When a piece is missing or cannot be loaded; the message names it and says what to do.
pub fn prepare(runtime: &Runtime, number: u32) -> Result<()> {
    check_provider(&runtime.path, &runtime.version)?;
    load_driver()?;
    check_number(&Driver::read(), number)?;
    let store = Store::new(&runtime.cache);
    let found = find(components(&runtime.version), &store, &search_folders());
    for path in preload_order(&found)? {
        ort::util::preload_dylib(&path)
            .with_context(|| format!("cannot load {}", path.display()))?;
        tracing::debug!("loaded {}", path.display());
    }
    Ok(())
}

/// Whether the library at `path` can compute on GPUs at all.
///
/// # Errors
/// When nothing beside it does that.
pub fn check_provider(path: &Path, version: &str) -> Result<()> {
    ensure!(
        path.with_file_name(PROVIDER).is_file(),
        "ONNX Runtime {version} here is a build without CUDA: {PROVIDER} is not beside {}; run `catalog runtime install --cuda`",
        path.display()
    );
    Ok(())
}

fn check_number(driver: &Driver, number: u32) -> Result<()> {
    let count = driver.gpus.len();
    if count > 0 && number as usize >= count {
        bail!(
            "there is no GPU {number}: this machine has {count}, counted from 0 ({})",
            driver.gpus.join(", ")
        );
    }
    Ok(())
}

/// The folders where NVIDIA's libraries may lie that this program did not install: CUDA's own, then those of Python environments.
pub fn search_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        if let Some(root) = env::var_os(name).filter(|root| !root.is_empty()) {
            folders.push(PathBuf::from(root).join("lib64"));
        }
    }
    for root in python_environments() {
        folders.extend(python_folders(&root));
    }
    let mut installations: Vec<_> = entries(Path::new("/usr/local"))
        .into_iter()
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("cuda"))
        })
        .collect();
    installations.sort();
    folders.extend(installations.into_iter().map(|root| root.join("lib64")));
    folders.push(PathBuf::from(SYSTEM_LIBRARIES));
    for root in SYSTEM_PYTHONS {
        folders.extend(python_folders(Path::new(root)));
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

/// The Python environments that are set up for this process.
pub(super) fn python_environments() -> Vec<PathBuf> {
    let names = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter();
    let roots = names.filter_map(env::var_os);
    roots
        .filter(|root| !root.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// The folders of the Python packages under `root`, sorted.
pub(super) fn site_packages(root: &Path) -> Vec<PathBuf> {
    let mut pythons = entries(&root.join("lib"));
    pythons.retain(|python| {
        let name = python.file_name().map(|name| name.to_string_lossy());
        name.is_some_and(|name| name.starts_with("python3"))
    });
    pythons.sort();
    let folders = pythons.iter().flat_map(|python| {
        ["dist-packages", "site-packages"].map(|packages| python.join(packages))
    });
    folders.filter(|folder| folder.is_dir()).collect()
}

/// The folders `nvidia/*/lib` of the Python packages under `root`, sorted.
fn python_folders(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> = site_packages(root)
        .iter()
        .flat_map(|packages| entries(&packages.join("nvidia")))
        .map(|folder| folder.join("lib"))
        .collect();
    folders.sort();
    folders
}

/// What is in `folder`; nothing where it cannot be read, which here means that there is nothing to find.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else {
        return Vec::new();
    };
    let mut paths = Vec::new();
    for entry in entries {
        let Ok(entry) = entry else { continue };
        paths.push(entry.path());
    }
    paths
}

#[cfg(test)]
#[path = "cuda_tests.rs"]
mod tests;
