//! One row of the output: a file and what became of it.

use ndarray::ArrayView1;

use super::walk::Source;
use crate::decode::{Decoded, Fault, Status};
use crate::model::Predictions;

/// A file and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The file.
    pub source: Source,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Classified.
    Labelled {
        /// The most probable classes, best first.
        best: Vec<Candidate>,
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

/// Joins files, what decoding made of them and what the model said, one row each.
pub(crate) fn rows(
    sources: Vec<Source>,
    decoded: Vec<Result<Decoded, Fault>>,
    predictions: Option<&Predictions>,
    top_k: usize,
) -> Vec<Row> {
    let outcome = |image: usize, decoded| match decoded {
        Ok(decoded) => label(image, decoded, predictions, top_k),
        Err(fault) => Outcome::Failed(fault),
    };
    let joined = sources.into_iter().zip(decoded).enumerate();
    joined
        .map(|(image, (source, decoded))| Row {
            source,
            outcome: outcome(image, decoded),
        })
        .collect()
}

fn label(
    image: usize,
    decoded: Decoded,
    predictions: Option<&Predictions>,
    top_k: usize,
) -> Outcome {
    match predictions {
        Some(predictions) if predictions.is_finite(image) => Outcome::Labelled {
            best: best(predictions.probabilities.row(image), top_k),
            damage: decoded.note,
        },
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
    use crate::decode::Format;

    fn decoded(note: Option<&str>) -> Result<Decoded, Fault> {
        Ok(Decoded {
            format: Format::Png,
            width: 1,
            height: 1,
            status: Status::Ok,
            note: note.map(str::to_owned),
        })
    }

    fn sources(count: usize) -> Vec<Source> {
        (0..count)
            .map(|number| Source {
                path: format!("{number}").into(),
                shown: format!("{number}").into(),
            })
            .collect()
    }

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
        let fault = Fault::new(Status::Corrupt, "broken");
        let logits: Array2<f32> = array![[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [f32::NAN, 0.0]];
        let predictions = Predictions {
            probabilities: logits.clone(),
            logits,
        };
        let decoded = vec![
            decoded(None),
            Err(fault.clone()),
            decoded(Some("cut")),
            decoded(None),
        ];
        let rows = rows(sources(4), decoded, Some(&predictions), 1);
        let statuses: Vec<Status> = rows.iter().map(|row| row.outcome.status()).collect();
        assert_eq!(
            statuses,
            [
                Status::Ok,
                Status::Corrupt,
                Status::Degraded,
                Status::ModelError
            ]
        );
        assert_eq!(rows[1].outcome, Outcome::Failed(fault));
        let best = vec![Candidate {
            class: 0,
            confidence: 1.0,
        }];
        assert_eq!(
            rows[2].outcome,
            Outcome::Labelled {
                best,
                damage: Some("cut".into())
            }
        );
    }
}
