//! The training artifacts: what ONNX Runtime's training API is given, and whether a step computes what the textbooks say.

use std::collections::BTreeMap;

use catalog::artifacts::{self, Artifacts, Optimizer, OptimizerOptions};
use catalog::graph::{BatchNorm, ElementType, Graph, Initializer, Role, Shape, TensorType};
use catalog::lowering::{self, Formulation, Mode, Parameters, Targets, WeightStorage};
use catalog::network::{self, Architecture, Network, ResnetOptions, SeedOptions, Task};
use catalog::training::session::{Compute, TrainingSession};
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;
use pipeline::onnx::{GraphProto, ModelProto, TypeValue, ValueInfoProto};
use prost::Message as _;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng as Random;

use crate::runtime;

const CLASSES: usize = 3;

fn task(height: usize, width: usize, channels: usize) -> Task {
    Task {
        height,
        width,
        channels,
        classes: CLASSES,
        mean: vec![120.0; channels],
        deviation: vec![70.0; channels],
    }
}

/// Convolution, normalisation, pooling and two dense layers, each as small as can be; no dropout.
fn small_network() -> Network {
    let options = SeedOptions {
        filters: vec![2],
        dense_units: vec![4],
        dropout: 0.0,
        batch_norm: true,
    };
    network::build(&Architecture::Seed(options), &task(5, 6, 1)).unwrap()
}

fn sgd(momentum: f32, weight_decay: f32, clip_norm: Option<f32>) -> OptimizerOptions {
    OptimizerOptions {
        optimizer: Optimizer::Sgd { momentum },
        weight_decay,
        clip_norm,
    }
}

fn adamw(weight_decay: f32) -> OptimizerOptions {
    OptimizerOptions {
        optimizer: Optimizer::adamw(),
        weight_decay,
        clip_norm: None,
    }
}

fn graph_of(model: &[u8]) -> GraphProto {
    ModelProto::decode(model).unwrap().graph.unwrap()
}

