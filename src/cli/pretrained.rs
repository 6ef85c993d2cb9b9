//! Networks that learnt before as an argument, and what they ask of the images.

use std::path::Path;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use pipeline::preprocess::{Colour, Fit, Preprocess};

use super::GlobalArgs;
use crate::backbone::{self, ForeignBackbone, Pretrained};
use crate::dataset::Pixels;
use crate::network::Variant;
use crate::training::options::TrainOptions;
use crate::training::start::{EarlierModel, Start};
use crate::training::transfer::{BackboneModel, Transfer};

/// Folder for features in the cache folder.
pub(super) const FEATURES_FOLDER: &str = "features";

/// A pretrained network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum BackboneName {
    /// EfficientNet-Lite0: 4.7 million weights, made for 224×224
    EfficientnetLite0,
    /// EfficientNet-Lite1: 5.4 million weights, made for 240×240
    EfficientnetLite1,
    /// EfficientNet-Lite2: 6.1 million weights, made for 260×260
    EfficientnetLite2,
}

impl BackboneName {
    pub(super) fn variant(self) -> Variant {
        match self {
            Self::EfficientnetLite0 => Variant::Lite0,
            Self::EfficientnetLite1 => Variant::Lite1,
            Self::EfficientnetLite2 => Variant::Lite2,
        }
    }
}

/// Images in the size the backbone was made for, unless another was asked for, in colour, and in proportion unless asked otherwise.
///
/// # Errors
/// When grey images were asked for.
pub(super) fn for_backbone(pixels: Pixels, variant: Variant) -> Result<Pixels> {
    let side = (variant.side(), variant.side());
    let check = |colour: Option<Colour>| {
        ensure!(
            colour != Some(Colour::Grey),
            "a backbone takes colour images; leave out --colour grey"
        );
        Ok(Some(Colour::Rgb))
    };
    Ok(match pixels {
        Pixels::Wished { size, colour, fit } => Pixels::Wished {
            size: size.or(Some(side)),
            colour: check(colour)?,
            // docs/your-catalogue.md has what the others gave.
            fit: fit.or(Some(Fit::Pad)),
        },
        Pixels::PlainBackground { size, colour } => Pixels::PlainBackground {
            size: size.or(Some(side)),
            colour: check(colour)?,
        },
        Pixels::Contract(preprocess) => Pixels::Contract(preprocess),
    })
}

/// What a network starts from.
pub(super) enum StartingPoint {
    /// A network of ours with weights that others trained.
    Pretrained(Pretrained),
    /// A part of somebody else's model.
    Foreign(Box<ForeignBackbone>),
    /// A model that this program trained.
    Earlier(Box<EarlierModel>),
}

impl StartingPoint {
    /// As training takes it; `features` is the folder for those of a backbone.
    pub(super) fn start<'a>(&'a self, features: &'a Path) -> Start<'a> {
        let behind = |backbone| Start::Backbone(Transfer { backbone, features });
        match self {
            Self::Pretrained(pretrained) => behind(BackboneModel::Pretrained(pretrained)),
            Self::Foreign(backbone) => behind(BackboneModel::Foreign(backbone)),
            Self::Earlier(model) => Start::Model(model),
        }
    }

    /// Images as it wants them, unless others were asked for.
    ///
    /// # Errors
    /// When what was asked for does not go with it.
    pub(super) fn pixels(&self, wished: Pixels, options: &TrainOptions) -> Result<Pixels> {
        match (self, options.backbone()) {
            (Self::Pretrained(_), Some(variant)) => for_backbone(wished, variant),
            (Self::Pretrained(_), None) => Ok(wished),
            (Self::Foreign(backbone), _) => as_contract(&wished, &backbone.contract.preprocess),
            (Self::Earlier(model), _) => Ok(as_before(wished, model.preprocess())),
        }
    }
}

