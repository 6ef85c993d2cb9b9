//! The network of the study: convolution and max pooling, repeated, then a dense layer with dropout.

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, ShapeError, ValueId};

use super::{Task, layers};

/// Layers and units of the seed network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeedOptions {
    /// Filters of each 3×3 convolution; every one is followed by 2×2 max pooling.
    pub filters: Vec<usize>,
    /// Units of each dense layer before the logits.
    pub dense_units: Vec<usize>,
    /// Share of the dense units dropped while training.
    pub dropout: f32,
    /// Batch normalisation behind each convolution.
    pub batch_norm: bool,
}

impl Default for SeedOptions {
    fn default() -> Self {
        Self {
            filters: vec![32, 64],
            dense_units: vec![128],
            dropout: 0.3,
            batch_norm: false,
        }
    }
}

pub(super) fn build(
    graph: &mut Graph,
    x: ValueId,
    task: &Task,
    options: &SeedOptions,
) -> Result<ValueId, ShapeError> {
    let mut x = x;
    for (index, &filters) in options.filters.iter().enumerate() {
        x = graph.scoped(&format!("stage{index}"), |graph| {
            let convolved = match options.batch_norm {
                true => {
                    let convolved = layers::conv(graph, x, filters, 3, 1)?;
                    layers::batch_norm(graph, convolved)?
                }
                false => layers::conv_with_bias(graph, x, filters, 3)?,
            };
            let pooled = layers::max_pool_if_it_fits(graph, convolved)?;
            graph.relu(pooled)
        })?;
    }
    x = graph.flatten(x)?;
    for (index, &units) in options.dense_units.iter().enumerate() {
        x = graph.scoped(&format!("dense{index}"), |graph| {
            let dense = layers::dense(graph, x, units)?;
            let active = graph.relu(dense)?;
            layers::dropout(graph, active, options.dropout)
        })?;
    }
    layers::logits(graph, x, task.classes)
}
