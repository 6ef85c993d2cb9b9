//! Mixed precision against 32-bit floats. A processor has no kernels for most 16-bit operators, so ONNX Runtime computes them there
//! by conversion: what is tested is the graph and what rounding does to it, not the speed.

use std::collections::BTreeMap;

use catalog::artifacts::{self, Optimizer, OptimizerOptions};
use catalog::graph::{Conv2d, Pool2d};
use catalog::lowering::{Formulation, Mode};
use catalog::network::{self, Architecture, VggOptions};
use catalog::training::formulation::FormulationChoice;
use pipeline::onnx::{GraphProto, ModelProto, TypeValue, data_type};
use prost::Message;

use crate::formulations::{Case, architectures, relative_error, task, train};

/// Networks of every kind, one of them with dropout.
fn networks() -> Vec<Architecture> {
    let mut networks = architectures();
    networks.push(Architecture::Vgg(VggOptions {
        stages: vec![vec![16], vec![32]],
        batch_norm: true,
        dropout: 0.3,
    }));
    networks
}

/// An operator with its domain, where that is not the usual one.
fn operator(domain: &str, name: &str) -> String {
    match domain {
        "" => name.to_owned(),
        domain => format!("{domain}:{name}"),
    }
}

#[test]
fn losses_and_gradients_are_those_of_float32_up_to_rounding() {
    // Everything that follows a product: residual addition, rectifiers, pooling of each kind, the gradients of all of them.
    let mut case = Case::new(6, 3, 12, 8);
    let mut x = case.conv(case.x(), 16, 3, Conv2d::same(3));
    x = case.norm(x);
    x = case.graph.relu(x).unwrap();
    let mut y = case.conv(x, 16, 3, Conv2d::same(3));
    y = case.norm(y);
    y = case.graph.clip(y, 0.0, 6.0).unwrap();
    x = case.graph.add(x, y).unwrap();
    x = case.graph.max_pool(x, Pool2d::square(2)).unwrap();
    x = case.conv_with_bias(x, 8, 3);
    x = case.graph.leaky_relu(x, 0.1).unwrap();
    x = case.graph.average_pool(x, Pool2d::square(2)).unwrap();
    x = case.graph.global_average_pool(x).unwrap();
    let output = case.graph.flatten(x).unwrap();

    let (expected, _) = case.run(output, Mode::Training, Formulation::Portable);
    let (found, _) = case.run(output, Mode::Training, Formulation::Mixed);
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = relative_error(found, expected);
        assert!(error <= 2e-2, "value {index} is off by {error:.1e}");
    }
    // It is not the same arithmetic under another name.
    assert_ne!(found, expected);
}

#[test]
fn a_network_learns_what_it_learns_in_float32() {
    for architecture in architectures() {
        let task = task(3);
        let expected = train(&architecture, &task, FormulationChoice::Portable, 2);
        let found = train(&architecture, &task, FormulationChoice::Mixed, 2);
        for (found, expected) in found.0.iter().zip(&expected.0) {
            assert!(
                (found - expected).abs() <= 1e-2 * expected,
                "{architecture:?}: loss {found}, in float32 {expected}"
            );
        }
        let error = relative_error(&found.2, &expected.2);
        assert!(error < 5e-2, "{architecture:?}: logits off by {error:.1e}");
        // Statistics are written through the conversions, too.
        for (found, expected) in found.1.iter().zip(&expected.1) {
            let error = relative_error(found, expected);
            assert!(
                error < 0.1,
                "{architecture:?}: a parameter is off by {error:.1e}"
            );
        }
    }
}

