//! Any bytes as a CSV of 785 columns.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("pixel_csv-{}", std::process::id())));

fuzz_target!(|bytes: &[u8]| {
    if fs::write(&*FILE, bytes).is_ok() {
        catalog::dataset::fuzzing::read_pixel_csv(&FILE);
    }
});
