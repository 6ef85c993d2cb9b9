//! How good a classifier is: pure figures from scores and true labels.
//!
//! Nothing here runs a model, reads a file or knows where the scores came from. [`Tally`] takes rows of scores as they are
//! computed and gives an [`Evaluation`]; [`display`] draws it for a terminal and writes the confusion matrix as CSV.

pub mod calibration;
mod confusion;
pub mod display;
mod evaluation;
mod scores;
pub mod thresholds;
pub mod unknown;

pub use confusion::{Confusion, ConfusionMatrix};
pub use evaluation::{ClassFigures, Evaluation, Tally, TopK};
pub use scores::{Scores, cross_entropy, predicted_class, rank_of, softmax};

/// Why a row of scores could not be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// The row has more or fewer scores than there are classes.
    #[error("a row of scores has {found} values, expected one per class ({expected})")]
    RowLength {
        /// Number of scores in the row.
        found: usize,
        /// Number of classes.
        expected: usize,
    },
    /// The scores of a batch are not a whole number of rows, one per label.
    #[error("a batch has {values} scores for {labels} labels, expected {classes} scores per label")]
    BatchLength {
        /// Number of scores in the batch.
        values: usize,
        /// Number of labels in the batch.
        labels: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The true label names no class.
    #[error("label {label} is out of range: there are {classes} classes, numbered from 0")]
    LabelOutOfRange {
        /// The label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A score is NaN or infinite: the model has diverged or overflowed, and no category may be read off it.
    #[error(
        "the score of class {class} for image {image} is not a finite number: the model has diverged"
    )]
    NotFinite {
        /// Index of the image among those counted so far.
        image: u64,
        /// Index of the class.
        class: usize,
    },
    /// No image was counted, so there is no figure to give.
    #[error("there are no images to evaluate")]
    Empty,
}
