//! The integration suite, one binary; the modules are its table of contents.

// A failed expectation is the failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod artifacts;
mod backbone;
mod classify;
mod datasets;
mod decisions;
mod diff;
mod ensemble;
mod evaluate;
mod faults;
mod foreign_backbone;
mod formulations;
mod gradients;
mod graph;
mod mixed_precision;
mod nightly;
mod photos;
mod report;
mod resume;
mod runtime;
mod runtime_commands;
mod start;
mod taxonomy;
mod testenv;
mod training;
mod transfer;
mod tune;
mod unequal_classes;
mod whole_network;
mod wrong_inputs;
