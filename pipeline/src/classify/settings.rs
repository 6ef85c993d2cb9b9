//! What to classify, how, and where the labels go.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::decision::Acceptance;
use super::inputs::Inputs;
use super::journal::{Identity, Restart};
use super::shard::Shard;
use super::sorted::SortInto;
use super::taxonomy::Taxonomy;
use crate::decode::{self, Limits};
use crate::model::Classifier;

/// Memory that decoding may take, unless something else is said: 768 MiB.
pub const DEFAULT_MEMORY_BUDGET: u64 = 768 << 20;
/// Threads that read ahead unless told otherwise: with files in memory they cost next to nothing, and eight opens of 2 ms at a time
/// keep up with 4,000 images a second.
pub const DEFAULT_READERS: usize = 8;

/// What to classify and how. [`Settings::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folders and files.
    pub inputs: Inputs,
    /// Where the labels go.
    pub output: Destination,
    /// How they are written.
    pub format: Format,
    /// Classes per row, best first; at most as many as the model has.
    pub top_k: usize,
    /// Images per run of the model.
    pub batch_size: usize,
    /// Threads that decode.
    pub jobs: usize,
    /// Threads that read files ahead of decoding; with none, decoding threads read.
    pub readers: usize,
    /// What one image may cost.
    pub limits: Limits,
    /// Bytes that files and decoded images may take at a time, all threads together.
    pub memory_budget: u64,
    /// The share of the files to classify, where others do the rest.
    pub shard: Option<Shard>,
    /// What becomes of the work of an earlier run on the same output.
    pub restart: Restart,
    /// The labels of another run, or its journal, whose rows hold for files that did not change. Without it, those of the
    /// last run on the same output do.
    pub previous: Option<PathBuf>,
    /// Whether a file is the same by the hash of its content, instead of its size and time of change.
    pub by_content: bool,
    /// What a label has to reach to be accepted; rows have a decision where anything is asked for.
    pub acceptance: Acceptance,
    /// Keep this share, above 0 and below 1, of images like the validation images, and call what looks less familiar unknown; the
    /// model knows the threshold. Rows have a decision then.
    pub reject_unknown: Option<f64>,
    /// The categories of the model's labels, where rows shall have one.
    pub taxonomy: Option<Taxonomy>,
    /// Sort the files into folders, too.
    pub sort_into: Option<SortInto>,
    /// End the run with an error once there are more rows that are not `ok`.
    pub stop_after_failures: Option<u64>,
}

/// Where the labels go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Into this file, which appears whole at the end; a journal beside it keeps what is done if the run is stopped.
    File(PathBuf),
    /// To standard output, as they come; nothing is kept.
    Stdout,
}

/// How the labels are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// CSV.
    #[default]
    Csv,
    /// CSV as Excel wants it: a byte order mark, CRLF.
    Excel,
    /// JSON lines.
    Jsonl,
}

impl Settings {
    /// Classifies `inputs` into `output`: CSV, the best class, batches of 64, a decoding thread, the usual limits, continuing what was
    /// stopped.
    pub fn new(inputs: Inputs, output: Destination) -> Self {
        Self {
            inputs,
            output,
            format: Format::default(),
            top_k: 1,
            batch_size: 64,
            jobs: 1,
            readers: DEFAULT_READERS,
            limits: Limits::default(),
            memory_budget: DEFAULT_MEMORY_BUDGET,
            shard: None,
            restart: Restart::default(),
            previous: None,
            by_content: false,
            acceptance: Acceptance::default(),
            reject_unknown: None,
            taxonomy: None,
            sort_into: None,
            stop_after_failures: None,
        }
    }

    /// Everything that decides what becomes of a file, and which files there are. Not the batch size, nor the number of
    /// threads: for those a label is the same.
    pub fn identity(&self, classifier: &Classifier) -> Identity {
        let Limits {
            max_file_bytes,
            max_pixels,
            max_decoded_bytes,
        } = self.limits;
        Identity::default()
            .with("the way of decoding", decode::REVISION)
            .with("the model", classifier.identity())
            // Of several of a kind any may do a batch.
            .with("the device", classifier.device().kind())
            .with("--top-k", self.top_k)
            .with("--max-file-bytes", max_file_bytes)
            .with("--max-pixels", max_pixels)
            .with("the limit of decoded bytes", max_decoded_bytes)
            .with("--memory-budget", self.memory_budget)
            // What is summed for a row follows from the tree alone: other external ids need no new look at the images.
            .with(
                "the tree of --taxonomy",
                self.taxonomy
                    .as_ref()
                    .map_or_else(|| "none".to_owned(), Taxonomy::tree_digest),
            )
            .with_scope("the input", self.inputs.description())
            .with_scope(
                "--shard",
                self.shard
                    .map_or_else(|| "none".to_owned(), |shard| shard.to_string()),
            )
    }

    /// What labels of this run share with labels that they can be joined with: its identity, and what decides about rows and names
    /// their categories. That is no part of the identity, because what a journal holds does not depend on it: decisions are made as
    /// rows are written.
    pub(crate) fn made_with(&self, identity: &Identity) -> BTreeMap<String, String> {
        let Acceptance {
            target_precision,
            review_below,
        } = self.acceptance;
        let mut facts = identity.facts();
        let mut add = |name: &str, value: Option<String>| {
            facts.extend(value.map(|value| (name.to_owned(), value)));
        };
        add(
            "--target-precision",
            target_precision.map(|precision| precision.to_string()),
        );
        add(
            "--review-below",
            review_below.map(|confidence| confidence.to_string()),
        );
        add(
            "--reject-unknown",
            self.reject_unknown.map(|share| share.to_string()),
        );
        let taxonomy = self.taxonomy.as_ref();
        add(
            "--taxonomy",
            taxonomy.map(|taxonomy| taxonomy.sha256().to_owned()),
        );
        facts
    }
}
