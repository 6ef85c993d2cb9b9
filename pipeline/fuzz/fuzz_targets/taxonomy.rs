//! Any bytes as a CSV of categories.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pipeline::classify::Taxonomy;

fuzz_target!(|bytes: &[u8]| {
    let labels = ["Coat", "Bag"].map(str::to_owned);
    let _ = Taxonomy::from_bytes("taxonomy.csv", bytes, &labels);
});