fn names(values: &[ValueInfoProto]) -> Vec<&str> {
    values.iter().map(ValueInfoProto::name).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_only_another_checkpoint() {
    for architecture in [
        Architecture::Seed(SeedOptions::default()),
        Architecture::default(),
    ] {
        let network = network::build(&architecture, &task(28, 28, 1)).unwrap();
        let build = |seed| {
            artifacts::build(&network, &sgd(0.9, 5e-4, None), Formulation::Portable, seed).unwrap()
        };
        let (first, again, other) = (build(1), build(1), build(2));
        let models = |artifacts: &Artifacts| {
            [
                &artifacts.training,
                &artifacts.evaluation,
                &artifacts.optimizer,
            ]
            .map(Clone::clone)
        };
        assert_eq!(models(&first), models(&again));
        assert_eq!(first.checkpoint, again.checkpoint);
        assert_eq!(models(&first), models(&other));
        assert_ne!(first.checkpoint, other.checkpoint);
    }
}

#[test]
fn inputs_and_outputs_have_the_names_the_training_api_looks_for() {
    for options in [sgd(0.9, 5e-4, Some(1.0)), adamw(0.01)] {
        let artifacts =
            artifacts::build(&small_network(), &options, Formulation::Portable, 1).unwrap();
        let training = graph_of(&artifacts.training);
        let parameters: Vec<&str> = artifacts
            .parameters
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let trained: Vec<&str> = [
            "stage0.conv.weight",
            "stage0.norm.scale",
            "stage0.norm.bias",
        ]
        .into_iter()
        .chain(["dense0.dense.weight", "dense0.dense.bias"])
        .chain(["head.dense.weight", "head.dense.bias"])
        .collect();
        let with_suffix = |suffix: &str| -> Vec<String> {
            trained
                .iter()
                .map(|name| format!("{name}{suffix}"))
                .collect()
        };

        // The values a step is given, parameters, gradient buffers, the reset flag: the order inside each kind matters.
        let inputs = names(&training.input);
        let buffers = with_suffix("_grad.accumulation.buffer");
        let is_buffer = |name: &&str| buffers.iter().any(|buffer| buffer == name);
        let user: Vec<&str> = inputs
            .iter()
            .copied()
            .filter(|name| {
                !parameters.contains(name) && !is_buffer(name) && *name != "lazy_reset_grad"
            })
            .collect();
        let expected_user = match options.optimizer {
            Optimizer::Sgd { .. } => vec!["images", "targets"],
            Optimizer::AdamW { .. } => {
                vec![
                    "images",
                    "targets",
                    "optimizer.first_correction",
                    "optimizer.second_correction",
                ]
            }
        };
        assert_eq!(user, expected_user);
        let in_order: Vec<&str> = inputs
            .iter()
            .copied()
            .filter(|name| parameters.contains(name))
            .collect();
        assert_eq!(in_order, parameters);
        assert_eq!(
            inputs.iter().copied().filter(is_buffer).collect::<Vec<_>>(),
            buffers
        );
        assert_eq!(
            inputs
                .iter()
                .filter(|name| **name == "lazy_reset_grad")
                .count(),
            1
        );
        assert!(trained.iter().all(|name| parameters.contains(name)));

        let outputs = names(&training.output);
        assert_eq!(outputs[0], artifacts::METRICS);
        assert_eq!(outputs[1..], with_suffix("_grad.accumulation.out"));

        let evaluation = graph_of(&artifacts.evaluation);
        assert_eq!(
            names(&evaluation.input),
            [&["images"], parameters.as_slice()].concat()
        );
        assert_eq!(names(&evaluation.output), [artifacts::METRICS]);

        let optimizer = graph_of(&artifacts.optimizer);
        let expected = [
            "learning_rate",
            "step",
            "params",
            "gradients",
            "first_order_moments",
        ];
        assert_eq!(names(&optimizer.input), expected);

        // Each buffer is added to under the flag, in a node of its own.
        let accumulators: Vec<&[String]> = training
            .node
            .iter()
            .filter(|node| {
                node.op_type() == "InPlaceAccumulatorV2" && node.input[2] == "lazy_reset_grad"
            })
            .map(|node| node.input.as_slice())
            .collect();
        assert_eq!(
            accumulators
                .iter()
                .map(|inputs| inputs[0].as_str())
                .collect::<Vec<_>>(),
            buffers
        );
    }
}

#[test]
fn every_intermediate_value_of_a_training_graph_is_declared_with_its_shape() {
    let artifacts =
        artifacts::build(&small_network(), &adamw(0.01), Formulation::Portable, 1).unwrap();
    let graph = graph_of(&artifacts.training);
    let declared: BTreeMap<&str, &ValueInfoProto> = graph
        .value_info
        .iter()
        .chain(&graph.output)
        .map(|info| (info.name(), info))
        .collect();
    let mut checked = 0;
    for node in &graph.node {
        for output in node
            .output
            .iter()
            .filter(|name| !name.is_empty() && !name.ends_with(".updated"))
        {
            let info = declared
                .get(output.as_str())
                .unwrap_or_else(|| panic!("{output} is not declared"));
            match &info.r#type.as_ref().unwrap().value {
                Some(TypeValue::Tensor(tensor)) => {
                    assert!(tensor.shape.is_some(), "{output} has no shape")
                }
                Some(TypeValue::Sequence(_)) => assert_eq!(output, artifacts::METRICS),
                None => panic!("{output} has no type"),
            }
            checked += 1;
        }
    }
    assert!(checked > 50);
}

/// Operators of the default domain that ONNX Runtime 1.19 runs on CUDA.
const STANDARD_ON_CUDA: &[&str] = &[
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Conv",
    "Div",
    "Dropout",
    "Erf",
    "Exp",
    "Expand",
    "Gemm",
    "GlobalAveragePool",
    "HardSigmoid",
    "Identity",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "SequenceConstruct",
    "Shape",
    "Sigmoid",
    "Size",
    "Slice",
    "Softmax",
    "SoftmaxCrossEntropyLoss",
    "Sqrt",
    "Sub",
    "Transpose",
];

/// The same for the domain of ONNX Runtime's own operators.
const MICROSOFT_ON_CUDA: &[&str] = &[
    "BatchNormInternal",
    "BatchNormalizationGrad",
    "ConvGrad",
    "DropoutGrad",
    "GatherElementsGrad",
    "InPlaceAccumulatorV2",
    "LeakyReluGrad",
    "LogSoftmaxGrad_13",
    "SigmoidGrad",
    "SoftmaxCrossEntropyLossGrad",
    "SoftmaxGrad_13",
];

