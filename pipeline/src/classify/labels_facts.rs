//! What a file of labels is, beside its rows: enough to prove that several of them belong together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::settings::Format;
use super::shard::Shard;
use super::slabs::Tree;

/// Facts about a file of labels; part of the report of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelsFacts {
    /// How the labels are written.
    pub format: Format,
    /// How many there are.
    pub rows: u64,
    /// BLAKE3 of the file.
    pub digest: String,
    /// Which share of the files it is, where it is not all.
    pub shard: Option<Shard>,
    /// All files, of all shares.
    pub tree: Tree,
    /// What decides what becomes of a file: the model, the settings.
    pub made_with: BTreeMap<String, String>,
}
