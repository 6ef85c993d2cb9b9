//! A network in two parts: what stays as it is and gives features, and what learns from these.

use std::collections::BTreeMap;
use std::mem;

use anyhow::{Context, Result, bail, ensure};

use super::features::Extractor;
use super::{BackboneModel, Transfer, TransferOptions, start_from, values_of};
use crate::backbone::ForeignBackbone;
use crate::graph::Graph;
use crate::network::{self, Architecture, Network, Task};
use crate::training::augment::ImageShape;
use crate::training::machine::Machine;
use crate::training::options::TrainOptions;

const STAYS_AS_IT_IS: &str =
    "a backbone from a file stays as it is: leave out --freeze, or give --freeze all";
const OF_ANOTHER: &str =
    "pretrained weights go with the backbone they belong to; choose one with --backbone";

/// Both parts, before anything was learnt.
pub(super) struct Parts {
    /// The first part, which runs.
    pub(super) extractor: Extractor,
    /// The second part, from features to logits, with pretrained values where it has them.
    pub(super) tail: Network,
    /// What the first part is made of.
    pub(super) frozen: Frozen,
}

/// What a first part is made of.
pub(super) enum Frozen {
    /// Units of a network of ours, and their values as the exported file holds them.
    Own { graph: Graph, values: Vec<Vec<f32>> },
    /// A part of somebody else's model.
    Foreign(Box<Behind>),
}

/// Somebody else's model that a network is behind, with what was learnt of it by running it.
#[derive(Clone, Debug)]
pub struct Behind {
    /// The model.
    pub backbone: ForeignBackbone,
    /// Number of dimensions of its features, the batch included.
    pub dimensions: usize,
}

/// A whole network as it is exported.
pub(super) struct Whole {
    /// All of it, or what is behind somebody else's model.
    pub(super) network: Network,
    /// Its parameters, in its order.
    pub(super) parameters: Vec<Vec<f32>>,
    /// That model.
    pub(super) behind: Option<Behind>,
}

impl Parts {
    /// Takes the network of these options apart, so that the last `trained_units` units of the backbone learn.
    ///
    /// # Errors
    /// When the options are not those of a backbone with these weights, or ONNX Runtime refuses it.
    pub(super) fn prepare(
        options: &TrainOptions,
        task: &Task,
        transfer: Transfer<'_>,
        trained_units: usize,
        machine: Machine<'_>,
    ) -> Result<Self> {
        let settings = settings(options)?;
        let image_shape = ImageShape {
            height: task.height,
            width: task.width,
            channels: task.channels,
        };
        match (&options.architecture, transfer.backbone) {
            (Architecture::EfficientnetLite(backbone), BackboneModel::Pretrained(pretrained)) => {
                let mut cut = network::build_cut(backbone, task, trained_units, settings.norm)
                    .context("building the network")?;
                start_from(&mut cut.tail.graph, pretrained, settings.backbone_rate)?;
                let values = values_of(&cut.trunk.graph, pretrained)?;
                // The features are those that the file's weights give.
                let values = options.weight_storage.stored(&cut.trunk.graph, values)?;
                Ok(Self {
                    extractor: Extractor::new(
                        &cut.trunk,
                        &values,
                        image_shape,
                        machine,
                        options.threads,
                    )?,
                    tail: cut.tail,
                    frozen: Frozen::Own {
                        graph: cut.trunk.graph,
                        values,
                    },
                })
            }
            (Architecture::Head(head), BackboneModel::Foreign(backbone)) => {
                ensure!(trained_units == 0, STAYS_AS_IT_IS);
                ensure!(
                    !options.mirror_averaging,
                    "a backbone from a file cannot be asked about mirror images, too: leave out --mirror-averaging"
                );
                let (extractor, dimensions) =
                    Extractor::foreign(backbone, image_shape, machine, options.threads)?;
                let width = extractor.width();
                Ok(Self {
                    tail: network::build_head(head, width, task.classes)
                        .context("building the layer behind the backbone")?,
                    extractor,
                    frozen: Frozen::Foreign(Box::new(Behind {
                        backbone: backbone.clone(),
                        dimensions,
                    })),
                })
            }
            _ => bail!(OF_ANOTHER),
        }
    }
}

/// The network of these options, of which every unit learns from the pretrained values on.
///
/// # Errors
/// As [`Parts::prepare`].
pub(in crate::training) fn whole_backbone(
    options: &TrainOptions,
    task: &Task,
    transfer: Transfer<'_>,
) -> Result<Network> {
    let settings = settings(options)?;
    match (&options.architecture, transfer.backbone) {
        (Architecture::EfficientnetLite(backbone), BackboneModel::Pretrained(pretrained)) => {
            let mut network = network::build_backbone(backbone, task, settings.norm)
                .context("building the network")?;
            start_from(&mut network.graph, pretrained, settings.backbone_rate)?;
            Ok(network)
        }
        (_, BackboneModel::Foreign(_)) => bail!(STAYS_AS_IT_IS),
        _ => bail!(OF_ANOTHER),
    }
}

impl Frozen {
    /// The network that is exported, of this part and the values of `tail`, behind which the optimizer's state may come.
    ///
    /// # Errors
    /// When a parameter is in neither part.
    pub(super) fn completed(
        self,
        options: &TrainOptions,
        task: &Task,
        tail: Network,
        values: Vec<Vec<f32>>,
    ) -> Result<Whole> {
        match self {
            Self::Foreign(behind) => Ok(Whole {
                parameters: named(&tail.graph, values)
                    .map(|(_, values)| values)
                    .collect(),
                network: tail,
                behind: Some(*behind),
            }),
            Self::Own {
                graph,
                values: frozen,
            } => {
                let network = match options.mirror_averaging {
                    true => network::build_mirror_averaged(&options.architecture, task)?,
                    false => network::build(&options.architecture, task)?,
                };
                let mut values: BTreeMap<String, Vec<f32>> = named(&graph, frozen)
                    .chain(named(&tail.graph, values))
                    .collect();
                Ok(Whole {
                    parameters: joined(&network, &mut values)?,
                    network,
                    behind: None,
                })
            }
        }
    }
}

/// How the backbone of these options is used.
pub(super) fn settings(options: &TrainOptions) -> Result<&TransferOptions> {
    options
        .transfer
        .as_ref()
        .context("pretrained weights go with a backbone only; choose one with --backbone")
}

/// The parameters of a graph by their names; what comes behind them, as an optimizer's state does, is left out.
fn named(graph: &Graph, values: Vec<Vec<f32>>) -> impl Iterator<Item = (String, Vec<f32>)> {
    let names = graph.parameters().map(|(_, value, _)| value.name.clone());
    names.zip(values)
}

/// The values of all parameters of a network, in its order.
fn joined(network: &Network, values: &mut BTreeMap<String, Vec<f32>>) -> Result<Vec<Vec<f32>>> {
    network
        .graph
        .parameters()
        .map(|(_, value, _)| {
            let values = values.get_mut(&value.name).map(mem::take);
            values.with_context(|| format!("neither part of the network has {}", value.name))
        })
        .collect()
}