#[test]
fn training_graphs_hold_only_operators_that_cuda_has_too() {
    let with_dropout = Architecture::Resnet(ResnetOptions {
        dropout: 0.2,
        ..ResnetOptions::default()
    });
    let with_norm = Architecture::Seed(SeedOptions {
        batch_norm: true,
        ..SeedOptions::default()
    });
    for architecture in [
        Architecture::Seed(SeedOptions::default()),
        with_norm,
        with_dropout,
    ] {
        for (height, width, channels) in [(28, 28, 1), (65, 48, 3)] {
            for options in [sgd(0.9, 5e-4, Some(1.0)), adamw(0.01)] {
                let network =
                    network::build(&architecture, &task(height, width, channels)).unwrap();
                let artifacts =
                    artifacts::build(&network, &options, Formulation::Portable, 1).unwrap();
                for model in [&artifacts.training, &artifacts.evaluation] {
                    for node in graph_of(model).node {
                        let allowed = match node.domain() {
                            "" => STANDARD_ON_CUDA,
                            "com.microsoft" => MICROSOFT_ON_CUDA,
                            other => panic!("{}: domain {other}", node.op_type()),
                        };
                        assert!(
                            allowed.contains(&node.op_type()),
                            "{} in {architecture:?}",
                            node.op_type()
                        );
                    }
                }
            }
        }
    }
}

/// Images and soft targets of a batch.
fn batch(random: &mut Random, images: usize, pixels: usize) -> (Vec<u8>, Vec<f32>) {
    let bytes = (0..images * pixels).map(|_| random.random()).collect();
    let targets = (0..images)
        .flat_map(|image| {
            (0..CLASSES).map(move |class| if class == image % CLASSES { 0.9 } else { 0.05 })
        })
        .collect();
    (bytes, targets)
}

fn session(
    artifacts: &Artifacts,
    options: &OptimizerOptions,
    shape: [usize; 3],
) -> TrainingSession {
    TrainingSession::new(
        &runtime::training().environment,
        artifacts,
        options.optimizer.clone(),
        &shape,
        CLASSES,
        Compute {
            threads: 1,
            seed: 1,
            ..Compute::default()
        },
    )
    .unwrap()
}

/// Loss and gradients of a network by an ordinary session: no optimizer, no training API.
struct Gradients {
    session: Session,
    /// Name, role and shape of each of the network's parameters, in order.
    parameters: Vec<(String, Role, Vec<usize>)>,
    shape: [usize; 3],
}

impl Gradients {
    fn new(network: &Network, shape: [usize; 3]) -> Self {
        let training = artifacts::training_graph(network, 1.0).unwrap();
        let name = |index: usize| format!("wanted{index}");
        let outputs = training
            .gradients
            .iter()
            .enumerate()
            .map(|(index, &id)| (name(index), id));
        let targets = Targets {
            outputs: outputs
                .chain([("loss".to_owned(), training.loss)])
                .collect(),
            effects: vec![],
        };
        let graph = lowering::lower(
            "gradients",
            &training.graph,
            Mode::Training,
            Formulation::Portable,
            &targets,
            Parameters::Inputs,
        );
        let session = Session::builder(&runtime::training().environment)
            .unwrap()
            .with_intra_threads(1)
            .unwrap()
            .commit_from_memory(&lowering::model(graph.unwrap()).encode_to_vec())
            .unwrap();
        let parameters = network.graph.parameters().map(|(_, value, parameter)| {
            let dims = value
                .ty
                .shape
                .dims()
                .iter()
                .map(|dim| dim.to_string().parse().unwrap());
            (value.name.clone(), parameter.role, dims.collect())
        });
        Self {
            session,
            parameters: parameters.collect(),
            shape,
        }
    }

