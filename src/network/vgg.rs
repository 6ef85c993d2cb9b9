//! A plain deep network (Simonyan & Zisserman, 2014), shaped for small images: stages of 3×3 convolutions with max pooling between
//! them, and global average pooling in place of dense layers.

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, ShapeError, ValueId};

use super::{Task, layers};

/// Width and depth of the plain network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VggOptions {
    /// Filters of the 3×3 convolutions of each stage; between two stages is 2×2 max pooling.
    pub stages: Vec<Vec<usize>>,
    /// Batch normalisation behind each convolution.
    pub batch_norm: bool,
    /// Share of the pooled features dropped while training.
    pub dropout: f32,
}

impl Default for VggOptions {
    fn default() -> Self {
        Self {
            stages: vec![vec![32, 32], vec![64, 64], vec![128]],
            batch_norm: true,
            dropout: 0.0,
        }
    }
}

pub(super) fn build(
    graph: &mut Graph,
    x: ValueId,
    task: &Task,
    options: &VggOptions,
) -> Result<ValueId, ShapeError> {
    let first = options.stages.iter().flatten().next();
    let mut x = graph.scoped("stem", |graph| {
        layers::halve_large(graph, x, first.copied().unwrap_or(1))
    })?;
    for (stage, filters) in options.stages.iter().enumerate() {
        let is_last_stage = stage + 1 == options.stages.len();
        for (index, &width) in filters.iter().enumerate() {
            let pools = !is_last_stage && index + 1 == filters.len();
            x = graph.scoped(&format!("stage{stage}.block{index}"), |graph| {
                let x = layers::conv_pool_norm(graph, x, width, pools, options.batch_norm)?;
                graph.relu(x)
            })?;
        }
    }
    let pooled = graph.global_average_pool(x)?;
    let features = graph.flatten(pooled)?;
    let features = layers::dropout(graph, features, options.dropout)?;
    layers::logits(graph, features, task.classes)
}
