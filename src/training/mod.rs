//! Training: the loop around ONNX Runtime's training API, and what surrounds it: batches, augmentation, the learning rate, events
//! and their display, the history of epochs, the export of the model file.
//!
//! [`run`] is the loop and [`session`] its only way to ONNX Runtime. Nothing here knows argv; only [`progress`] writes to the
//! terminal.

pub mod augment;
pub mod averaging;
pub mod balance;
pub mod checkpoint;
mod epochs;
pub mod events;
pub mod examples;
pub mod export;
mod fit;
pub mod formulation;
pub mod history;
pub mod loader;
pub mod machine;
pub mod options;
pub mod plan;
pub mod preset;
pub mod progress;
pub mod pruning;
pub mod run;
pub mod schedule;
pub mod session;
pub mod start;
pub mod transfer;
pub mod validation;
pub mod watch;