    /// Gradients of the trained parameters, in order.
    fn at(&mut self, parameters: &[Vec<f32>], images: &[u8], targets: &[f32]) -> Vec<Vec<f32>> {
        let count = targets.len() / CLASSES;
        let [height, width, channels] = self.shape;
        let images =
            Tensor::from_array(([count, height, width, channels], images.to_vec())).unwrap();
        let targets = Tensor::from_array(([count, CLASSES], targets.to_vec())).unwrap();
        let mut feeds: Vec<(String, SessionInputValue<'_>)> = vec![
            ("images".to_owned(), images.into()),
            ("targets".to_owned(), targets.into()),
        ];
        for ((name, _, shape), values) in self.parameters.iter().zip(parameters) {
            let tensor = Tensor::from_array((shape.clone(), values.clone())).unwrap();
            feeds.push((name.clone(), tensor.into()));
        }
        let outputs = self.session.run(feeds).unwrap();
        let trained = self
            .parameters
            .iter()
            .filter(|(_, role, _)| role.is_trained())
            .count();
        (0..trained)
            .map(|index| {
                outputs[format!("wanted{index}")]
                    .try_extract_tensor::<f32>()
                    .unwrap()
                    .1
                    .to_vec()
            })
            .collect()
    }
}

/// What a published formula makes of one parameter: its values, its gradient, its weight decay and its place among the trained
/// ones go in.
type Update<'a> = &'a mut dyn FnMut(&mut [f64], &[f64], f64, usize);

/// Takes some steps with the training API, and the same ones in plain Rust.
fn compare_steps(options: &OptimizerOptions, learning_rates: &[f32], update: Update<'_>) {
    const SHAPE: [usize; 3] = [5, 6, 1];
    let network = small_network();
    let artifacts = artifacts::build(&network, options, Formulation::Portable, 3).unwrap();
    let mut session = session(&artifacts, options, SHAPE);
    let mut gradients = Gradients::new(&network, SHAPE);
    let mut random = Random::seed_from_u64(5);
    let own = gradients.parameters.len();
    let mut moved = 0.0_f64;
    let mut expected: Vec<Vec<f64>> = doubles(&session.parameters().unwrap()[..own]);
    for &learning_rate in learning_rates {
        let (images, targets) = batch(&mut random, 6, 30);
        let before = session.parameters().unwrap();
        let gradients_now = doubles(&gradients.at(&before[..own], &images, &targets));
        session.step(&images, &targets, learning_rate).unwrap();
        let mut place = 0;
        for ((_, role, _), values) in gradients.parameters.iter().zip(&mut expected) {
            if !role.is_trained() {
                continue;
            }
            let decay = if *role == Role::Weight {
                f64::from(options.weight_decay)
            } else {
                0.0
            };
            let mut step = values.clone();
            update(&mut step, &gradients_now[place], decay, place);
            for (value, step) in values.iter_mut().zip(step) {
                let change = f64::from(learning_rate) * step;
                moved = moved.max(change.abs());
                *value -= change;
            }
            place += 1;
        }
        let after = doubles(&session.parameters().unwrap()[..own]);
        for (((name, role, _), found), expected) in
            gradients.parameters.iter().zip(&after).zip(&expected)
        {
            if !role.is_trained() {
                continue;
            }
            for (found, expected) in found.iter().zip(expected) {
                let gap = (found - expected).abs();
                assert!(
                    gap < 2e-6 * expected.abs().max(1.0),
                    "{name}: {found}, expected {expected}"
                );
            }
        }
    }
    // Otherwise nothing would have been compared.
    assert!(moved > 1e-3, "the parameters moved by {moved} only");
}

fn doubles(values: &[Vec<f32>]) -> Vec<Vec<f64>> {
    values
        .iter()
        .map(|values| values.iter().copied().map(f64::from).collect())
        .collect()
}

