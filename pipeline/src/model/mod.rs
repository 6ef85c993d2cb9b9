//! The model file, the one place where training and classification meet, and the classifier that runs it.
//!
//! A model file is ordinary ONNX that carries labels, preprocessing, temperature, a summary of its training, a self-test and
//! a checksum over all that. Nothing here trains, and nothing here loads the ONNX Runtime library: a program does that once.

mod checksum;
mod classifier;
mod file;
mod foreign;
mod interface;
mod metadata;
mod safety;
#[cfg(test)]
mod testing;

pub use classifier::{Classifier, Device, Predictions, SessionSettings};
pub use file::{ModelFile, ModelFileError, seal};
pub use foreign::{ForeignContract, ForeignFacts, Layout, OutputKind};
pub use metadata::{FORMAT_VERSION, Metadata, SelfTest};
