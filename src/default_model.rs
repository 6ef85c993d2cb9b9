//! The model that is part of the program: Fashion-MNIST's ten kinds of article.
//!
//! `models/fashion-mnist/` holds the same file and says where it comes from.

use anyhow::{Context, Result};
use pipeline::model::ModelFile;

const BYTES: &[u8] = include_bytes!("../models/fashion-mnist/model.onnx");

/// The embedded model, checked like any other.
///
/// # Errors
/// When its content is not what was compiled in, as after damage to the program file.
pub fn default_model() -> Result<ModelFile> {
    ModelFile::from_bytes(BYTES.to_vec(), "the embedded model")
        .context("this program is damaged: install it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_model_is_whole_small_and_knows_ten_classes() {
        let model = default_model().unwrap();
        assert_eq!(model.metadata().labels.len(), 10);
        assert!(!model.metadata().self_test.is_empty());
        assert!(model.bytes().len() <= 3_000_000, "{}", model.bytes().len());
    }
}
