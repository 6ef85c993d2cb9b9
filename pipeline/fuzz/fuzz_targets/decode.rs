//! Any bytes → one row of the input tensor: an image or a fault, never a panic that escapes and never more memory than the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pipeline::decode::{Limits, decode_bytes, install_quiet_panic_hook};
use pipeline::preprocess::{Colour, Preprocess};

const LIMITS: Limits = Limits {
    max_file_bytes: 1 << 20,
    max_pixels: 1 << 20,
    max_decoded_bytes: 16 << 20,
};

fuzz_target!(init: install_quiet_panic_hook(), |bytes: &[u8]| {
    for reduced_jpeg in [false, true] {
        let preprocess = Preprocess {
            reduced_jpeg,
            ..Preprocess::stretch(7, 5, Colour::Rgb)
        };
        let mut out = vec![0; preprocess.bytes_per_image()];
        let _ = decode_bytes(bytes, &preprocess, &LIMITS, &mut out);
    }
});
