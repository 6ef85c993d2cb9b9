//! ONNX Runtime: which library the process uses, where it comes from, and getting it.
//!
//! [`load`] finds a library, installs one where there is none, and makes it the process's own; everything that runs a model goes
//! through the environment it returns. Sessions, providers and training are none of this module's business.

pub mod cuda;
pub mod install;
pub mod nvidia;
pub mod package;
pub mod pip;
pub(crate) mod staging;
pub mod tensorrt;
pub mod wheel;

mod digest;
mod elf;
mod library;
mod rewrite;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use etcetera::BaseStrategy;
use ort::environment::Environment;

use install::{Depth, Source, State, Store};
use library::Library;
use wheel::{Platform, Wheel, default_wheel, wheels_for};

pub use library::OLDEST_VERSION;

/// Where to look for the library, and whether it may be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// The library to use; none to use the one the program installs. A mere file name that is no file here is looked for
    /// where the system keeps its libraries.
    pub library: Option<PathBuf>,
    /// Folder for installed libraries, which need not exist: see [`default_cache`].
    pub cache: PathBuf,
    /// Never fetch anything.
    pub offline: bool,
}

impl RuntimeSettings {
    /// The settings that the environment asks for: `ORT_DYLIB_PATH`, `CATALOG_CACHE`, `CATALOG_OFFLINE`.
    ///
    /// # Errors
    /// When there is no home folder to put the cache in.
    pub fn from_environment() -> Result<Self> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let false_words = ["0", "n", "no", "f", "false", "off"].map(OsString::from);
        Ok(Self {
            library: set("ORT_DYLIB_PATH").map(PathBuf::from),
            cache: set("CATALOG_CACHE")
                .map(PathBuf::from)
                .map_or_else(default_cache, Ok)?,
            offline: set("CATALOG_OFFLINE")
                .is_some_and(|value| !false_words.contains(&value.to_ascii_lowercase())),
        })
    }
}

/// What a library must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Run models.
    Inference,
    /// Run models and train them.
    Training,
}

/// How the library came to be where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was named by option or environment variable.
    Given,
    /// The program had installed it before.
    Installed,
    /// The program installed it just now.
    Fetched,
}

/// The library of this process.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The library file.
    pub path: PathBuf,
    /// Version of ONNX Runtime.
    pub version: String,
    /// How it came there.
    pub origin: Origin,
    /// Whether it has the training API.
    pub training: bool,
    /// Folder for installed libraries, where those for a GPU are looked for too.
    pub cache: PathBuf,
    /// What sessions and trainers are made in; it lives as long as the process.
    pub environment: Environment,
}

/// The library of this process, with the settings it was loaded with.
static LOADED: Mutex<Option<(RuntimeSettings, Runtime)>> = Mutex::new(None);

/// Finds the library, installing it where there is none, and loads it into the process.
///
/// In this order: the one in `settings`; one that is installed; a newly installed one, unless `settings` forbid that. Another
/// call returns the same library, and is an error when the settings now lead to another one.
///
/// # Errors
/// When there is no library and none can be fetched; when it cannot be loaded, is not ONNX Runtime, is too old, or lacks the
/// training API that `need` asks for. Each says what to do.
pub fn load(settings: &RuntimeSettings, need: Need) -> Result<Runtime> {
    // Held over an installation too: threads that ask at the same time wait for one answer.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((earlier, runtime)) = loaded.as_ref() {
        if earlier != settings {
            let (path, _) = locate(settings, need)?;
            if path != runtime.path {
                bail!(
                    "this process uses the ONNX Runtime library {} and cannot load {} as well; use two processes",
                    runtime.path.display(),
                    path.display()
                );
            }
        }
        require(runtime, need)?;
        return Ok(runtime.clone());
    }
    let (path, origin) = locate(settings, need)?;
    let Library {
        version,
        training,
        environment,
    } = library::load(&path).map_err(|error| anyhow!("{error:#}; {}", advice(origin)))?;
    tracing::debug!("ONNX Runtime {version} from {}", path.display());
    let runtime = Runtime {
        path,
        version,
        origin,
        training,
        cache: settings.cache.clone(),
        environment,
    };
    *loaded = Some((settings.clone(), runtime.clone()));
    require(&runtime, need)?;
    Ok(runtime)
}

/// `catalog` in the user's cache folder: `~/.cache/catalog`, or where `XDG_CACHE_HOME` says.
///
/// # Errors
/// When there is no home folder.
pub fn default_cache() -> Result<PathBuf> {
    let strategy = etcetera::choose_base_strategy()
        .context("there is no home folder to put the cache in; name a folder with --cache DIR or CATALOG_CACHE")?;
    Ok(strategy.cache_dir().join("catalog"))
}

