//! Which network to train: the options, and what they make of an architecture.

use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use clap::{Args, ValueEnum, value_parser};

use super::set;
use crate::network::{Architecture, ResnetOptions, SeedOptions, VggOptions};

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkArgs {
    /// Which network [default: that of the preset]
    #[arg(long, value_name = "NAME")]
    network: Option<NetworkName>,
    /// seed: filters of each convolution [default: 32,64]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    filters: Option<Vec<usize>>,
    /// seed: units of each dense layer before the logits [default: 128]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    dense_units: Option<Vec<usize>>,
    /// seed, vgg: batch normalisation behind each convolution [default: false for seed, true for vgg]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    batch_norm: Option<bool>,
    /// resnet: filters of the stem [default: 16]
    #[arg(long, value_name = "N")]
    stem: Option<usize>,
    /// resnet: filters of each stage [default: 32,64,128]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    widths: Option<Vec<usize>>,
    /// resnet: stride of the first stage, 1 to work on whole images there [default: 2]
    #[arg(long, value_name = "N", value_parser = value_parser!(u8).range(1..=2))]
    first_stride: Option<u8>,
    /// resnet: residual blocks in each stage [default: 1]
    #[arg(long, value_name = "N")]
    blocks: Option<usize>,
    /// vgg: filters of the convolutions of each stage; max pooling is between stages [default: that of the preset]
    #[arg(long, value_name = "N,N,…:N,…")]
    stages: Option<Stages>,
    /// Share of the features dropped while training [default: 0.3 for seed, 0 for the others]
    #[arg(long, value_name = "RATIO")]
    dropout: Option<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NetworkName {
    /// The convolution–pooling–dense network of the Fashion-MNIST study
    Seed,
    /// A small residual network with batch normalisation
    Resnet,
    /// Stages of convolutions with max pooling between them
    Vgg,
}

/// Filters of the convolutions of each stage.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stages(Vec<Vec<usize>>);

impl FromStr for Stages {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| {
            let number = text.trim().parse().ok().filter(|&number| number > 0);
            number.with_context(|| {
                format!("`{text}` is no number of filters, expected something like 32,32:64,64:128")
            })
        };
        let stage = |text: &str| text.split(',').map(number).collect();
        Ok(Self(text.split(':').map(stage).collect::<Result<_>>()?))
    }
}

