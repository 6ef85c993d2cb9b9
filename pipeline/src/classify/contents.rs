//! What became of the contents seen lately, for files that have the same.
//!
//! Outcomes are kept as bytes, one behind the other: each by itself would be an allocation or two among the short-lived ones, and tens of
//! thousands of these keep the memory between them from being given back.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use blake3::Hash;

use super::journal::{decode_outcome, encode_outcome};
use super::rows::Outcome;

/// Outcomes by content.
#[derive(Default)]
pub(super) struct Contents {
    /// Where in `outcomes` that of a content begins.
    places: HashMap<Hash, usize>,
    outcomes: Vec<u8>,
}

impl Contents {
    pub(super) fn add(&mut self, content: Hash, outcome: &Outcome) {
        self.places.insert(content, self.outcomes.len());
        encode_outcome(outcome, &mut self.outcomes);
    }

    /// What became of a content.
    ///
    /// # Errors
    /// When it was not added since the last [`Contents::forget`].
    pub(super) fn outcome(&self, content: &Hash) -> Result<Outcome> {
        let place = self.places.get(content).copied();
        let bytes = place.and_then(|place| self.outcomes.get(place..));
        decode_outcome(bytes.context("it is not known")?)
    }

    pub(super) fn forget(&mut self) {
        self.places.clear();
        self.outcomes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::rows::Candidate;
    use crate::decode::{Fault, Status};

    #[test]
    fn outcomes_come_back_until_they_are_forgotten() {
        let labelled = |class, damage| Outcome::Labelled {
            best: vec![
                Candidate {
                    class,
                    confidence: 0.7,
                },
                Candidate {
                    class: 0,
                    confidence: 1.0 / 7.0,
                },
            ],
            above: vec![0.8],
            familiarity: -3.25,
            damage,
        };
        let outcomes = [
            labelled(3, None),
            Outcome::Failed(Fault::new(Status::Corrupt, "cut")),
            labelled(70_000, Some("half".to_owned())),
        ];
        let hash = |place: usize| blake3::hash(&[place as u8]);
        let mut contents = Contents::default();
        for (place, outcome) in outcomes.iter().enumerate() {
            contents.add(hash(place), outcome);
        }
        for (place, outcome) in outcomes.iter().enumerate() {
            assert_eq!(contents.outcome(&hash(place)).unwrap(), *outcome);
        }
        assert!(contents.outcome(&hash(9)).is_err());
        contents.forget();
        assert!(contents.outcome(&hash(0)).is_err());
        contents.add(hash(0), &outcomes[1]);
        assert_eq!(contents.outcome(&hash(0)).unwrap(), outcomes[1]);
    }
}
