//! The streaming classification of folders: walk → decode → infer → write.
//!
//! Nothing here prints or knows of flags: a caller gives [`Settings`], gets [`Event`]s while it runs and a [`Summary`] at the
//! end. What is wrong with one file is its row's status; only what stops the run is an error.

mod batch;
mod csv_output;
mod inputs;
mod path_text;
mod rows;
mod run;
mod summary;
mod walk;

pub use csv_output::CsvOutput;
pub use inputs::Inputs;
pub use path_text::{cell_text, decode_text, path_text};
pub use rows::{Candidate, Outcome, Row};
pub use run::{Event, Finished, Settings, check, run};
pub use summary::{ClassCount, StageTimes, Stages, Summary};
pub use walk::{SkipReason, Skipped, Source, Visit, Walk};
