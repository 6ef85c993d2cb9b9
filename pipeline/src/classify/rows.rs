//! One row of the output: a file and what became of it.

use ndarray::ArrayView1;

use super::batch::{Finding, Looked, Todo};
use super::taxonomy::Taxonomy;
use super::walk::Source;
use crate::decode::{Fault, Stamp, Status};
use crate::model::{Predictions, familiarity};

/// A file and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The file.
    pub source: Source,
    /// Size and time of change of the file as it was read.
    pub stamp: Stamp,
    /// Hash of the content; none where it was not read.
    pub content: Option<blake3::Hash>,
    /// What became of it.
    pub outcome: Outcome,
    /// Where the outcome comes from.
    pub origin: Origin,
}

/// Where the outcome of a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file was looked at.
    ThisRun,
    /// A file with the same content was.
    Duplicate,
    /// An earlier run, whose row still holds.
    Earlier,
    /// An earlier run; the file was read to see that its content is the same.
    SameContent,
}

/// A row on its way: where a file has the content of one before it, what became of that one is known only at the end.
pub(crate) enum RowInProgress {
    Whole(Row),
    Duplicate {
        source: Source,
        stamp: Stamp,
        content: blake3::Hash,
    },
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Classified.
    Labelled {
        /// The most probable classes, best first.
        best: Vec<Candidate>,
        /// What the labels of each category above the first class have together, the nearest category first; empty without a
        /// taxonomy.
        above: Vec<f32>,
        /// How much the image looks like those the model learnt from; see [`familiarity`].
        familiarity: f32,
        /// What is wrong with the file, where it is damaged.
        damage: Option<String>,
    },
    /// Not classified.
    Failed(Fault),
}

/// A class and how probable it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Index into the labels.
    pub class: usize,
    /// Probability, 0 to 1.
    pub confidence: f32,
}

impl Outcome {
    /// The value of the `status` column.
    pub fn status(&self) -> Status {
        match self {
            Self::Labelled { damage: None, .. } => Status::Ok,
            Self::Labelled {
                damage: Some(_), ..
            } => Status::Degraded,
            Self::Failed(fault) => fault.status,
        }
    }
}

/// What is kept of the model's word about an image.
#[derive(Clone, Copy)]
pub(crate) struct Kept<'a> {
    pub(crate) top_k: usize,
    /// Of the model.
    pub(crate) temperature: f32,
    pub(crate) taxonomy: Option<&'a Taxonomy>,
}

/// Joins a file, what was found in it and what the model said about image `image` of its batch.
pub(crate) fn row(
    image: usize,
    file: Todo,
    looked: Looked,
    predictions: Option<&Predictions>,
    kept: Kept<'_>,
) -> RowInProgress {
    let Looked {
        stamp,
        content,
        finding,
    } = looked;
    let (outcome, origin) = match (finding, content, file.last_time) {
        (Finding::Duplicate, Some(content), _) => {
            return RowInProgress::Duplicate {
                source: file.source,
                stamp,
                content,
            };
        }
        (Finding::Unchanged, _, Some(last_time)) => (last_time.outcome, Origin::SameContent),
        (Finding::Image(damage), _, _) => {
            (label(image, damage, predictions, kept), Origin::ThisRun)
        }
        (Finding::Fault(fault), _, _) => (Outcome::Failed(fault), Origin::ThisRun),
        // Neither is found without what it is the same as.
        (Finding::Duplicate | Finding::Unchanged, _, _) => (
            Outcome::Failed(Fault::new(Status::ReadError, "it was not looked at")),
            Origin::ThisRun,
        ),
    };
    RowInProgress::Whole(Row {
        source: file.source,
        stamp,
        content,
        outcome,
        origin,
    })
}

fn label(
    image: usize,
    damage: Option<String>,
    predictions: Option<&Predictions>,
    kept: Kept<'_>,
) -> Outcome {
    match predictions {
        Some(predictions) if predictions.is_finite(image) => {
            let probabilities = predictions.probabilities.row(image);
            let best = best(probabilities, kept.top_k);
            let above = match (kept.taxonomy, best.first()) {
                (Some(taxonomy), Some(first)) => taxonomy.sums(first.class, probabilities),
                _ => Vec::new(),
            };
            Outcome::Labelled {
                best,
                above,
                familiarity: familiarity(predictions.logits.row(image), kept.temperature),
                damage,
            }
        }
        _ => Outcome::Failed(Fault::new(
            Status::ModelError,
            "the model gave numbers that are not finite",
        )),
    }
}

/// The `top_k` largest, largest first; of equal ones the earlier class first, so that the order is the same everywhere.
fn best(probabilities: ArrayView1<'_, f32>, top_k: usize) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = probabilities
        .iter()
        .enumerate()
        .map(|(class, &confidence)| Candidate { class, confidence })
        .collect();
    candidates.sort_by(|a, b| {
        b.confidence
            .total_cmp(&a.confidence)
            .then(a.class.cmp(&b.class))
    });
    candidates.truncate(top_k);
    candidates
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn the_best_come_first_and_the_earlier_of_equals() {
        let best: Vec<usize> = best(array![0.2, 0.3, 0.2, 0.3].view(), 3)
            .iter()
            .map(|best| best.class)
            .collect();
        assert_eq!(best, [1, 3, 0]);
    }

    #[test]
    fn every_file_gets_its_row_and_its_status() {
        let logits: Array2<f32> = array![[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [f32::NAN, 0.0]];
        let predictions = Predictions {
            probabilities: logits.clone(),
            logits,
        };
        let fault = Fault::new(Status::Corrupt, "broken");
        let findings = [
            Finding::Image(None),
            Finding::Fault(fault.clone()),
            Finding::Image(Some("cut".to_owned())),
            Finding::Image(None),
        ];
        let kept = Kept {
            top_k: 1,
            temperature: 1.0,
            taxonomy: None,
        };
        let outcomes: Vec<Outcome> = findings
            .into_iter()
            .enumerate()
            .map(|(image, finding)| {
                let file = Todo {
                    source: Source {
                        path: "x".into(),
                        shown: "x".into(),
                    },
                    stamp: Stamp::default(),
                    last_time: None,
                };
                let looked = Looked {
                    stamp: Stamp::default(),
                    content: None,
                    finding,
                };
                match row(image, file, looked, Some(&predictions), kept) {
                    RowInProgress::Whole(row) => row.outcome,
                    RowInProgress::Duplicate { .. } => panic!("nothing is twice"),
                }
            })
            .collect();
        let statuses: Vec<Status> = outcomes.iter().map(Outcome::status).collect();
        assert_eq!(
            statuses,
            [
                Status::Ok,
                Status::Corrupt,
                Status::Degraded,
                Status::ModelError
            ]
        );
        assert_eq!(outcomes[1], Outcome::Failed(fault));
        let best = vec![Candidate {
            class: 0,
            confidence: 1.0,
        }];
        assert_eq!(
            outcomes[2],
            Outcome::Labelled {
                best,
                above: vec![],
                familiarity: familiarity(array![1.0, 0.0].view(), 1.0),
                damage: Some("cut".into())
            }
        );
    }
}
