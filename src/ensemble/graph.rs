//! The graphs of several models side by side, behind the same input, with the weighted sum of their logits as the output.

use anyhow::{Context, Result};
use pipeline::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    ValueInfoProto, data_type,
};

use crate::artifacts::LOGITS;
use crate::network::IMAGES;

/// Name of the second output.
const PROBABILITIES: &str = "probabilities";

/// A model, and what its logits count.
pub(super) struct Part {
    pub(super) model: ModelProto,
    pub(super) weight: f32,
}

/// One model of all parts, which are of the same operator sets: `logits [N, K] = Σ weight · logits of the part`,
/// `probabilities = softmax(logits / temperature)`.
///
/// # Errors
/// When a part is not a model of this program.
pub(super) fn mean(parts: Vec<Part>, classes: usize, temperature: f32) -> Result<ModelProto> {
    let mut joined = GraphProto {
        name: Some("catalog".to_owned()),
        ..GraphProto::default()
    };
    let mut operator_sets: Vec<OperatorSetIdProto> = Vec::new();
    let mut ir_version = 0;
    let mut weighted = Vec::new();
    for (number, Part { model, weight }) in (1..).zip(parts) {
        ir_version = ir_version.max(model.ir_version());
        // Members are of the same ones.
        operator_sets = model.opset_import;
        let mut graph = model
            .graph
            .with_context(|| format!("model {number} has no graph"))?;
        graph.keep_what_makes(LOGITS);
        let input = graph
            .input
            .iter()
            .find(|input| input.name() == IMAGES)
            .with_context(|| format!("model {number} has no input {IMAGES:?}"))?;
        if joined.input.is_empty() {
            joined.input.push(input.clone());
        }
        let scope = format!("{number}/");
        graph.put_names_in(&scope);
        let (factor, product) = (
            format!("mean/{number}/weight"),
            format!("mean/{number}/weighted"),
        );
        joined
            .initializer
            .push(TensorProto::floats(&factor, &[], &[weight]));
        joined.initializer.extend(graph.initializer);
        joined.node.push(NodeProto::of(
            "Identity",
            &[IMAGES],
            &format!("{scope}{IMAGES}"),
            vec![],
        ));
        joined.node.extend(graph.node);
        joined.node.push(NodeProto::of(
            "Mul",
            &[&format!("{scope}{LOGITS}"), &factor],
            &product,
            vec![],
        ));
        weighted.push(product);
    }
    let weighted: Vec<&str> = weighted.iter().map(String::as_str).collect();
    joined
        .initializer
        .push(TensorProto::floats("mean/temperature", &[], &[temperature]));
    joined.node.extend([
        NodeProto::of("Sum", &weighted, LOGITS, vec![]),
        NodeProto::of(
            "Div",
            &[LOGITS, "mean/temperature"],
            "mean/tempered",
            vec![],
        ),
        NodeProto::of(
            "Softmax",
            &["mean/tempered"],
            PROBABILITIES,
            vec![AttributeProto::int("axis", 1)],
        ),
    ]);
    let output = |name| ValueInfoProto::batch(name, data_type::FLOAT, Some(&[classes as i64]));
    joined.output = vec![output(LOGITS), output(PROBABILITIES)];
    Ok(ModelProto {
        ir_version: Some(ir_version),
        producer_name: Some("catalog".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(joined),
        opset_import: operator_sets,
        ..ModelProto::default()
    })
}