#[test]
fn adamw_is_that_of_loshchilov_and_hutter() {
    // m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², w ← w − η (m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε) + λ w)
    let options = OptimizerOptions {
        // A larger ε than usual: at 1e-8 the update of a gradient that is mere rounding is its sign.
        optimizer: Optimizer::AdamW {
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-3,
        },
        weight_decay: 0.3,
        clip_norm: None,
    };
    let mut moments: BTreeMap<usize, (Vec<f64>, Vec<f64>, i32)> = BTreeMap::new();
    compare_steps(
        &options,
        &[0.01, 0.02, 0.005],
        &mut |values, gradient, decay, place| {
            let zeros = || vec![0.0; values.len()];
            let (first, second, step) = moments
                .entry(place)
                .or_insert_with(|| (zeros(), zeros(), 0));
            *step += 1;
            for (index, value) in values.iter_mut().enumerate() {
                let g = gradient[index];
                first[index] = 0.9 * first[index] + 0.1 * g;
                second[index] = 0.99 * second[index] + 0.01 * g * g;
                let mean = first[index] / (1.0 - 0.9_f64.powi(*step));
                let root = (second[index] / (1.0 - 0.99_f64.powi(*step))).sqrt();
                *value = mean / (root + 1e-3) + decay * *value;
            }
        },
    );
}

#[test]
fn sgd_has_nesterov_momentum_and_decays_weights_only() {
    // d = g + λ w, b ← μ b + d, w ← w − η (d + μ b)
    let mut velocities: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    compare_steps(
        &sgd(0.9, 0.1, None),
        &[0.05, 0.1, 0.02],
        &mut |values, gradient, decay, place| {
            let velocity = velocities
                .entry(place)
                .or_insert_with(|| vec![0.0; values.len()]);
            for (index, value) in values.iter_mut().enumerate() {
                let decayed = gradient[index] + decay * *value;
                velocity[index] = 0.9 * velocity[index] + decayed;
                *value = decayed + 0.9 * velocity[index];
            }
        },
    );
}

#[test]
fn sgd_without_momentum_is_plain_descent() {
    compare_steps(
        &sgd(0.0, 0.0, None),
        &[0.1, 0.1],
        &mut |values, gradient, _, _| {
            values.copy_from_slice(gradient);
        },
    );
}

#[test]
fn gradients_are_clipped_together_and_only_when_too_long() {
    const SHAPE: [usize; 3] = [5, 6, 1];
    let network = small_network();
    let mut gradients = Gradients::new(&network, SHAPE);
    let own = gradients.parameters.len();
    let (images, targets) = batch(&mut Random::seed_from_u64(9), 6, 30);
    for (limit, shortens) in [(0.01, true), (1e6, false)] {
        let options = sgd(0.0, 0.0, Some(limit));
        let artifacts = artifacts::build(&network, &options, Formulation::Portable, 3).unwrap();
        let mut session = session(&artifacts, &options, SHAPE);
        let before = session.parameters().unwrap();
        let gradient = gradients.at(&before[..own], &images, &targets);
        let length = gradient
            .iter()
            .flatten()
            .map(|&g| f64::from(g).powi(2))
            .sum::<f64>()
            .sqrt();
        let factor = if shortens {
            f64::from(limit) / length
        } else {
            1.0
        };
        assert!(
            length > 0.1,
            "the gradients are {length} long: nothing to clip"
        );
        session.step(&images, &targets, 1.0).unwrap();
        let after = session.parameters().unwrap();
        let trained = (0..own).filter(|&index| gradients.parameters[index].1.is_trained());
        for (place, index) in trained.enumerate() {
            for element in 0..before[index].len() {
                let moved = f64::from(before[index][element]) - f64::from(after[index][element]);
                let expected = factor * f64::from(gradient[place][element]);
                assert!(
                    (moved - expected).abs() < 1e-6,
                    "{moved}, expected {expected}, limit {limit}"
                );
            }
        }
    }
}

/// Normalisation straight behind the input, so that what it normalises is known: the pixels of two channels.
fn normalisation_alone() -> Network {
    let mut graph = Graph::new();
    let images = graph.input(
        "images",
        TensorType::new(ElementType::U8, Shape::batch(&[2, 3, 2])),
    );
    let floats = graph.cast(images, ElementType::F32).unwrap();
    let planes = graph.transpose(floats, &[0, 3, 1, 2]).unwrap();
    let mut parameter =
        |name, role, value| graph.parameter(name, &[2], role, Initializer::Constant(value));
    let parameters = [
        parameter("scale", Role::BiasOrNorm, 1.5),
        parameter("shift", Role::BiasOrNorm, 0.25),
        parameter("mean", Role::Statistic, 0.0),
        parameter("variance", Role::Statistic, 1.0),
    ];
    let norm = BatchNorm {
        epsilon: 1e-5,
        momentum: 0.8,
    };
    let normalised = graph.batch_norm(planes, parameters, norm).unwrap();
    let flat = graph.flatten(normalised).unwrap();
    let weight = graph.parameter(
        "weight",
        &[CLASSES, 12],
        Role::Weight,
        Initializer::LecunUniform { fan_in: 12 },
    );
    let bias = graph.parameter(
        "bias",
        &[CLASSES],
        Role::BiasOrNorm,
        Initializer::Constant(0.0),
    );
    let logits = graph.dense(flat, weight, bias).unwrap();
    Network {
        graph,
        images,
        logits,
    }
}

