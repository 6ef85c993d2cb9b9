//! Loads a library into the process and finds out what it is.
//!
//! `ort` can take one library and one environment in the life of a process. What it may panic about is turned into errors here,
//! so the rest of the program meets ONNX Runtime only after it is known to be usable.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Result, anyhow, bail};
use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::logging::LogLevel;
use tracing::Level;

/// The oldest version that serves the API this program uses.
pub const OLDEST_VERSION: &str = "1.19";

/// A library that is part of the process from now on.
#[derive(Clone, Debug)]
pub(super) struct Library {
    /// Version as the library gives it; `unknown` when it did not come out.
    pub(super) version: String,
    /// Whether it has the training API.
    pub(super) training: bool,
    /// Keeps the library's thread pools and logger alive.
    pub(super) environment: Environment,
}

/// The library `ort` has taken, if any: it never lets go of it, even when what follows fails.
static TAKEN: OnceLock<PathBuf> = OnceLock::new();

/// Loads the library at `path`.
///
/// # Errors
/// When it cannot be loaded, is not ONNX Runtime, is too old, or the process has another one.
pub(super) fn load(path: &Path) -> Result<Library> {
    if let Some(taken) = TAKEN.get() {
        bail!(
            "this process uses the ONNX Runtime library {} and cannot load another",
            taken.display()
        );
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| load_unguarded(path)));
    outcome.unwrap_or_else(|_| Err(anyhow!("{} is not a usable ONNX Runtime library: it does not serve the API of {OLDEST_VERSION}", path.display())))
}

fn load_unguarded(path: &Path) -> Result<Library> {
    let (builder, version) = capture_version(|| ort::init_from(path));
    let builder = builder.map_err(|error| describe(error, path))?;
    let _ = TAKEN.set(path.to_owned());
    let environment = builder
        .with_name("catalog")
        .with_telemetry(false)
        .build()
        .map_err(|error| anyhow!("{}: cannot start ONNX Runtime: {error}", path.display()))?;
    // Anything chattier is formatted by the library for each session and each run, wanted or not.
    environment.set_log_level(LogLevel::Warning);
    let training = ort::training::training_api().is_ok();
    Ok(Library {
        version: version.unwrap_or_else(|| "unknown".to_owned()),
        training,
        environment,
    })
}

/// Runs `load` and picks the library's version out of what `ort` logs meanwhile, the only place where it gives it away.
fn capture_version<T>(load: impl FnOnce() -> T) -> (T, Option<String>) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let result = tracing::subscriber::with_default(subscriber, load);
    let text = log.0.lock().unwrap_or_else(PoisonError::into_inner);
    (result, version_in(&String::from_utf8_lossy(&text)))
}

/// Keeps what is logged in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text between quotation marks behind the last `version`: `… Loaded ONNX Runtime dylib from "…"; version '1.19.2'`.
fn version_in(log: &str) -> Option<String> {
    let (_, rest) = log.rsplit_once("version '")?;
    let (version, _) = rest.split_once('\'')?;
    Some(version.to_owned())
}

fn describe(error: LoadDynamicError, path: &Path) -> anyhow::Error {
    let path = path.display();
    match error {
        LoadDynamicError::Dlopen { error, .. } => {
            // The system's reason hides behind the error of the call.
            let reason = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string);
            anyhow!("cannot load the ONNX Runtime library {path}: {reason}")
        }
        LoadDynamicError::MissingApi { .. } => {
            anyhow!("{path} is not an ONNX Runtime library: it does not export `OrtGetApiBase`")
        }
        LoadDynamicError::InvalidVersionString => {
            anyhow!("{path} is not a usable ONNX Runtime library: its version is not text")
        }
        LoadDynamicError::BadVersion { version_str, .. } => {
            anyhow!(
                "{path} is ONNX Runtime {version_str}, which is too old: {OLDEST_VERSION} or newer is needed"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_log() {
        let log = "INFO ort: ort 2.0 was designed for '1.19.x' and is version '1.32.0'\nINFO ort: Loaded from \"/a/b.so\"; version '1.32.0'\n";
        assert_eq!(version_in(log).as_deref(), Some("1.32.0"));
        assert_eq!(version_in("INFO nothing of the kind"), None);
        let ((), version) = capture_version(|| tracing::info!("Loaded; version '1.19.2'"));
        assert_eq!(version.as_deref(), Some("1.19.2"));
    }

    #[test]
    fn a_file_that_is_no_library_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "label,confidence\n").unwrap();
        let message = format!("{:#}", load_unguarded(file.path()).unwrap_err());
        assert!(
            message.starts_with("cannot load the ONNX Runtime library")
                && message.contains(&file.path().display().to_string()),
            "{message}"
        );
    }

    #[test]
    fn an_old_version_is_named_with_the_one_needed() {
        let error = LoadDynamicError::BadVersion {
            version_str: "1.18.1".to_owned(),
            path: PathBuf::new(),
        };
        let message = describe(error, Path::new("old.so")).to_string();
        assert_eq!(
            message,
            "old.so is ONNX Runtime 1.18.1, which is too old: 1.19 or newer is needed"
        );
    }
}
