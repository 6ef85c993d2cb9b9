//! ONNX Runtime for the tests: the library the program itself would use, fetched once if it is not there.

use std::sync::OnceLock;

use catalog::runtime::{Need, Runtime, RuntimeSettings, load};

/// The process's library, with the training API.
pub fn training() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let settings = RuntimeSettings::from_environment().unwrap();
        load(&settings, Need::Training).unwrap()
    })
}
