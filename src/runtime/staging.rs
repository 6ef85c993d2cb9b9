//! Folders of the cache in which things are prepared under another name, one process at a time.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// How names of folders begin that are still being prepared or about to be deleted.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// Creates `root` and the folders above it, unless they are there.
pub(crate) fn create(root: &Path) -> Result<()> {
    fs::create_dir_all(root).with_context(|| {
        format!(
            "cannot create the folder {}; choose another place with --cache DIR or CATALOG_CACHE",
            root.display()
        )
    })
}

/// Waits until no other process is at work in `root`; `work` is what such a process does, for the message, as in "installing ONNX
/// Runtime". None on a file system without locks: renaming alone keeps things whole there.
pub(crate) fn lock(root: &Path, work: &str) -> Result<Option<File>> {
    let path = root.join(".lock");
    let describe = || format!("cannot lock {}", path.display());
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(describe)?;
    match file.try_lock() {
        Ok(()) => return Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => {
            tracing::info!("waiting for another process that is {work}")
        }
        Err(fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
            return Ok(None);
        }
        Err(fs::TryLockError::Error(error)) => return Err(error).with_context(describe),
    }
    file.lock().with_context(describe)?;
    Ok(Some(file))
}

/// Deletes what stopped processes left. To be called under the lock only: nobody else is preparing anything then.
pub(crate) fn remove_unfinished(root: &Path) {
    let Ok(entries) = root.read_dir() else {
        return;
    };
    for entry in entries {
        let Ok(entry) = entry else { continue };
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // Leftovers waste room but do no harm: not worth failing for.
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::debug!("cannot delete {}: {error}", entry.path().display());
            }
        }
    }
}

/// An empty folder in `root`, which goes away when it is dropped.
pub(crate) fn temporary(root: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(root)
        .with_context(|| {
            format!(
                "cannot create a folder in {}; choose another place with --cache DIR or CATALOG_CACHE",
                root.display()
            )
        })
}
