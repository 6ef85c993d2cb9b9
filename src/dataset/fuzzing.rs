//! What the fuzz targets of `fuzz/` call where a reader is not public; built under `cfg(fuzzing)` alone.

use std::path::Path;

use super::{manifest, pixel_csv};

/// Reads a CSV of 785 columns.
pub fn read_pixel_csv(path: &Path) {
    let _ = pixel_csv::read(path);
}

/// Reads a CSV of paths and labels.
pub fn list_manifest(path: &Path) {
    let _ = manifest::list(path);
}
