//! Any bytes behind the header of a file of PyTorch's weights, and so its pickles.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| catalog::backbone::fuzz_torch_file(bytes));
