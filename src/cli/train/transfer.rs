//! The options of `catalog train` for networks on top of a pretrained backbone.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use clap::{Args, ValueEnum};
use pipeline::model::InputContract;

use crate::backbone::ForeignBackbone;
use crate::network::NormMode;
use crate::training::options::TrainOptions;
use crate::training::preset::{on_backbone, on_file};
use crate::training::transfer::{ForeignFile, TrainedUnits};

use super::set;
use crate::cli::pretrained::BackboneName;

#[derive(Debug, Args)]
#[command(next_help_heading = "Pretrained backbone")]
pub(super) struct TransferArgs {
    /// Start from a network that learnt from ImageNet, which is fetched once, or from a part of an ONNX model; for photos of one's
    /// own, of which there are few: efficientnet-lite0, -lite1, -lite2, or a file
    #[arg(long, value_name = "NAME|FILE.onnx", conflicts_with = "preset")]
    backbone: Option<BackboneArg>,
    /// The value in the ONNX model that serves as features, [N, F] or [N, F, H, W]
    #[arg(long, value_name = "NAME", requires = "backbone")]
    features: Option<String>,
    /// How images become the ONNX model's input, as JSON; docs/your-catalogue.md has an example
    #[arg(long, value_name = "FILE.json", requires = "backbone")]
    preprocess: Option<PathBuf>,
    /// Which units of the backbone stay as they are, counted from the images: all, none, or so many [default: all]
    #[arg(long, value_name = "all|none|N")]
    freeze: Option<Freeze>,
    /// Random variants of each training image that features are computed for, beside the image itself [default: 1]
    #[arg(long, value_name = "N")]
    variants: Option<usize>,
    /// What the learning rate of the backbone is multiplied with [default: 0.1]
    #[arg(long, value_name = "FACTOR")]
    backbone_rate: Option<f32>,
    /// What the normalisations of the units that learn go by while they do [default: running]
    #[arg(long, value_name = "STATISTICS")]
    backbone_norm: Option<Norm>,
    /// Hold out nothing: cut the images into so many parts, judge each by what learnt from the others, and export the mean of
    /// these; for tiny sets
    #[arg(long, value_name = "N", conflicts_with_all = ["validation_fraction", "split_seed"])]
    folds: Option<usize>,
}

/// What to start from.
#[derive(Clone, Debug)]
enum BackboneArg {
    /// A network of ours, with weights that are fetched.
    Named(BackboneName),
    /// Somebody else's model.
    File(PathBuf),
}

impl FromStr for BackboneArg {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(name) = BackboneName::from_str(text, false) {
            return Ok(Self::Named(name));
        }
        let path = Path::new(text);
        ensure!(
            path.extension()
                .is_some_and(|extension| extension == "onnx"),
            "expected efficientnet-lite0, efficientnet-lite1, efficientnet-lite2 or an .onnx file"
        );
        Ok(Self::File(path.to_owned()))
    }
}

/// What normalisations go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Norm {
    /// The statistics that came with the backbone, which stay
    Running,
    /// Those of each batch, which also move the ones that came
    Batch,
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
    ///
    /// # Errors
    /// When a file was, and it cannot be one.
    pub(super) fn start(&self) -> Result<Option<TrainOptions>> {
        match &self.backbone {
            None => Ok(None),
            Some(BackboneArg::Named(name)) => {
                ensure!(
                    self.features.is_none() && self.preprocess.is_none(),
                    "--features and --preprocess describe a backbone from a file; {} says both itself",
                    name.variant()
                );
                Ok(Some(on_backbone(name.variant())))
            }
            Some(BackboneArg::File(path)) => Ok(Some(on_file(self.file(path)?))),
        }
    }

    fn file(&self, path: &Path) -> Result<ForeignFile> {
        let contract = self.preprocess.as_deref().with_context(|| {
            format!(
                "{} does not say how images become its input: give that with --preprocess FILE.json; docs/your-catalogue.md has an example",
                path.display()
            )
        })?;
        let contract = InputContract::read(contract)?;
        let features = self.features.as_deref();
        let backbone = ForeignBackbone::read(path, features, contract.clone())?;
        Ok(ForeignFile {
            path: path.to_owned(),
            sha256: backbone.sha256,
            features: features.unwrap_or_default().to_owned(),
            contract,
        })
    }

    /// Changes the options to what was asked for.
    ///
    /// # Errors
    /// When an option was given that only goes with a backbone, or there are not so many units.
    pub(super) fn apply(&self, options: &mut TrainOptions) -> Result<()> {
        let variant = options.backbone();
        if let Some(transfer) = &mut options.transfer
            && transfer.file.is_some()
        {
            ensure!(
                matches!(self.freeze, None | Some(Freeze::All))
                    && self.backbone_rate.is_none()
                    && self.backbone_norm.is_none(),
                "a backbone from a file stays as it is: leave out --freeze, --backbone-rate and --backbone-norm"
            );
            set(&mut transfer.variants, &self.variants);
            if self.folds.is_some() {
                transfer.folds = self.folds;
            }
            return Ok(());
        }
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
                match self.backbone_norm {
                    None => {}
                    Some(Norm::Running) => transfer.norm = NormMode::Running,
                    Some(Norm::Batch) => transfer.norm = NormMode::Batch,
                }
                if self.folds.is_some() {
                    transfer.folds = self.folds;
                }
                Ok(())
            }
            _ if self.freeze.is_some()
                || self.variants.is_some()
                || self.backbone_rate.is_some()
                || self.backbone_norm.is_some()
                || self.folds.is_some() =>
            {
                bail!(
                    "--freeze, --variants, --backbone-rate, --backbone-norm and --folds belong to --backbone"
                )
            }
            _ => Ok(()),
        }
    }
}
