//! What a row of the labels has, whichever way it is written.

use super::taxonomy::Taxonomy;

/// The columns of the labels that depend on the model and the settings.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// Class names, in the order of the model's outputs.
    pub labels: &'a [String],
    /// How many classes a row has.
    pub top_k: usize,
    /// Whether a row says what was decided about it.
    pub decision: bool,
    /// The categories that rows say at their end, where they do.
    pub taxonomy: Option<&'a Taxonomy>,
}
