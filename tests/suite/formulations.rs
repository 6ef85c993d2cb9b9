//! The blocked formulation against the portable one: the same losses, gradients, statistics and models, up to rounding.
//!
//! Networks are compared at inputs that are no ties: a rounding that flips one rectifier or maximum would be seen.

use catalog::artifacts::{self, Optimizer, OptimizerOptions};
use catalog::autodiff::differentiate;
use catalog::graph::{
    Axes, BatchNorm, Conv2d, Dim, Graph, Initializer, Pool2d, Role, Shape, TensorType, ValueId,
};
use catalog::lowering::{self, Formulation, Mode, Parameters, Targets};
use catalog::network::{self, Architecture, ResnetOptions, SeedOptions, Task, VggOptions};
use catalog::operators;
use catalog::training::formulation::{FormulationChoice, choose};
use catalog::training::machine::Machine;
use catalog::training::session::{Compute, TrainingSession};
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;
use pipeline::model::Device;
use prost::Message;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng as Random;

use crate::runtime;

/// The blocked formulation of this machine. Where it has none, the program says why and the tests here have nothing to compare.
#[expect(clippy::print_stderr)]
fn blocked(graph: &Graph) -> Option<Formulation> {
    let environment = &runtime::training().environment;
    match choose(FormulationChoice::Blocked, graph, environment.into()) {
        Ok(chosen) => Some(chosen.formulation),
        Err(error) if !cfg!(target_arch = "x86_64") => {
            eprintln!("skipped: {error:#}");
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

/// A graph under construction, with its images, loss and parameters.
pub(crate) struct Case {
    pub(crate) graph: Graph,
    random: Random,
    parameters: Vec<(ValueId, Vec<f32>)>,
    images: (ValueId, [usize; 4], Vec<f32>),
}

impl Case {
    pub(crate) fn new(images: usize, channels: usize, height: usize, width: usize) -> Self {
        let mut graph = Graph::new();
        let mut random = Random::seed_from_u64(11);
        let x = graph.input(
            "x",
            TensorType::f32(Shape::batch(&[channels, height, width])),
        );
        let data = (0..images * channels * height * width)
            .map(|_| random.random_range(-1.0..1.0))
            .collect();
        Self {
            graph,
            random,
            parameters: vec![],
            images: (x, [images, channels, height, width], data),
        }
    }

    pub(crate) fn x(&self) -> ValueId {
        self.images.0
    }

    fn parameter(&mut self, shape: &[usize], role: Role, range: std::ops::Range<f32>) -> ValueId {
        let name = format!("p{}", self.parameters.len());
        let id = self
            .graph
            .parameter(&name, shape, role, Initializer::Constant(0.0));
        let data = (0..shape.iter().product())
            .map(|_| self.random.random_range(range.clone()))
            .collect();
        self.parameters.push((id, data));
        id
    }

    fn channels(&self, x: ValueId) -> usize {
        size(&self.graph.shape(x).dims()[1])
    }

    pub(crate) fn conv(
        &mut self,
        x: ValueId,
        filters: usize,
        kernel: usize,
        conv: Conv2d,
    ) -> ValueId {
        let inputs = self.channels(x) / conv.groups;
        let bound = (3.0 / (inputs * kernel * kernel) as f32).sqrt();
        let weight = self.parameter(
            &[filters, inputs, kernel, kernel],
            Role::Weight,
            -bound..bound,
        );
        self.graph.conv(x, weight, None, conv).unwrap()
    }

    pub(crate) fn conv_with_bias(&mut self, x: ValueId, filters: usize, kernel: usize) -> ValueId {
        let inputs = self.channels(x);
        let weight = self.parameter(&[filters, inputs, kernel, kernel], Role::Weight, -0.2..0.2);
        let bias = self.parameter(&[filters], Role::BiasOrNorm, -0.2..0.2);
        self.graph
            .conv(x, weight, Some(bias), Conv2d::same(kernel))
            .unwrap()
    }

    pub(crate) fn norm(&mut self, x: ValueId) -> ValueId {
        let channels = self.channels(x);
        let scale = self.parameter(&[channels], Role::BiasOrNorm, 0.5..1.5);
        let bias = self.parameter(&[channels], Role::BiasOrNorm, -0.5..0.5);
        let mean = self.parameter(&[channels], Role::Statistic, -0.5..0.5);
        let variance = self.parameter(&[channels], Role::Statistic, 0.5..1.5);
        self.graph
            .batch_norm(x, [scale, bias, mean, variance], BatchNorm::default())
            .unwrap()
    }

    /// Output, loss and gradients of all trained parameters, or the output of the network in inference; and the operators used.
    pub(crate) fn run(
        &self,
        output: ValueId,
        mode: Mode,
        formulation: Formulation,
    ) -> (Vec<Vec<f32>>, Vec<String>) {
        let mut graph = self.graph.clone();
        // A random mixture: behind a normalisation, plain sums and squares have almost no gradient.
        let mut shape: Vec<usize> = graph.shape(output).dims().iter().map(size).collect();
        shape[0] = 1;
        let mut random = Random::seed_from_u64(13);
        let weights = (0..shape.iter().product())
            .map(|_| random.random_range(-1.0..1.0))
            .collect();
        let weights = graph.constant(catalog::graph::Tensor::f32(&shape, weights));
        let weighted = graph.mul(output, weights).unwrap();
        let square = graph.mul(output, weighted).unwrap();
        let sum = graph.add(square, weighted).unwrap();
        let axes: Vec<usize> = (0..graph.shape(sum).rank()).collect();
        let loss = graph.reduce_mean(sum, Axes::Drop(&axes)).unwrap();
        let trained: Vec<ValueId> = graph
            .parameters()
            .filter(|(_, _, parameter)| parameter.role.is_trained())
            .map(|(id, _, _)| id)
            .collect();
        let gradients = differentiate(&mut graph, loss, &trained).unwrap();
        let mut outputs = vec![("output".to_owned(), output)];
        if mode == Mode::Training {
            outputs.push(("loss".to_owned(), loss));
            outputs.extend(
                gradients
                    .iter()
                    .enumerate()
                    .map(|(index, &id)| (format!("gradient{index}"), id)),
            );
        }
        let names: Vec<String> = outputs.iter().map(|(name, _)| name.clone()).collect();
        let targets = Targets {
            outputs,
            effects: vec![],
        };
        let proto = lowering::lower(
            "case",
            &graph,
            mode,
            formulation,
            &targets,
            Parameters::Inputs,
        )
        .unwrap();
        let operators_used = proto
            .node
            .iter()
            .map(|node| format!("{}:{}", node.domain(), node.op_type()))
            .collect();
        let mut builder = Session::builder(&runtime::training().environment)
            .unwrap()
            .with_intra_threads(2)
            .unwrap()
            .with_operators(operators::domain().unwrap())
            .unwrap();
        let mut session = {
            let _registration = operators::registration();
            builder
                .commit_from_memory(&lowering::model(proto).encode_to_vec())
                .unwrap()
        };
        let (_, shape, data) = &self.images;
        let mut inputs: Vec<(String, SessionInputValue<'_>)> = vec![(
            "x".to_owned(),
            Tensor::from_array((*shape, data.clone())).unwrap().into(),
        )];
        for (id, data) in &self.parameters {
            let value = self.graph.value(*id);
            let sizes: Vec<usize> = value.ty.shape.dims().iter().map(size).collect();
            inputs.push((
                value.name.clone(),
                Tensor::from_array((sizes, data.clone())).unwrap().into(),
            ));
        }
        let outputs = session.run(inputs).unwrap();
        let values = names
            .iter()
            .map(|name| {
                outputs[name.as_str()]
                    .try_extract_tensor::<f32>()
                    .unwrap()
                    .1
                    .to_vec()
            })
            .collect();
        (values, operators_used)
    }

    /// Checks both formulations against each other, and that the blocked one uses the operators named.
    fn compare(&self, what: &str, output: ValueId, expected_operators: &[&str]) {
        let Some(formulation) = blocked(&self.graph) else {
            return;
        };
        for mode in [Mode::Training, Mode::Inference] {
            let (portable, _) = self.run(output, mode, Formulation::Portable);
            let (found, used) = self.run(output, mode, formulation);
            for (index, (found, portable)) in found.iter().zip(&portable).enumerate() {
                let error = relative_error(found, portable);
                assert!(
                    error <= 1e-5,
                    "{what}, {mode:?}: value {index} is off by {error:.1e} of its norm"
                );
            }
            if mode == Mode::Training {
                for operator in expected_operators {
                    assert!(
                        used.iter().any(|name| name == operator),
                        "{what}: no {operator} in {used:?}"
                    );
                }
            }
        }
    }
}

fn size(dim: &Dim) -> usize {
    match dim {
        Dim::Fixed(size) | Dim::Batch(size) => *size,
    }
}

/// Relative L2 error.
pub(crate) fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |value: f64| value * value;
    let error: f64 = found
        .iter()
        .zip(expected)
        .map(|(a, b)| square(f64::from(*a) - f64::from(*b)))
        .sum();
    let norm: f64 = expected.iter().map(|value| square(f64::from(*value))).sum();
    (error / norm.max(1e-20)).sqrt()
}

#[test]
fn convolution_pooling_rectifier() {
    for channels in [1, 3, 16] {
        let mut case = Case::new(3, channels, 13, 10);
        let x = case.conv_with_bias(case.x(), 32, 3);
        let pooled = case.graph.max_pool(x, Pool2d::square(2)).unwrap();
        let x = case.graph.relu(pooled).unwrap();
        let x = case.conv_with_bias(x, 16, 3);
        let pooled = case.graph.max_pool(x, Pool2d::square(2)).unwrap();
        let x = case.graph.relu(pooled).unwrap();
        let output = case.graph.flatten(x).unwrap();
        let first = if channels < 8 {
            "catalog:ConvMaxPool"
        } else {
            "com.microsoft.nchwc:Conv"
        };
        let operators = [
            first,
            "com.microsoft.nchwc:Conv",
            "catalog:MaxPool",
            "catalog:PooledConvWeightGradient",
            "catalog:PooledConvInputGradient",
            "catalog:ChannelSum",
        ];
        case.compare(&format!("{channels} channels"), output, &operators);
    }
}

#[test]
fn rectifier_before_overlapping_pooling() {
    let mut case = Case::new(2, 16, 9, 9);
    let x = case.conv_with_bias(case.x(), 32, 3);
    let x = case.graph.relu(x).unwrap();
    let pool = Pool2d {
        kernel: [3, 3],
        strides: [2, 2],
        padding: [1, 1, 1, 1],
    };
    let x = case.graph.max_pool(x, pool).unwrap();
    let x = case.conv(x, 16, 3, Conv2d::same(3));
    let x = case.graph.global_average_pool(x).unwrap();
    let output = case.graph.flatten(x).unwrap();
    let operators = [
        "catalog:MaxPoolGradient",
        "catalog:RectifierGradient",
        "catalog:ConvWeightGradient",
        "catalog:ChannelSum",
        "com.microsoft.nchwc:GlobalAveragePool",
        "com.microsoft.nchwc:Upsample",
    ];
    case.compare("overlapping pooling", output, &operators);
}

#[test]
fn residual_blocks_with_batch_normalisation() {
    for (stride, identity) in [(1, true), (1, false), (2, false)] {
        let mut case = Case::new(5, 3, 12, 9);
        let x = case.conv(case.x(), 16, 3, Conv2d::same(3));
        let x = case.norm(x);
        let x = case.graph.relu(x).unwrap();
        let width = if identity { 16 } else { 32 };
        let y = case.conv(x, width, 3, Conv2d::same(3).with_stride(stride));
        let y = case.norm(y);
        let y = case.graph.relu(y).unwrap();
        let y = case.conv(y, width, 3, Conv2d::same(3));
        let y = case.norm(y);
        let shortcut = match identity {
            true => x,
            false => {
                let projected = case.conv(x, width, 1, Conv2d::same(1).with_stride(stride));
                case.norm(projected)
            }
        };
        let sum = case.graph.add(y, shortcut).unwrap();
        let x = case.graph.relu(sum).unwrap();
        let x = case.graph.global_average_pool(x).unwrap();
        let output = case.graph.flatten(x).unwrap();
        let mut operators = vec![
            "catalog:BatchNorm",
            "catalog:BatchNormGradient",
            "catalog:ConvWeightGradient",
        ];
        if stride == 2 {
            operators.push("catalog:ConvInputGradient");
        }
        case.compare(
            &format!("stride {stride}, identity {identity}"),
            output,
            &operators,
        );
    }
}

/// The blocks of EfficientNet-Lite: 1×1 expansion, depthwise convolution, 1×1 projection, ReLU6.
#[test]
fn inverted_residual_blocks() {
    for (stride, kernel) in [(1, 3), (2, 3), (1, 5), (2, 5)] {
        let mut case = Case::new(4, 16, 11, 8);
        let x = case.conv(case.x(), 16, 3, Conv2d::same(3));
        let x = case.norm(x);
        // Without this, the normalisation behind the expansion would undo any shift, and the gradient of the bias were zero.
        let x = case.graph.clip(x, 0.0, 6.0).unwrap();
        let mut y = case.conv(x, 48, 1, Conv2d::same(1));
        y = case.norm(y);
        y = case.graph.clip(y, 0.0, 6.0).unwrap();
        let depthwise = Conv2d {
            groups: 48,
            ..Conv2d::same(kernel).with_stride(stride)
        };
        y = case.conv(y, 48, kernel, depthwise);
        y = case.norm(y);
        y = case.graph.clip(y, 0.0, 6.0).unwrap();
        y = case.conv(y, 16, 1, Conv2d::same(1));
        y = case.norm(y);
        let output = if stride == 1 {
            case.graph.add(x, y).unwrap()
        } else {
            y
        };
        let operators = [
            "catalog:BatchNormGradient",
            "catalog:ConvInputGradient",
            "com.microsoft.nchwc:Conv",
        ];
        case.compare(
            &format!("stride {stride}, kernel {kernel}"),
            output,
            &operators,
        );
    }
}

#[test]
fn what_fits_no_blocks_stays_portable_layer_by_layer() {
    // 20 channels are no multiple of any block, and neither are 2 groups.
    let mut case = Case::new(3, 16, 8, 8);
    let mut x = case.conv(case.x(), 32, 3, Conv2d::same(3));
    x = case.graph.relu(x).unwrap();
    x = case.conv(x, 20, 3, Conv2d::same(3));
    x = case.norm(x);
    x = case.graph.relu(x).unwrap();
    x = case.conv(x, 32, 3, Conv2d::same(3));
    x = case.graph.sigmoid(x).unwrap();
    x = case.conv(
        x,
        32,
        3,
        Conv2d {
            groups: 2,
            ..Conv2d::same(3)
        },
    );
    x = case.graph.leaky_relu(x, 0.1).unwrap();
    let dilated = Conv2d {
        dilations: [2, 2],
        padding: [2; 4],
        ..Conv2d::same(3)
    };
    x = case.conv(x, 16, 3, dilated);
    x = case.graph.average_pool(x, Pool2d::square(2)).unwrap();
    let operators = [
        ":Conv",
        "com.microsoft:ConvGrad",
        "com.microsoft.nchwc:Conv",
        "com.microsoft.nchwc:ReorderOutput",
    ];
    case.compare("mixed", x, &operators);
}

#[test]
fn a_value_with_several_readers_is_joined_with_none() {
    let mut case = Case::new(2, 16, 6, 6);
    let convolved = case.conv_with_bias(case.x(), 16, 3);
    let rectified = case.graph.relu(convolved).unwrap();
    let normalised = case.norm(rectified);
    let clipped = case.graph.clip(normalised, 0.0, 1.0).unwrap();
    // Both what goes into the rectifiers and what comes out are used again.
    let mut sum = case.graph.add(convolved, rectified).unwrap();
    sum = case.graph.add(sum, normalised).unwrap();
    sum = case.graph.mul(sum, clipped).unwrap();
    let pooled = case.graph.max_pool(sum, Pool2d::square(2)).unwrap();
    let open = case.graph.relu(pooled).unwrap();
    let both = case.graph.add(pooled, open).unwrap();
    let output = case.graph.add(both, both).unwrap();
    case.compare("several readers", output, &["catalog:MaxPoolGradient"]);
}

#[test]
fn a_chain_ends_where_the_next_one_begins() {
    let mut case = Case::new(2, 16, 6, 6);
    // What comes out of the first normalisation's rectifier is read by an addition alone, and so is the next one's.
    let mut x = case.conv(case.x(), 16, 3, Conv2d::same(3));
    x = case.norm(x);
    x = case.graph.relu(x).unwrap();
    x = case.graph.add(x, case.x()).unwrap();
    x = case.graph.relu(x).unwrap();
    let mut y = case.conv_with_bias(x, 16, 3);
    y = case.graph.relu(y).unwrap();
    y = case.graph.relu(y).unwrap();
    y = case.graph.max_pool(y, Pool2d::square(3)).unwrap();
    y = case.graph.relu(y).unwrap();
    let output = case.graph.relu(y).unwrap();
    case.compare("chains", output, &["catalog:BatchNorm", "catalog:MaxPool"]);
}

pub(crate) fn task(channels: usize) -> Task {
    Task {
        height: 14,
        width: 12,
        channels,
        classes: 4,
        mean: vec![120.0; channels],
        deviation: vec![60.0; channels],
    }
}

pub(crate) fn architectures() -> Vec<Architecture> {
    vec![
        Architecture::Seed(SeedOptions {
            dropout: 0.0,
            ..SeedOptions::default()
        }),
        Architecture::Seed(SeedOptions {
            batch_norm: true,
            dropout: 0.0,
            ..SeedOptions::default()
        }),
        Architecture::Resnet(ResnetOptions {
            stem: 16,
            widths: vec![16, 32],
            first_stride: 2,
            blocks: 2,
            dropout: 0.0,
        }),
        Architecture::Vgg(VggOptions {
            stages: vec![vec![16, 16], vec![32]],
            batch_norm: false,
            dropout: 0.0,
        }),
        Architecture::Vgg(VggOptions {
            stages: vec![vec![16, 16], vec![32]],
            batch_norm: true,
            dropout: 0.0,
        }),
    ]
}

/// Losses of some steps, then all parameters, statistics and optimizer state included.
pub(crate) fn train(
    architecture: &Architecture,
    task: &Task,
    choice: FormulationChoice,
    threads: usize,
) -> (Vec<f32>, Vec<Vec<f32>>, Vec<f32>) {
    let environment = &runtime::training().environment;
    let network = network::build(architecture, task).unwrap();
    let formulation = choose(choice, &network.graph, environment.into())
        .unwrap()
        .formulation;
    let options = OptimizerOptions {
        optimizer: Optimizer::Sgd { momentum: 0.9 },
        weight_decay: 5e-4,
        clip_norm: None,
    };
    let artifacts = artifacts::build(&network, &options, formulation, 5).unwrap();
    let shape = [task.height, task.width, task.channels];
    let mut session = TrainingSession::new(
        environment,
        &artifacts,
        options.optimizer.clone(),
        &shape,
        task.classes,
        Compute {
            threads,
            seed: 5,
            ..Compute::default()
        },
    )
    .unwrap();
    let mut random = Random::seed_from_u64(3);
    let count = 32;
    let mut losses = vec![];
    let mut draw = |len: usize| -> Vec<u8> { (0..len).map(|_| random.random()).collect() };
    let pixels = task.height * task.width * task.channels;
    for _ in 0..6 {
        let images = draw(count * pixels);
        let targets: Vec<f32> = draw(count)
            .into_iter()
            .flat_map(|label| (0..4).map(move |class| f32::from(class == label % 4)))
            .collect();
        losses.push(session.step(&images, &targets, 0.01).unwrap().loss);
    }
    let logits = session.evaluate(&draw(7 * pixels)).unwrap();
    (
        losses,
        session.parameters().unwrap(),
        logits.into_iter().collect(),
    )
}

#[test]
fn training_sessions_learn_the_same() {
    for architecture in architectures() {
        for channels in [1, 3] {
            let task = task(channels);
            let portable = train(&architecture, &task, FormulationChoice::Portable, 2);
            let auto = train(&architecture, &task, FormulationChoice::Auto, 2);
            for (auto, portable) in auto.0.iter().zip(&portable.0) {
                assert!(
                    (auto - portable).abs() <= 2e-4 * portable,
                    "{architecture:?}: {auto} against {portable}"
                );
            }
            let error = relative_error(&auto.2, &portable.2);
            assert!(
                error < 2e-3,
                "{architecture:?}: logits are off by {error:.1e}"
            );
            for (auto, portable) in auto.1.iter().zip(&portable.1) {
                let error = relative_error(auto, portable);
                assert!(
                    error < 1e-2,
                    "{architecture:?}: a parameter is off by {error:.1e}"
                );
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing_in_the_blocks() {
    // The matrix products of dense layers are ONNX Runtime's, which splits them by threads: only networks without large ones.
    for architecture in architectures()
        .into_iter()
        .filter(|architecture| !matches!(architecture, Architecture::Seed(_)))
    {
        let one = train(&architecture, &task(1), FormulationChoice::Auto, 1);
        for threads in [2, 3] {
            assert_eq!(
                one,
                train(&architecture, &task(1), FormulationChoice::Auto, threads),
                "{architecture:?}"
            );
        }
    }
}

#[test]
fn a_gpu_gets_portable_operators_and_no_others() {
    let environment = &runtime::training().environment;
    let machine = Machine {
        environment,
        device: Device::Cuda(0),
    };
    let task = Task {
        height: 28,
        width: 28,
        channels: 1,
        classes: 10,
        mean: vec![0.0],
        deviation: vec![1.0],
    };
    let network = network::build(&Architecture::default(), &task).unwrap();
    let chosen = choose(FormulationChoice::Auto, &network.graph, machine).unwrap();
    assert_eq!(chosen.formulation, Formulation::Portable);
    assert!(
        chosen.description.contains("CUDA"),
        "{}",
        chosen.description
    );
    let refused = choose(FormulationChoice::Blocked, &network.graph, machine).unwrap_err();
    assert!(refused.to_string().contains("cuda:0"), "{refused}");
}
