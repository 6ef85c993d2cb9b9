//! Backbones that somebody else trained: a part of an ONNX model, from its images to a value that serves as features.
//!
//! The part stays as it is. Its nodes are renamed and put behind ones that turn bytes into its input as the contract says, and in
//! front of the layer that learns, so that what is exported is one model like any other.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pipeline::model::{InputContract, Layout, read_unknown};
use pipeline::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeValue,
    ValueInfoProto, data_type,
};
use sha2::{Digest, Sha256};

use crate::network::IMAGES;

/// Operator sets whose operators the layers around the part can be of, and that ONNX Runtime 1.19.2 runs.
const OPERATOR_SETS: std::ops::RangeInclusive<i64> = 11..=21;
/// What every name of the part begins with, so that none meets one of ours.
const SCOPE: &str = "backbone/";
/// Name of the features.
pub const FEATURES: &str = "features";
/// Values that an error names as candidates.
const CANDIDATES: usize = 6;

/// The part of a model that makes features.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignBackbone {
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// How images become its input.
    pub contract: InputContract,
    graph: GraphProto,
    operator_set: i64,
    ir_version: i64,
    /// Name of its input in the graph.
    input: String,
    /// Name of its features in the graph.
    features: String,
}

impl ForeignBackbone {
    /// Reads a model and cuts it behind the value `features`.
    ///
    /// # Errors
    /// When the file is no ONNX model, holds what is never run, has another input than one of floats, is of an operator set that
    /// cannot be extended, or has no such value; the message then names some that it has.
    pub fn read(path: &Path, features: Option<&str>, contract: InputContract) -> Result<Self> {
        let (bytes, model) = read_unknown(path)?;
        let sha256 = Sha256::digest(&bytes);
        Self::of(model, features, contract)
            .map(|backbone| Self {
                sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
                ..backbone
            })
            .with_context(|| format!("{} cannot be a backbone", path.display()))
    }

    fn of(model: ModelProto, features: Option<&str>, contract: InputContract) -> Result<Self> {
        contract.validate()?;
        let standard = |set: &&OperatorSetIdProto| matches!(set.domain(), "" | "ai.onnx");
        let operator_set = model.opset_import.iter().find(standard);
        let operator_set = operator_set.map_or(1, OperatorSetIdProto::version);
        ensure!(
            OPERATOR_SETS.contains(&operator_set),
            "it is of operator set {operator_set}, and layers can be added to one from {} to {}: convert it",
            OPERATOR_SETS.start(),
            OPERATOR_SETS.end()
        );
        let ir_version = model.ir_version();
        let mut graph = model.graph.context("it has no graph")?;
        let made: Vec<&String> = graph
            .node
            .iter()
            .flat_map(|node| &node.output)
            .filter(|name| !name.is_empty())
            .collect();
        let near_the_end = made.iter().rev().take(CANDIDATES);
        let candidates: Vec<String> = near_the_end.map(|name| format!("{name:?}")).collect();
        let candidates = candidates.join(", ");
        let features = features.with_context(|| {
            format!("say which value is its features with --features NAME; from its end, it has {candidates}")
        })?;
        ensure!(
            made.iter().any(|name| *name == features),
            "it has no value {features:?} that a node makes; from its end, it has {candidates}"
        );
        let features = features.to_owned();
        graph.keep_what_makes(&features);
        let [input] = graph.input.as_slice() else {
            let inputs: Vec<&str> = graph.input.iter().map(ValueInfoProto::name).collect();
            anyhow::bail!(
                "{features:?} depends on the inputs {inputs:?}, and should on one, the images"
            )
        };
        let is_float = matches!(
            input.r#type.as_ref().and_then(|typed| typed.value.as_ref()),
            Some(TypeValue::Tensor(tensor)) if tensor.elem_type() == data_type::FLOAT
        );
        ensure!(is_float, "its input {:?} is no float tensor", input.name());
        Ok(Self {
            sha256: String::new(),
            contract,
            operator_set,
            ir_version,
            input: input.name().to_owned(),
            features,
            graph,
        })
    }

    /// The part as a model: input `images`, `uint8 [N, H, W, C]`; output `features`, as they come where `dimensions` is 2, and
    /// averaged over the rows and columns where it is 4.
    pub fn trunk(&self, dimensions: usize) -> ModelProto {
        let Self { contract, .. } = self;
        let preprocess = &contract.preprocess;
        let mut graph = self.graph.clone();
        graph.put_names_in(SCOPE);
        let channels = preprocess.colour.channels();
        let floats = |name: &str, value: &dyn Fn(f32, f32) -> f32| {
            let pairs = contract.mean.iter().zip(&contract.std);
            let mut values: Vec<f32> = pairs.map(|(&mean, &std)| value(mean, std)).collect();
            values.resize(channels, 0.0);
            TensorProto::floats(name, &[channels as i64], &values)
        };
        // (byte · scale − mean) / std, as one factor and one offset.
        graph.initializer.extend([
            floats("input/factor", &|_, std| contract.scale / std),
            floats("input/offset", &|mean, std| -mean / std),
        ]);
        let input = format!("{SCOPE}{}", self.input);
        let mut nodes = vec![
            NodeProto::of(
                "Cast",
                &[IMAGES],
                "input/floats",
                vec![AttributeProto::int("to", i64::from(data_type::FLOAT))],
            ),
            NodeProto::of(
                "Mul",
                &["input/floats", "input/factor"],
                "input/scaled",
                vec![],
            ),
            NodeProto::of(
                "Add",
                &["input/scaled", "input/offset"],
                "input/ready",
                vec![],
            ),
        ];
        nodes.push(match contract.layout {
            Layout::Nchw => NodeProto::of(
                "Transpose",
                &["input/ready"],
                &input,
                vec![AttributeProto::ints("perm", &[0, 3, 1, 2])],
            ),
            Layout::Nhwc => NodeProto::of("Identity", &["input/ready"], &input, vec![]),
        });
        nodes.append(&mut graph.node);
        let features = format!("{SCOPE}{}", self.features);
        match dimensions {
            4 => nodes.extend([
                NodeProto::of("GlobalAveragePool", &[&features], "features/pooled", vec![]),
                NodeProto::of(
                    "Flatten",
                    &["features/pooled"],
                    FEATURES,
                    vec![AttributeProto::int("axis", 1)],
                ),
            ]),
            _ => nodes.push(NodeProto::of("Identity", &[&features], FEATURES, vec![])),
        }
        graph.node = nodes;
        let images = [
            i64::from(preprocess.height),
            i64::from(preprocess.width),
            channels as i64,
        ];
        graph.input = vec![ValueInfoProto::batch(
            IMAGES,
            data_type::UINT8,
            Some(&images),
        )];
        graph.output = vec![ValueInfoProto::batch(FEATURES, data_type::FLOAT, None)];
        ModelProto {
            ir_version: Some(self.ir_version.clamp(4, 10)),
            producer_name: Some("catalog".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(self.operator_set),
            }],
            ..ModelProto::default()
        }
    }

    /// The part with a model of ours behind it, whose input is the features.
    ///
    /// # Errors
    /// When the other model has no graph.
    pub fn joined(&self, dimensions: usize, tail: ModelProto) -> Result<ModelProto> {
        let mut model = self.trunk(dimensions);
        let graph = model.graph.as_mut().context("the backbone has no graph")?;
        let tail = tail.graph.context("the layer has no graph")?;
        graph.name = tail.name;
        graph.node.extend(tail.node);
        graph.initializer.extend(tail.initializer);
        graph.output = tail.output;
        Ok(model)
    }
}