#[test]
fn products_are_of_16_bits_and_what_is_kept_of_32() {
    for architecture in networks() {
        let network = network::build(&architecture, &task(1)).unwrap();
        let options = OptimizerOptions {
            optimizer: Optimizer::Sgd { momentum: 0.9 },
            weight_decay: 5e-4,
            clip_norm: Some(1.0),
        };
        let artifacts = artifacts::build(&network, &options, Formulation::Mixed, 1).unwrap();
        let graph = decode(&artifacts.training);
        let types = element_types(&graph);
        for node in &graph.node {
            let name = operator(node.domain(), node.op_type());
            let all: Vec<i32> = node
                .input
                .iter()
                .filter_map(|input| types.get(input.as_str()).copied())
                .filter(|ty| [data_type::FLOAT, data_type::FLOAT16].contains(ty))
                .collect();
            let halves = all.iter().filter(|&&ty| ty == data_type::FLOAT16).count();
            let expected = match name.as_str() {
                "Conv" | "Gemm" | "com.microsoft:ConvGrad" => all.len(),
                // Image, then scale and statistics; the gradient of both images.
                "com.microsoft:BatchNormInternal" => 1,
                "com.microsoft:BatchNormalizationGrad" => 2,
                "SoftmaxCrossEntropyLoss" | "com.microsoft:InPlaceAccumulatorV2" | "LogSoftmax" => {
                    0
                }
                // Either all or none: no operator takes both.
                _ if halves > 0 => all.len(),
                _ => 0,
            };
            assert_eq!(
                halves,
                expected,
                "{name} `{}` of {architecture:?}",
                node.name()
            );
        }
        for value in graph.input.iter().chain(&graph.output) {
            assert_ne!(types.get(value.name()), Some(&data_type::FLOAT16));
        }

        // Judged is what will be exported: without any 16-bit floats.
        let evaluation = decode(&artifacts.evaluation);
        let halves = element_types(&evaluation)
            .into_values()
            .filter(|&ty| ty == data_type::FLOAT16);
        assert_eq!(halves.count(), 0);
    }
}

/// Operators with a CUDA kernel for 16-bit floats in ONNX Runtime 1.19.
const HALF_ON_CUDA: &[&str] = &[
    "Add",
    "AveragePool",
    "Cast",
    "Clip",
    "Concat",
    "Conv",
    "Dropout",
    "Expand",
    "Gemm",
    "GlobalAveragePool",
    "HardSigmoid",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "Relu",
    "LeakyRelu",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Sub",
    "Transpose",
    "com.microsoft:BatchNormInternal",
    "com.microsoft:BatchNormalizationGrad",
    "com.microsoft:ConvGrad",
    "com.microsoft:DropoutGrad",
    "com.microsoft:GatherElementsGrad",
    "com.microsoft:LeakyReluGrad",
];

#[test]
fn cuda_has_16_bit_kernels_for_all_that_is_of_16_bits() {
    let mut checked = 0;
    for architecture in networks() {
        let network = network::build(&architecture, &task(3)).unwrap();
        let options = OptimizerOptions {
            optimizer: Optimizer::Sgd { momentum: 0.9 },
            weight_decay: 5e-4,
            clip_norm: None,
        };
        let artifacts = artifacts::build(&network, &options, Formulation::Mixed, 1).unwrap();
        let graph = decode(&artifacts.training);
        let types = element_types(&graph);
        for node in &graph.node {
            let is_half = |name: &String| types.get(name.as_str()) == Some(&data_type::FLOAT16);
            if node.input.iter().chain(&node.output).any(is_half) {
                let name = operator(node.domain(), node.op_type());
                assert!(HALF_ON_CUDA.contains(&name.as_str()), "{name}");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "{checked}");
}

fn decode(model: &[u8]) -> GraphProto {
    ModelProto::decode(model).unwrap().graph.unwrap()
}

/// Element type of every value that has one.
fn element_types(graph: &GraphProto) -> BTreeMap<&str, i32> {
    let infos = graph
        .value_info
        .iter()
        .chain(&graph.input)
        .chain(&graph.output);
    let declared =
        infos.filter_map(
            |info| match info.r#type.as_ref().and_then(|ty| ty.value.as_ref()) {
                Some(TypeValue::Tensor(tensor)) => Some((info.name(), tensor.elem_type())),
                Some(TypeValue::Sequence(_)) | None => None,
            },
        );
    let constants = graph
        .initializer
        .iter()
        .map(|tensor| (tensor.name(), tensor.data_type()));
    declared.chain(constants).collect()
}
