//! The streaming classification of folders: walk → decode → infer → write.
//!
//! Nothing here prints or knows of flags: a caller gives [`Settings`], gets [`Event`]s while it runs and a [`Summary`] at the
//! end. What is wrong with one file is its row's status; only what stops the run is an error.

mod ahead;
mod batch;
mod columns;
mod contents;
mod csv_output;
mod decision;
mod earlier;
mod infer;
mod inputs;
mod journal;
mod jsonl_output;
mod key;
mod labels_facts;
mod labels_file;
mod labels_join;
mod listing;
mod merge;
mod output;
mod path_text;
mod queue;
mod rows;
mod ruling;
mod run;
mod settings;
mod shard;
mod sinks;
mod slabs;
mod sorted;
mod stages;
mod summary;
mod taxonomy;
mod walk;

pub use columns::Columns;
pub use csv_output::CsvOutput;
pub use decision::{Acceptance, Decision, Decisions, Thresholding, unknown_below};
pub use earlier::Comparison;
pub use inputs::{Inputs, Naming, read_list};
#[cfg(fuzzing)]
pub(crate) use journal::replay;
pub use journal::{Identity, Restart, State};
pub use jsonl_output::JsonlOutput;
pub use labels_facts::LabelsFacts;
pub use labels_file::{LabelRow, LabelsReader};
pub use labels_join::{LabelsJoin, Pair};
pub use merge::{Part, merge};
pub use path_text::{cell_text, decode_text, path_of, path_text};
pub use rows::{Candidate, Origin, Outcome, Row};
pub use ruling::{Placed, Rules, Ruling};
pub use run::{Event, Finished, check, run};
pub use settings::{DEFAULT_MEMORY_BUDGET, DEFAULT_READERS, Destination, Format, Settings};
pub use shard::Shard;
pub use slabs::Tree;
pub use sorted::{Link, SortInto};
pub use summary::{ClassCount, Memory, StageTimes, Stages, Summary};
pub use taxonomy::{Category, Taxonomy};
pub use walk::{SkipReason, Skipped, Source, Visit};
