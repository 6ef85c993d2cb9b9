//! Any bytes as a model file, as they are and with the right checksum behind them: without one nothing is read that far.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pipeline::model::ModelFile;

fuzz_target!(|bytes: &[u8]| {
    let _ = ModelFile::from_bytes(bytes.to_vec(), "fuzzed");
    let _ = pipeline::fuzzing::read_sealed_model(bytes);
});
