//! The integration suite, one binary; the modules are its table of contents.

// A failed expectation is the failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod gradients;
mod runtime;
mod whole_network;