impl NetworkArgs {
    /// Changes `architecture` to what was asked for.
    ///
    /// # Errors
    /// When an option was given that the network does not have.
    pub(super) fn apply(&self, architecture: &mut Architecture) -> Result<()> {
        match (self.network, &*architecture) {
            // The network stays, with the options it has.
            (None, _)
            | (Some(NetworkName::Seed), Architecture::Seed(_))
            | (Some(NetworkName::Resnet), Architecture::Resnet(_))
            | (Some(NetworkName::Vgg), Architecture::Vgg(_)) => {}
            (Some(NetworkName::Seed), _) => {
                *architecture = Architecture::Seed(SeedOptions::default());
            }
            (Some(NetworkName::Resnet), _) => {
                *architecture = Architecture::Resnet(ResnetOptions::default());
            }
            (Some(NetworkName::Vgg), _) => {
                *architecture = Architecture::Vgg(VggOptions::default());
            }
        }
        let seed = self.filters.is_none() && self.dense_units.is_none();
        let resnet = self.stem.is_none()
            && self.widths.is_none()
            && self.first_stride.is_none()
            && self.blocks.is_none();
        let vgg = self.stages.is_none();
        let of_seed = "--filters and --dense-units belong to --network seed";
        let of_resnet = "--stem, --widths, --first-stride and --blocks belong to --network resnet";
        let of_vgg = "--stages belongs to --network vgg";
        match architecture {
            Architecture::Seed(options) => {
                ensure!(resnet, of_resnet);
                ensure!(vgg, of_vgg);
                set(&mut options.filters, &self.filters);
                set(&mut options.dense_units, &self.dense_units);
                set(&mut options.batch_norm, &self.batch_norm);
                set(&mut options.dropout, &self.dropout);
            }
            Architecture::Resnet(options) => {
                ensure!(seed, of_seed);
                ensure!(vgg, of_vgg);
                ensure!(
                    self.batch_norm.is_none(),
                    "--batch-norm belongs to --network seed and vgg; resnet always has it"
                );
                set(&mut options.stem, &self.stem);
                set(&mut options.widths, &self.widths);
                set(
                    &mut options.first_stride,
                    &self.first_stride.map(usize::from),
                );
                set(&mut options.blocks, &self.blocks);
                set(&mut options.dropout, &self.dropout);
            }
            Architecture::Vgg(options) => {
                ensure!(seed, of_seed);
                ensure!(resnet, of_resnet);
                if let Some(Stages(stages)) = &self.stages {
                    options.stages.clone_from(stages);
                }
                set(&mut options.batch_norm, &self.batch_norm);
                set(&mut options.dropout, &self.dropout);
            }
            Architecture::Head(options) => {
                ensure!(seed, of_seed);
                ensure!(resnet, of_resnet);
                ensure!(vgg, of_vgg);
                ensure!(
                    self.batch_norm.is_none(),
                    "--batch-norm belongs to --network seed and vgg, not to a layer behind a backbone"
                );
                set(&mut options.dropout, &self.dropout);
            }
            Architecture::EfficientnetLite(options) => {
                ensure!(seed, of_seed);
                ensure!(resnet, of_resnet);
                ensure!(vgg, of_vgg);
                ensure!(
                    self.batch_norm.is_none(),
                    "--batch-norm belongs to --network seed and vgg; a backbone always has it"
                );
                set(&mut options.dropout, &self.dropout);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        network: NetworkArgs,
    }

    /// What the options make of the default network.
    fn applied(arguments: &str) -> Result<Architecture> {
        let line = Line::try_parse_from(std::iter::once("train").chain(arguments.split(' ')))?;
        let mut architecture = Architecture::default();
        line.network.apply(&mut architecture)?;
        Ok(architecture)
    }

    fn error(arguments: &str) -> String {
        applied(arguments).unwrap_err().to_string()
    }

    #[test]
    fn stages_are_lists_of_filters() {
        let expected = VggOptions {
            stages: vec![vec![16], vec![32, 48]],
            batch_norm: false,
            dropout: 0.25,
        };
        assert_eq!(
            applied("--network vgg --stages 16:32,48 --batch-norm false --dropout 0.25").unwrap(),
            Architecture::Vgg(expected)
        );
        for wrong in ["16:", "16,,32", "0", "16;32", "-1"] {
            let message = error(&format!("--network vgg --stages={wrong}"));
            assert!(
                message.contains("no number of filters, expected something like"),
                "{message}"
            );
        }
    }

    #[test]
    fn options_of_another_network_are_refused() {
        assert_eq!(error("--stages 16"), "--stages belongs to --network vgg");
        assert_eq!(
            error("--network seed --stages 16"),
            "--stages belongs to --network vgg"
        );
        assert_eq!(
            error("--network vgg --filters 16"),
            "--filters and --dense-units belong to --network seed"
        );
        assert_eq!(
            error("--network vgg --blocks 2"),
            "--stem, --widths, --first-stride and --blocks belong to --network resnet"
        );
        assert!(error("--batch-norm").contains("belongs to --network seed and vgg"));
    }

    #[test]
    fn naming_the_network_there_is_keeps_its_options() {
        let mut architecture = Architecture::Vgg(VggOptions {
            stages: vec![vec![8]],
            ..VggOptions::default()
        });
        let line = Line::try_parse_from(["train", "--network", "vgg", "--dropout", "0.5"]).unwrap();
        line.network.apply(&mut architecture).unwrap();
        let expected = VggOptions {
            stages: vec![vec![8]],
            batch_norm: true,
            dropout: 0.5,
        };
        assert_eq!(architecture, Architecture::Vgg(expected));
    }
}
