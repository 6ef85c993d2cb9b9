//! What to do about classes of unequal size: the options, and what the run says of it.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::dataset::Dataset;
use crate::training::balance::{BalanceOptions, ClassShare, ClassWeights, Sampling};

/// More classes than this are not listed one by one.
const LISTED: usize = 20;

#[derive(Debug, Args)]
#[command(next_help_heading = "Unequal classes")]
pub(super) struct BalanceArgs {
    /// How much an image counts in the loss, by the size of its class [default: none]
    #[arg(long, value_name = "KIND")]
    class_weights: Option<WeightsName>,
    /// effective: β, from 0 (no weights) to below 1 (inverse) [default: 0.999]
    #[arg(long, value_name = "BETA")]
    class_weights_beta: Option<f64>,
    /// Which images an epoch is made of [default: natural]
    #[arg(long, value_name = "KIND")]
    sampling: Option<SamplingName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WeightsName {
    /// As much as any other
    None,
    /// Every class counts the same, however few images it has
    Inverse,
    /// Between the two: by the effective number of images
    Effective,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SamplingName {
    /// Every image once
    Natural,
    /// As many images of each class, those of small ones repeatedly
    Balanced,
}

impl BalanceArgs {
    /// Changes `options` to what was asked for.
    ///
    /// # Errors
    /// When β was given to weights that have none.
    pub(super) fn apply(&self, options: &mut BalanceOptions) -> Result<()> {
        match self.class_weights {
            None => {}
            Some(WeightsName::None) => options.class_weights = ClassWeights::None,
            Some(WeightsName::Inverse) => options.class_weights = ClassWeights::Inverse,
            Some(WeightsName::Effective) => {
                options.class_weights = ClassWeights::Effective {
                    beta: ClassWeights::DEFAULT_BETA,
                }
            }
        }
        if let Some(given) = self.class_weights_beta {
            let ClassWeights::Effective { beta } = &mut options.class_weights else {
                anyhow::bail!("--class-weights-beta belongs to --class-weights effective");
            };
            ensure!(
                (0.0..1.0).contains(&given),
                "--class-weights-beta is from 0 to below 1, not {given}"
            );
            *beta = given;
        }
        match self.sampling {
            None => {}
            Some(SamplingName::Natural) => options.sampling = Sampling::Natural,
            Some(SamplingName::Balanced) => options.sampling = Sampling::Balanced,
        }
        Ok(())
    }
}

/// Logs what each class has and counts, and warns where classes are very unequal and nothing is done about it.
pub(super) fn report(dataset: &Dataset, options: &BalanceOptions) {
    let counts = dataset.train.class_counts(dataset.classes.len());
    for line in lines(&dataset.classes, &options.shares(&counts)) {
        tracing::info!("{line}");
    }
    if let Some(warning) = options.warning(&dataset.classes, &counts) {
        tracing::warn!("{warning}");
    }
}

/// A line a class, or one for all where they are many or all the same.
fn lines(classes: &[String], shares: &[ClassShare]) -> Vec<String> {
    let least = shares.iter().min_by_key(|share| share.images);
    let most = shares.iter().max_by_key(|share| share.images);
    let (Some(least), Some(most)) = (least, most) else {
        return Vec::new();
    };
    let facts = |share: &ClassShare| {
        format!(
            "{} images, weight {:.3}, {:.1} % of the draws",
            share.images,
            share.weight,
            share.draws * 100.0
        )
    };
    if least == most {
        return vec![format!(
            "{} classes of {} each",
            classes.len(),
            facts(least)
        )];
    }
    if classes.len() > LISTED {
        return vec![format!(
            "{} classes, from {} to {}",
            classes.len(),
            facts(least),
            facts(most)
        )];
    }
    classes
        .iter()
        .zip(shares)
        .map(|(class, share)| format!("class {class:?}: {}", facts(share)))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        balance: BalanceArgs,
    }

    fn applied(arguments: &str) -> Result<BalanceOptions> {
        let line = Line::try_parse_from(format!("train {arguments}").split_whitespace())?;
        let mut options = BalanceOptions::default();
        line.balance.apply(&mut options)?;
        Ok(options)
    }

    #[test]
    fn options_are_what_was_asked_for() {
        assert_eq!(applied("").unwrap(), BalanceOptions::default());
        let all = "--class-weights effective --class-weights-beta 0.9 --sampling balanced";
        assert_eq!(
            applied(all).unwrap(),
            BalanceOptions {
                class_weights: ClassWeights::Effective { beta: 0.9 },
                sampling: Sampling::Balanced,
            }
        );
        let error = applied("--class-weights inverse --class-weights-beta 0.9").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("belongs to --class-weights effective")
        );
        let error = applied("--class-weights effective --class-weights-beta 1").unwrap_err();
        assert!(error.to_string().contains("below 1, not 1"));
    }

    #[test]
    fn classes_are_listed_unless_they_are_many_or_all_the_same() {
        let names =
            |count: usize| -> Vec<String> { (0..count).map(|name| name.to_string()).collect() };
        let none = BalanceOptions::default();
        assert_eq!(
            lines(&names(2), &none.shares(&[30, 10])),
            [
                "class \"0\": 30 images, weight 1.000, 75.0 % of the draws",
                "class \"1\": 10 images, weight 1.000, 25.0 % of the draws"
            ]
        );
        assert_eq!(
            lines(&names(2), &none.shares(&[10, 10])),
            ["2 classes of 10 images, weight 1.000, 50.0 % of the draws each"]
        );
        let mut counts = vec![10; 20];
        counts.push(200);
        assert_eq!(
            lines(&names(21), &none.shares(&counts)),
            [
                "21 classes, from 10 images, weight 1.000, 2.5 % of the draws to 200 images, weight 1.000, 50.0 % of the draws"
            ]
        );
    }
}
