//! `catalog` sorts product images into categories: it trains a CNN with ONNX Runtime's training API and labels huge image
//! folders with it. `ARCHITECTURE.md` is the map.

pub mod cli;
pub mod dataset;
pub mod runtime;
