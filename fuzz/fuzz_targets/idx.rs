//! Any bytes as a file of images and as one of labels, plain or gzip.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("idx-{}", std::process::id())));

fuzz_target!(|bytes: &[u8]| {
    if fs::write(&*FILE, bytes).is_ok() {
        let _ = catalog::dataset::idx::read_images(&FILE);
        let _ = catalog::dataset::idx::read_labels(&FILE);
    }
});