#[test]
fn running_statistics_follow_the_batches_and_evaluation_uses_them() {
    let network = normalisation_alone();
    let options = sgd(0.0, 0.0, None);
    let artifacts = artifacts::build(&network, &options, Formulation::Portable, 3).unwrap();
    let mut session = session(&artifacts, &options, [2, 3, 2]);
    let mut random = Random::seed_from_u64(11);
    let (mut mean, mut variance) = ([0.0_f64; 2], [1.0_f64; 2]);
    for _ in 0..3 {
        let (images, targets) = batch(&mut random, 5, 12);
        // A learning rate of zero: only the statistics move.
        session.step(&images, &targets, 0.0).unwrap();
        for channel in 0..2 {
            let values = || {
                images
                    .iter()
                    .skip(channel)
                    .step_by(2)
                    .map(|&byte| f64::from(byte))
            };
            let count = values().count() as f64;
            let batch_mean = values().sum::<f64>() / count;
            let batch_variance = values()
                .map(|value| (value - batch_mean).powi(2))
                .sum::<f64>()
                / count;
            mean[channel] = 0.8 * mean[channel] + 0.2 * batch_mean;
            variance[channel] = 0.8 * variance[channel] + 0.2 * batch_variance;
        }
        let parameters = session.parameters().unwrap();
        for (found, expected) in [(&parameters[2], mean), (&parameters[3], variance)] {
            for channel in 0..2 {
                let gap = (f64::from(found[channel]) - expected[channel]).abs();
                assert!(
                    gap < 1e-5 * expected[channel],
                    "{found:?}, expected {expected:?}"
                );
            }
        }
    }

    let (images, _) = batch(&mut random, 4, 12);
    let weight = &session.parameters().unwrap()[4];
    let logits = session.evaluate(&images).unwrap();
    for (image, row) in images.chunks(12).zip(logits.outer_iter()) {
        for (class, &found) in row.iter().enumerate() {
            let expected: f64 = (0..12)
                .map(|place| {
                    // Planes in the model, interleaved in the bytes.
                    let (channel, pixel) = (place / 6, place % 6);
                    let value = f64::from(image[pixel * 2 + channel]);
                    let normalised =
                        1.5 * (value - mean[channel]) / (variance[channel] + 1e-5).sqrt() + 0.25;
                    normalised * f64::from(weight[class * 12 + place])
                })
                .sum();
            assert!(
                (f64::from(found) - expected).abs() < 1e-4,
                "{found}, expected {expected}"
            );
        }
    }
}

/// Mean over the images of −Σ targets · log softmax(logits).
fn loss_of(logits: &ndarray::Array2<f32>, targets: &[f32]) -> f32 {
    let rows = logits.outer_iter().zip(targets.chunks(logits.ncols()));
    let losses = rows.map(|(logits, targets)| {
        let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
        let terms = logits.iter().zip(targets);
        terms
            .map(|(logit, target)| target * (sum.ln() - logit))
            .sum::<f32>()
    });
    losses.sum::<f32>() / logits.nrows() as f32
}

