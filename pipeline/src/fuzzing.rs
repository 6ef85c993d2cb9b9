//! What the fuzz targets of `pipeline/fuzz` call where a reader is not public; built under `cfg(fuzzing)` alone.

use std::fs;
use std::path::Path;

use crate::model::ModelFile;

/// Replays `bytes` as a journal kept at `path`.
pub fn replay_journal(path: &Path, bytes: &[u8]) {
    if fs::write(path, bytes).is_ok() {
        let _ = crate::classify::replay(path);
    }
}

/// Reads `bytes` as a model file whose checksum agrees with its content.
pub fn read_sealed_model(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    crate::model::append_checksum(&mut sealed);
    let _ = ModelFile::from_bytes(sealed, "fuzzed");
}
