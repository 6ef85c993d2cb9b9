//! Any bytes as a CSV of labels, the reader of `catalog diff`.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pipeline::classify::LabelsReader;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut reader) = LabelsReader::new(Path::new("labels.csv"), bytes) {
        while let Ok(Some(_)) = reader.next_row() {}
    }
});
