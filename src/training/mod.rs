//! Training: the loop around ONNX Runtime's training API.

pub mod session;
