//! The options of `catalog train` for networks on top of a pretrained backbone.

use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use clap::Args;

use crate::training::options::TrainOptions;
use crate::training::preset::on_backbone;
use crate::training::transfer::TrainedUnits;

use super::set;
use crate::cli::pretrained::BackboneName;

#[derive(Debug, Args)]
#[command(next_help_heading = "Pretrained backbone")]
pub(super) struct TransferArgs {
    /// Start from a network that learnt from ImageNet, which is fetched once; for photos of one's own, of which there are few
    #[arg(long, value_name = "NAME", conflicts_with = "preset")]
    pub(super) backbone: Option<BackboneName>,
    /// Which units of the backbone stay as they are, counted from the images: all, none, or so many [default: all]
    #[arg(long, value_name = "all|none|N")]
    freeze: Option<Freeze>,
    /// Random variants of each training image that features are computed for, beside the image itself [default: 1]
    #[arg(long, value_name = "N")]
    variants: Option<usize>,
    /// What the learning rate of the backbone is multiplied with [default: 0.1]
    #[arg(long, value_name = "FACTOR")]
    backbone_rate: Option<f32>,
    /// Hold out nothing: cut the images into so many parts, judge each by what learnt from the others, and export the mean of
    /// these; for tiny sets
    #[arg(long, value_name = "N", conflicts_with = "validation_fraction")]
    folds: Option<usize>,
}

/// Which units of a backbone stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freeze {
    All,
    None,
    First(usize),
}

impl FromStr for Freeze {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            number => number
                .parse()
                .map(Self::First)
                .with_context(|| format!("`{text}` is neither all nor none nor a number of units")),
        }
    }
}

impl TransferArgs {
    /// The options to start from, where a backbone was asked for.
    pub(super) fn start(&self) -> Option<TrainOptions> {
        self.backbone.map(|name| on_backbone(name.variant()))
    }

    /// Changes the options to what was asked for.
    ///
    /// # Errors
    /// When an option was given that only goes with a backbone, or there are not so many units.
    pub(super) fn apply(&self, options: &mut TrainOptions) -> Result<()> {
        let variant = options.backbone();
        match (&mut options.transfer, variant) {
            (Some(transfer), Some(variant)) => {
                match self.freeze {
                    None => {}
                    Some(Freeze::All) => transfer.trained = TrainedUnits::Last(0),
                    Some(Freeze::None) => transfer.trained = TrainedUnits::All,
                    Some(Freeze::First(frozen)) => {
                        let units = variant.units();
                        ensure!(
                            (1..=units).contains(&frozen),
                            "--freeze {frozen}: {variant} has {units} units; give 1 to {units}, all or none"
                        );
                        transfer.trained = TrainedUnits::Last(units - frozen);
                    }
                }
                set(&mut transfer.variants, &self.variants);
                set(&mut transfer.backbone_rate, &self.backbone_rate);
                if self.folds.is_some() {
                    transfer.folds = self.folds;
                }
                Ok(())
            }
            _ if self.freeze.is_some()
                || self.variants.is_some()
                || self.backbone_rate.is_some()
                || self.folds.is_some() =>
            {
                bail!("--freeze, --variants, --backbone-rate and --folds belong to --backbone")
            }
            _ => Ok(()),
        }
    }
}
