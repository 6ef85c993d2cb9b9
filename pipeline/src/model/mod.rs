//! The model file, the one place where training and classification meet, and the classifier that runs it.
//!
//! A model file is ordinary ONNX that carries labels, preprocessing, temperature, calibration, a summary of its training, a self-test and
//! a checksum over all that. Nothing here trains, and nothing here loads the ONNX Runtime library: a program does that once.

mod calibration;
mod checksum;
mod classifier;
mod familiarity;
mod file;
mod foreign;
mod interface;
mod metadata;
mod parts;
mod safety;
mod session;
#[cfg(test)]
pub(crate) mod testing;

pub use calibration::{CALIBRATION_VERSION, Calibration, Expectation, Step, Thresholds};
#[cfg(fuzzing)]
pub(crate) use checksum::append as append_checksum;
pub(crate) use checksum::sha256_hex;
pub use classifier::{Classifier, Predictions};
pub use familiarity::{FAMILIARITY_VERSION, Familiarity, familiarity};
pub use file::{ModelFile, ModelFileError, read_unknown, seal};
pub use foreign::{ForeignContract, ForeignFacts, InputContract, Layout, OutputKind};
pub use metadata::{FORMAT_VERSION, Metadata, SelfTest};
pub use session::{ConvolutionSearch, Device, GpuSettings, SessionSettings};
