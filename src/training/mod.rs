//! Training: the loop around ONNX Runtime's training API.
//! What surrounds a training step: batches, augmentation, the learning rate, events and their display, the history of epochs.
//!
//! Everything but [`loader`] (one thread), [`progress`] (the terminal) and saving a [`history`] is pure: values in, values out.
//! Nothing here knows a graph or ONNX Runtime's session types.

pub mod augment;
pub mod events;
pub mod history;
pub mod loader;
pub mod progress;
pub mod schedule;
pub mod session;