/// The library to load, installed if need be.
fn locate(settings: &RuntimeSettings, need: Need) -> Result<(PathBuf, Origin)> {
    if let Some(library) = settings
        .library
        .as_deref()
        .filter(|library| !library.as_os_str().is_empty())
    {
        return Ok((given(library)?, Origin::Given));
    }
    let store = Store::new(&settings.cache);
    if let Some((wheel, state)) = installed(&store, need) {
        match state {
            State::Damaged(reason) if settings.offline => {
                bail!(
                    "the installed ONNX Runtime {} is damaged ({reason}); {}",
                    wheel.id(),
                    without_network(wheel)
                )
            }
            State::Damaged(reason) => tracing::warn!(
                "the installed ONNX Runtime {} is damaged ({reason})",
                wheel.id()
            ),
            State::Installed | State::Missing => {
                return Ok((absolute(&store.library(wheel))?, Origin::Installed));
            }
        }
        return fetch(&store, wheel);
    }
    let wheel = wheel_to_fetch(Platform::current(), need)?;
    if settings.offline {
        bail!(
            "ONNX Runtime is not installed, and --offline (CATALOG_OFFLINE) forbids to fetch it; {}",
            without_network(wheel)
        );
    }
    fetch(&store, wheel)
}

/// The library that was named, as a path that does not depend on where the program is.
fn given(library: &Path) -> Result<PathBuf> {
    let is_name = library.components().count() == 1 && library.parent() == Some(Path::new(""));
    if library.is_file() {
        absolute(library)
    } else if is_name && !library.exists() {
        Ok(library.to_owned())
    } else {
        let what = if library.exists() {
            "is not a file"
        } else {
            "does not exist"
        };
        bail!(
            "the ONNX Runtime library {} {what}; correct --onnxruntime (ORT_DYLIB_PATH), or leave it out to use the installed one",
            library.display()
        )
    }
}

/// The first library for this platform that is in its place, whole or damaged, and can do what is needed.
fn installed(store: &Store, need: Need) -> Option<(&'static Wheel, State)> {
    let mut damaged = None;
    for wheel in wheels_for(Platform::current()).filter(|wheel| wheel.serves(need)) {
        match store.state(wheel, Depth::Quick) {
            State::Installed => return Some((wheel, State::Installed)),
            State::Missing => {}
            state @ State::Damaged(_) => damaged = damaged.or(Some((wheel, state))),
        }
    }
    damaged
}

fn fetch(store: &Store, wheel: &Wheel) -> Result<(PathBuf, Origin)> {
    tracing::info!(
        "installing ONNX Runtime {} for this and later runs",
        wheel.version
    );
    let installed = store.install(wheel, Source::Pip).context(
        "cannot install ONNX Runtime; run `catalog runtime install` to try again, or name a library with --onnxruntime or ORT_DYLIB_PATH",
    )?;
    let origin = if installed.new {
        Origin::Fetched
    } else {
        Origin::Installed
    };
    Ok((absolute(&installed.path)?, origin))
}

/// The wheel that serves `need` on `platform`.
///
/// # Errors
/// When there is none, with what is possible there.
pub fn wheel_to_fetch(platform: Platform, need: Need) -> Result<&'static Wheel> {
    default_wheel(platform, need).ok_or_else(|| match need {
        Need::Training if default_wheel(platform, Need::Inference).is_some() => anyhow!(
            "training is not available on {platform}: ONNX Runtime with the training API was published for x86-64 Linux only. \
             Train there, and classify here with the model file; or name a library built with the training API with --onnxruntime or ORT_DYLIB_PATH"
        ),
        _ => anyhow!(
            "no ONNX Runtime library is known for {platform}: name one, version {OLDEST_VERSION} or newer, with --onnxruntime or ORT_DYLIB_PATH"
        ),
    })
}

fn require(runtime: &Runtime, need: Need) -> Result<()> {
    if need == Need::Training && !runtime.training {
        bail!(
            "the ONNX Runtime library {} (version {}) has no training API; {}",
            runtime.path.display(),
            runtime.version,
            match wheel_to_fetch(Platform::current(), need) {
                Ok(_) => "leave out --onnxruntime (ORT_DYLIB_PATH) to use the one the program installs, which has it".to_owned(),
                Err(error) => error.to_string(),
            }
        );
    }
    Ok(())
}

/// What to do when a library turns out unusable.
fn advice(origin: Origin) -> &'static str {
    match origin {
        Origin::Given => {
            "correct --onnxruntime (ORT_DYLIB_PATH), or leave it out to use the library the program installs"
        }
        Origin::Installed | Origin::Fetched => {
            "the file is intact but this system cannot use it: name another library with --onnxruntime or ORT_DYLIB_PATH"
        }
    }
}

/// How to get `wheel` installed on a machine that must not fetch it.
fn without_network(wheel: &Wheel) -> String {
    format!(
        "run `catalog runtime install` without --offline, or run `{}` elsewhere and here `catalog runtime install --wheel FILE`, or set ORT_DYLIB_PATH to a library",
        wheel.package().download_command()
    )
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .with_context(|| format!("cannot make {} an absolute path", path.display()))
}
