//! `catalog` sorts product images into categories: it trains a CNN with ONNX Runtime's training API and labels huge image
//! folders with it. `ARCHITECTURE.md` is the map.

pub mod artifacts;
pub mod audit;
pub mod autodiff;
pub mod backbone;
pub mod cli;
pub mod dataset;
pub mod default_model;
pub mod diff;
pub mod ensemble;
pub mod evaluation;
pub mod graph;
pub mod kernels;
pub mod lowering;
pub mod metrics;
pub mod network;
pub mod operators;
mod pulse;
pub mod read_at;
pub mod report;
pub mod runtime;
pub mod training;
pub mod tune;
