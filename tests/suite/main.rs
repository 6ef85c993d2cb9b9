//! The integration suite, one binary; the modules are its table of contents.

mod gradients;
mod runtime;
