//! How well a score tells pictures of known things from others.

use serde::Serialize;

/// Scores of pictures, those of known things and others, kept apart.
#[derive(Clone, Debug, Default)]
pub struct TwoKinds {
    /// Of pictures that are of a class.
    pub known: Vec<f32>,
    /// Of pictures that are of none.
    pub unknown: Vec<f32>,
}

/// What a threshold does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Caught {
    /// Share of the model's validation images that have at least this score.
    pub kept_share: f64,
    /// The score.
    pub threshold: f32,
    /// Share of the known pictures that have at least this score.
    pub known_kept: f64,
    /// Share of the unknown ones that have less.
    pub unknown_caught: f64,
}

impl TwoKinds {
    /// Area under the receiver operating characteristic: how often a known picture has a higher score than an unknown one, where
    /// equal scores count half. None where there is no picture of a kind.
    pub fn auroc(&self) -> Option<f64> {
        if self.known.is_empty() || self.unknown.is_empty() {
            return None;
        }
        let mut unknown = self.unknown.clone();
        unknown.sort_by(f32::total_cmp);
        let wins: f64 = self
            .known
            .iter()
            .map(|&score| {
                let lower = unknown.partition_point(|&other| other < score);
                let not_higher = unknown.partition_point(|&other| other <= score);
                (lower + not_higher) as f64 / 2.0
            })
            .sum();
        Some(wins / (self.known.len() as f64 * unknown.len() as f64))
    }

    /// What the threshold that keeps `kept_share` of the validation images does here; none where there is no picture of a kind.
    pub fn at(&self, kept_share: f64, threshold: f32) -> Option<Caught> {
        let below = |scores: &[f32]| {
            let below = scores.iter().filter(|&&score| score < threshold).count();
            (!scores.is_empty()).then(|| below as f64 / scores.len() as f64)
        };
        Some(Caught {
            kept_share,
            threshold,
            known_kept: 1.0 - below(&self.known)?,
            unknown_caught: below(&self.unknown)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(known: &[f32], unknown: &[f32]) -> TwoKinds {
        TwoKinds {
            known: known.to_vec(),
            unknown: unknown.to_vec(),
        }
    }

    #[test]
    fn the_area_counts_pairs_in_the_right_order() {
        assert_eq!(kinds(&[2.0, 3.0], &[0.0, 1.0]).auroc(), Some(1.0));
        assert_eq!(kinds(&[0.0], &[1.0]).auroc(), Some(0.0));
        assert_eq!(kinds(&[1.0, 1.0], &[1.0]).auroc(), Some(0.5));
        // Of six pairs three are right and two are equal.
        assert_eq!(
            kinds(&[1.0, 2.0, 3.0], &[2.0, 1.0]).auroc(),
            Some(4.0 / 6.0)
        );
        assert_eq!(kinds(&[], &[1.0]).auroc(), None);
        assert_eq!(kinds(&[1.0], &[]).auroc(), None);
    }

    #[test]
    fn a_threshold_keeps_what_reaches_it() {
        let caught = kinds(&[1.0, 2.0, 3.0, 4.0], &[0.0, 2.0])
            .at(0.95, 2.0)
            .unwrap();
        assert_eq!((caught.known_kept, caught.unknown_caught), (0.75, 0.5));
        assert_eq!(kinds(&[], &[0.0]).at(0.95, 2.0), None);
    }
}