#[test]
fn dropout_is_for_training_only() {
    let options = SeedOptions {
        dropout: 0.5,
        ..SeedOptions::default()
    };
    let network = network::build(&Architecture::Seed(options), &task(8, 8, 1)).unwrap();
    let optimizer = sgd(0.0, 0.0, None);
    let artifacts = artifacts::build(&network, &optimizer, Formulation::Portable, 1).unwrap();
    let count = |model: &[u8]| {
        graph_of(model)
            .node
            .iter()
            .filter(|node| node.op_type() == "Dropout")
            .count()
    };
    assert_eq!(count(&artifacts.training), 1);
    assert_eq!(count(&artifacts.evaluation), 0);

    let values = artifacts::initial_values(&network.graph, 1);
    let serving = artifacts::serving_model(&network, &values, 1.0, WeightStorage::Float32).unwrap();
    assert!(
        serving
            .graph
            .unwrap()
            .node
            .iter()
            .all(|node| !node.op_type().contains("Dropout"))
    );

    let mut session = session(&artifacts, &optimizer, [8, 8, 1]);
    let (images, targets) = batch(&mut Random::seed_from_u64(2), 6, 64);
    let evaluated = session.evaluate(&images).unwrap();
    assert_eq!(evaluated, session.evaluate(&images).unwrap());
    let mut step = || session.step(&images, &targets, 0.0).unwrap().loss;
    let (first, second) = (step(), step());
    assert_ne!(first, second, "every step drops others");
    assert_ne!(first, loss_of(&evaluated, &targets));
}

#[test]
fn parameters_are_taken_and_given_back_whole() {
    let network = small_network();
    let options = adamw(0.01);
    let artifacts = artifacts::build(&network, &options, Formulation::Portable, 3).unwrap();
    let mut session = session(&artifacts, &options, [5, 6, 1]);
    let fresh = session.parameters().unwrap();
    let own = network.graph.parameters().count();
    assert_eq!(
        fresh[..own],
        artifacts::initial_values(&network.graph, 3),
        "what the checkpoint said"
    );
    let sizes: Vec<usize> = artifacts.parameters.iter().map(|(_, size)| *size).collect();
    assert_eq!(fresh.iter().map(Vec::len).collect::<Vec<_>>(), sizes);

    let (images, targets) = batch(&mut Random::seed_from_u64(4), 6, 30);
    let logits = session.evaluate(&images).unwrap();
    for _ in 0..3 {
        session.step(&images, &targets, 0.01).unwrap();
    }
    assert_eq!(session.steps_done(), 3);
    let trained = session.parameters().unwrap();
    for (index, (before, after)) in fresh.iter().zip(&trained).enumerate() {
        assert_ne!(
            before, after,
            "{} did not move",
            artifacts.parameters[index].0
        );
    }
    assert_ne!(session.evaluate(&images).unwrap(), logits);

    session.restore(&fresh).unwrap();
    assert_eq!(session.parameters().unwrap(), fresh);
    assert_eq!(session.evaluate(&images).unwrap(), logits);
    session.restore(&trained).unwrap();
    assert_eq!(session.parameters().unwrap(), trained);

    let mut short = fresh;
    short.pop();
    let error = session.restore(&short).unwrap_err().to_string();
    assert!(error.contains("parameter elements, expected"), "{error}");
}

#[test]
fn wrong_sizes_are_errors_and_not_undefined() {
    let network = small_network();
    let options = sgd(0.0, 0.0, None);
    let artifacts = artifacts::build(&network, &options, Formulation::Portable, 3).unwrap();
    let mut session = session(&artifacts, &options, [5, 6, 1]);
    let error = |outcome: anyhow::Result<()>| outcome.unwrap_err().to_string();
    let step = |session: &mut TrainingSession, images: &[u8], targets: &[f32]| {
        session.step(images, targets, 0.1).map(drop)
    };
    assert_eq!(
        error(step(&mut session, &[0; 60], &[0.0; 3])),
        "3 target values for 2 examples of 3 classes"
    );
    assert_eq!(
        error(step(&mut session, &[0; 31], &[0.0; 3])),
        "31 values are no batch of examples of 30 values"
    );
    assert_eq!(
        error(session.evaluate::<u8>(&[]).map(drop)),
        "0 values are no batch of examples of 30 values"
    );
    assert_eq!(session.steps_done(), 0);
}

#[test]
fn a_parameter_that_nothing_uses_is_refused() {
    let mut network = small_network();
    network
        .graph
        .parameter("idle", &[2], Role::Weight, Initializer::Constant(0.0));
    let error = artifacts::build(&network, &sgd(0.9, 0.0, None), Formulation::Portable, 1)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the loss does not depend on idle"),
        "{error}"
    );
}
