//! Two files of labels of the same folder compared: by two models, or of two nights.
//!
//! [`compare`] reads both once, side by side, and gives [`Figures`], whose size depends on the classes and not on the files. It
//! hands on every [`Change`] as it comes; [`csv`] writes those to a file, [`display`] draws the figures for a terminal. What is
//! compared is what the files say: no model runs, no picture is opened.

pub mod change;
pub mod csv;
pub mod display;
pub mod figures;
mod largest;

use std::io::Read;

use anyhow::Result;
use pipeline::classify::{LabelsJoin, LabelsReader};

use change::Change;
use figures::{Figures, Tally};

/// What is wished of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How many files of each list are named.
    pub listed: usize,
    /// From how large a difference on a confidence alone is a change; without one it never is.
    pub least_move: Option<f32>,
}

/// Compares two files of labels; `each` is given every change, in path order.
///
/// # Errors
/// When one of them cannot be read or is no file of labels in path order, and when `each` fails.
pub fn compare<A: Read, B: Read>(
    old: LabelsReader<A>,
    new: LabelsReader<B>,
    settings: &Settings,
    mut each: impl FnMut(&Change) -> Result<()>,
) -> Result<Figures> {
    let has_decisions = old.has_decisions() && new.has_decisions();
    let mut tally = Tally::new(settings.listed, has_decisions);
    let mut join = LabelsJoin::new(old, new)?;
    while let Some(pair) = join.next_pair()? {
        let change = Change::of(pair, settings.least_move, has_decisions);
        tally.add(&change)?;
        if change.kind.is_some() {
            each(&change)?;
        }
    }
    Ok(tally.finish())
}