/// What the network of these options starts from, unless from random weights.
///
/// # Errors
/// When weights are not there and cannot be fetched, or a file is another than when the options were made.
pub(super) fn starting_point(
    options: &TrainOptions,
    global: &GlobalArgs,
) -> Result<Option<StartingPoint>> {
    if let Some(file) = &options.start {
        let model = EarlierModel::open(file)?;
        return Ok(Some(StartingPoint::Earlier(Box::new(model))));
    }
    let Some(transfer) = &options.transfer else {
        return Ok(None);
    };
    if let Some(file) = &transfer.file {
        let features = Some(file.features.as_str());
        let backbone = ForeignBackbone::read(&file.path, features, file.contract.clone())?;
        ensure!(
            backbone.sha256 == file.sha256,
            "{} is not the file these options were made for: its SHA-256 is {}, expected {}",
            file.path.display(),
            backbone.sha256,
            file.sha256
        );
        return Ok(Some(StartingPoint::Foreign(Box::new(backbone))));
    }
    let Some(variant) = options.backbone() else {
        return Ok(None);
    };
    let weights = backbone::load(variant, &global.cache_folder()?, global.offline)?;
    Ok(Some(StartingPoint::Pretrained(weights)))
}

/// Images as the contract of somebody else's model demands.
///
/// # Errors
/// When they were asked for in another way.
pub(super) fn as_contract(pixels: &Pixels, contract: &Preprocess) -> Result<Pixels> {
    ensure!(
        matches!(
            pixels,
            Pixels::Wished {
                size: None,
                colour: None,
                fit: None
            }
        ),
        "the contract of --preprocess says how images become the backbone's input: leave out --size, --colour, --fit and --plain-background, or change it"
    );
    Ok(Pixels::Contract(contract.clone()))
}

/// Images as an earlier model wants them, but for what was asked for.
fn as_before(wished: Pixels, contract: &Preprocess) -> Pixels {
    let size = |wished: Option<_>| wished.or(Some((contract.height, contract.width)));
    let colour_of = |wished: Option<Colour>| wished.or(Some(contract.colour));
    match wished {
        Pixels::Wished {
            size: None,
            colour: None,
            fit: None,
        } => Pixels::Contract(contract.clone()),
        Pixels::Wished {
            size: wished,
            colour,
            fit: None,
        } if contract.photo.is_some() => Pixels::PlainBackground {
            size: size(wished),
            colour: colour_of(colour),
        },
        Pixels::Wished {
            size: wished,
            colour,
            fit,
        } => Pixels::Wished {
            size: size(wished),
            colour: colour_of(colour),
            fit: fit.or(Some(contract.fit)),
        },
        Pixels::PlainBackground {
            size: wished,
            colour,
        } => Pixels::PlainBackground {
            size: size(wished),
            colour: colour_of(colour),
        },
        Pixels::Contract(contract) => Pixels::Contract(contract),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_named_as_their_list_shows_them() {
        for name in BackboneName::value_variants() {
            let shown = name.variant().to_string();
            assert_eq!(BackboneName::from_str(&shown, false), Ok(*name));
        }
    }

    #[test]
    fn a_backbone_takes_colour_in_its_own_size_unless_another_is_wished() {
        let wished = |size, colour| {
            let fit = None;
            for_backbone(Pixels::Wished { size, colour, fit }, Variant::Lite1)
        };
        let expected = |side| Pixels::Wished {
            size: Some((side, side)),
            colour: Some(Colour::Rgb),
            fit: Some(Fit::Pad),
        };
        assert_eq!(wished(None, None).unwrap(), expected(240));
        assert_eq!(wished(Some((96, 96)), None).unwrap(), expected(96));
        let error = wished(None, Some(Colour::Grey)).unwrap_err().to_string();
        assert!(error.contains("--colour grey"), "{error}");
    }

    #[test]
    fn images_are_as_an_earlier_model_had_them_but_for_what_is_wished() {
        let before = Preprocess {
            fit: Fit::Crop,
            ..Preprocess::stretch(48, 32, Colour::Rgb)
        };
        let wished = |size| Pixels::Wished {
            size,
            colour: None,
            fit: None,
        };
        assert_eq!(
            as_before(wished(None), &before),
            Pixels::Contract(before.clone())
        );
        assert_eq!(
            as_before(wished(Some((96, 96))), &before),
            Pixels::Wished {
                size: Some((96, 96)),
                colour: Some(Colour::Rgb),
                fit: Some(Fit::Crop),
            }
        );
        let trimmed = Preprocess::plain_background(28, 28, Colour::Grey);
        assert_eq!(
            as_before(wished(Some((56, 56))), &trimmed),
            Pixels::PlainBackground {
                size: Some((56, 56)),
                colour: Some(Colour::Grey),
            }
        );
    }
}
