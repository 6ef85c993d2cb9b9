//! The classification half of `catalog`: decoding, preprocessing, the model file and the streaming pipeline.
//!
//! This crate knows nothing of training, gradients, command-line arguments or the terminal.

pub mod atomic_file;
pub mod classify;
pub mod decode;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod model;
pub mod onnx;
pub mod preprocess;
pub mod resize;
