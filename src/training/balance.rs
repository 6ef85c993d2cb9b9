//! What is done about classes of unequal size: weights in the loss, and which images an epoch is made of.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Classes are very unequal when the largest has more than so many times the images of the smallest.
pub const VERY_UNEQUAL: usize = 10;

/// Options against classes of unequal size; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BalanceOptions {
    /// How much an image of a class counts in the loss.
    pub class_weights: ClassWeights,
    /// Which images an epoch is made of.
    pub sampling: Sampling,
}

/// How much an image of a class counts in the loss. Weights are scaled so that their mean over the training images is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClassWeights {
    /// As much as any other.
    #[default]
    None,
    /// `1 / n`: every class counts the same, however few images it has.
    Inverse,
    /// `(1 − β) / (1 − βⁿ)`, the inverse of the effective number of samples (Cui et al. 2019): between none and inverse.
    Effective {
        /// β, from 0 (no weights) to below 1 (inverse).
        beta: f64,
    },
}

/// Which images an epoch is made of. Its length is the same either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Every image once.
    #[default]
    Natural,
    /// As many of each class: of large classes some, those of small ones repeatedly.
    Balanced,
}

/// What a class has, and what it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassShare {
    /// Training images.
    pub images: usize,
    /// Weight of each of them in the loss.
    pub weight: f32,
    /// Share of an epoch's draws, from 0 to 1.
    pub draws: f64,
}

impl ClassWeights {
    /// Default β: classes of much more than 1,000 images count as equals.
    pub const DEFAULT_BETA: f64 = 0.999;

    /// One weight per class for classes of so many training images, `None` where all are 1. A class without images weighs 0.
    pub fn of(self, counts: &[usize]) -> Option<Vec<f32>> {
        let raw = |count: usize| match self {
            _ if count == 0 => 0.0,
            Self::None => 1.0,
            Self::Inverse => 1.0 / count as f64,
            Self::Effective { beta } => (1.0 - beta) / (1.0 - beta.powf(count as f64)),
        };
        if self == Self::None {
            return None;
        }
        let images: usize = counts.iter().sum();
        let total: f64 = counts.iter().map(|&count| count as f64 * raw(count)).sum();
        let scale = if total > 0.0 {
            images as f64 / total
        } else {
            0.0
        };
        Some(
            counts
                .iter()
                .map(|&count| (raw(count) * scale) as f32)
                .collect(),
        )
    }
}

impl BalanceOptions {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// When β is not from 0 to below 1.
    pub fn validate(&self) -> Result<()> {
        if let ClassWeights::Effective { beta } = self.class_weights {
            ensure!(
                (0.0..1.0).contains(&beta),
                "the beta of effective class weights is from 0 to below 1, not {beta}"
            );
        }
        Ok(())
    }

    /// What each class counts, given its number of training images.
    pub fn shares(&self, counts: &[usize]) -> Vec<ClassShare> {
        let weights = self.class_weights.of(counts);
        let images: usize = counts.iter().sum();
        let there = counts.iter().filter(|&&count| count > 0).count();
        let share = |(class, &count): (usize, &usize)| ClassShare {
            images: count,
            weight: weights.as_ref().map_or(1.0, |weights| weights[class]),
            draws: match self.sampling {
                _ if count == 0 => 0.0,
                Sampling::Natural => count as f64 / images as f64,
                Sampling::Balanced => 1.0 / there as f64,
            },
        };
        counts.iter().enumerate().map(share).collect()
    }

    /// What the user should know: classes are very unequal and nothing is done about it.
    pub fn warning(&self, classes: &[String], counts: &[usize]) -> Option<String> {
        if *self != Self::default() {
            return None;
        }
        let sized = || classes.iter().zip(counts).filter(|(_, count)| **count > 0);
        let (largest, most) = sized().max_by_key(|(_, count)| **count)?;
        let (smallest, least) = sized().min_by_key(|(_, count)| **count)?;
        (*most > VERY_UNEQUAL * least).then(|| {
            format!(
                "classes are very unequal: {largest:?} has {most} training images, {smallest:?} {least}; small classes may hardly \
                 be learnt. Try --class-weights effective or --sampling balanced"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(kind: ClassWeights, counts: &[usize]) -> Vec<f32> {
        let weights = kind.of(counts).unwrap();
        let sum: f64 = weights
            .iter()
            .zip(counts)
            .map(|(&weight, &count)| f64::from(weight) * count as f64)
            .sum();
        let images: usize = counts.iter().sum();
        assert!((sum / images as f64 - 1.0).abs() < 1e-6, "{weights:?}");
        weights
    }

    #[test]
    fn inverse_weights_make_classes_equal() {
        assert_eq!(
            weights(ClassWeights::Inverse, &[30, 10, 0]),
            [0.666_666_7, 2.0, 0.0]
        );
        assert_eq!(ClassWeights::None.of(&[30, 10]), None);
    }

    #[test]
    fn effective_weights_lie_between_none_and_inverse() {
        let counts = [5000, 100];
        let ratio = |beta: f64| {
            let weights = weights(ClassWeights::Effective { beta }, &counts);
            weights[1] / weights[0]
        };
        assert_eq!(ratio(0.0), 1.0);
        // (1 − 0.999^5000) / (1 − 0.999^100)
        assert!((ratio(0.999) - 10.44).abs() < 0.01, "{}", ratio(0.999));
        assert!(
            (ratio(0.999_999) - 50.0).abs() < 0.2,
            "{}",
            ratio(0.999_999)
        );
    }

    #[test]
    fn shares_say_images_weight_and_draws() {
        let options = BalanceOptions {
            class_weights: ClassWeights::Inverse,
            sampling: Sampling::Balanced,
        };
        let shares = options.shares(&[30, 10, 0]);
        assert_eq!(shares[1].images, 10);
        assert_eq!(shares[1].weight, 2.0);
        let draws: Vec<f64> = shares.iter().map(|share| share.draws).collect();
        assert_eq!(draws, [0.5, 0.5, 0.0]);
        assert_eq!(BalanceOptions::default().shares(&[30, 10])[0].draws, 0.75);
    }

    #[test]
    fn only_untreated_very_unequal_classes_are_warned_of() {
        let classes = ["bag".to_owned(), "coat".to_owned()];
        let none = BalanceOptions::default();
        assert_eq!(none.warning(&classes, &[100, 10]), None);
        let warning = none.warning(&classes, &[101, 10]).unwrap();
        assert!(
            warning.contains("\"bag\" has 101 training images, \"coat\" 10"),
            "{warning}"
        );
        let balanced = BalanceOptions {
            sampling: Sampling::Balanced,
            ..none
        };
        assert_eq!(balanced.warning(&classes, &[101, 10]), None);
    }

    #[test]
    fn a_beta_without_meaning_is_refused() {
        for beta in [1.0, -0.1, f64::NAN] {
            let class_weights = ClassWeights::Effective { beta };
            let options = BalanceOptions {
                class_weights,
                ..BalanceOptions::default()
            };
            assert!(options.validate().unwrap_err().to_string().contains("beta"));
        }
    }
}
