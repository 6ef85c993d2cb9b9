//! One row of scores: softmax, predicted class, rank of the true class, cross-entropy.
//!
//! Sums are taken in `f64`, so that a mean over millions of images keeps its digits.

use serde::{Deserialize, Serialize};

/// What the numbers in a row of scores are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scores {
    /// Any real numbers; their softmax is the probability.
    Logits,
    /// Probabilities that sum to 1.
    Probabilities,
}

/// Softmax of a row of logits `[K]`: `exp(xᵢ − max x) / Σⱼ exp(xⱼ − max x)`.
///
/// The maximum is subtracted first, because `exp` of a logit above 88 overflows `f32`. An empty row gives an empty one.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let maximum = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f64> = logits
        .iter()
        .map(|&x| f64::from(x - maximum).exp())
        .collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|&e| (e / sum) as f32).collect()
}

/// Index of the highest score; of equal ones the first. 0 for an empty row.
pub fn predicted_class(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = class;
        }
    }
    best
}

/// How many classes come before `class` in the row, best first: 0 when it is the predicted one.
///
/// Of equal scores the one with the lower index comes first, as in [`predicted_class`], so `rank_of(…) == 0` and "predicted"
/// are the same thing. `class` must be an index into the row.
pub fn rank_of(scores: &[f32], class: usize) -> usize {
    let own = scores[class];
    scores
        .iter()
        .enumerate()
        .filter(|&(other, &score)| score > own || (score == own && other < class))
        .count()
}

/// Cross-entropy of one row against the true class, in nats. `class` must be an index into the row.
///
/// From logits: `log Σⱼ exp(xⱼ − m) + m − x_class` with `m = max x`, which never overflows and never takes the logarithm of 0.
/// From probabilities: `−ln p_class`, where a probability of 0 counts as the smallest normal `f32` (a loss of 87.3), because one
/// underflowed softmax must not make the mean of a whole data set infinite.
pub fn cross_entropy(scores: &[f32], kind: Scores, class: usize) -> f64 {
    match kind {
        Scores::Logits => {
            let maximum = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let sum: f64 = scores.iter().map(|&x| (f64::from(x) - maximum).exp()).sum();
            sum.ln() + maximum - f64::from(scores[class])
        }
        Scores::Probabilities => -f64::from(scores[class].max(f32::MIN_POSITIVE)).ln(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn softmax_of_equal_logits_is_uniform_whatever_their_size() {
        for logit in [-1e30, -1.0, 0.0, 1000.0, 1e30] {
            assert_eq!(softmax(&[logit; 4]), [0.25; 4]);
        }
        assert!(softmax(&[]).is_empty());
    }

    #[test]
    fn softmax_by_hand() {
        // exp(ln 1), exp(ln 2), exp(ln 5) over their sum 8.
        let probabilities = softmax(&[0.0, 2f32.ln(), 5f32.ln()]);
        for (found, expected) in probabilities.iter().zip([0.125, 0.25, 0.625]) {
            assert!((found - expected).abs() < 1e-7, "{found} is not {expected}");
        }
    }

    #[test]
    fn cross_entropy_by_hand() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        assert!((cross_entropy(&logits, Scores::Logits, 1) - 4f64.ln()).abs() < 1e-7);
        assert!(
            (cross_entropy(&[0.125, 0.25, 0.625], Scores::Probabilities, 1) - 4f64.ln()).abs()
                < 1e-7
        );
    }

    #[test]
    fn cross_entropy_stays_finite_at_the_extremes() {
        assert_eq!(cross_entropy(&[1e4, -1e4], Scores::Logits, 1), 2e4);
        assert_eq!(cross_entropy(&[1e4, -1e4], Scores::Logits, 0), 0.0);
        let loss = cross_entropy(&[1.0, 0.0], Scores::Probabilities, 1);
        assert!((loss - 87.336).abs() < 1e-3, "{loss}");
    }

    #[test]
    fn of_equal_scores_the_first_wins_and_ranks_follow() {
        let scores = [0.5, 0.7, 0.7, 0.1];
        assert_eq!(predicted_class(&scores), 1);
        assert_eq!(
            [0, 1, 2, 3].map(|class| rank_of(&scores, class)),
            [2, 0, 1, 3]
        );
    }

    proptest! {
        #[test]
        fn ranks_are_a_permutation_that_starts_at_the_prediction(scores in prop::collection::vec(-3i8..3, 1..12)) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let mut ranks: Vec<usize> = (0..scores.len()).map(|class| rank_of(&scores, class)).collect();
            prop_assert_eq!(ranks[predicted_class(&scores)], 0);
            ranks.sort_unstable();
            prop_assert_eq!(ranks, (0..scores.len()).collect::<Vec<_>>());
        }

        #[test]
        fn loss_from_logits_is_loss_from_their_softmax(logits in prop::collection::vec(-20f32..20.0, 1..12)) {
            let probabilities = softmax(&logits);
            for class in 0..logits.len() {
                let from_logits = cross_entropy(&logits, Scores::Logits, class);
                let from_probabilities = cross_entropy(&probabilities, Scores::Probabilities, class);
                prop_assert!((from_logits - from_probabilities).abs() < 1e-4);
            }
        }
    }
}
