//! Whole networks against PyTorch: gradients of one batch, and parameters after a few steps of each optimizer.
//!
//! The figures and the scripts that made them are under `tests/fixtures/gradients` and `tests/fixtures/optimizers`. Parameters
//! and images come from formulas that both sides compute, and the scripts made sure that no rectifier or maximum is so near
//! to its kink that rounding decides.

use catalog::artifacts::{self, OptimizerOptions, TARGETS};
use catalog::lowering::{self, Formulation, Mode, Parameters, Targets};
use catalog::network::{self, Architecture, IMAGES, Network, Task};
use catalog::training::loader::write_targets;
use catalog::training::session::{Compute, TrainingSession};
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;
use prost::Message;
use serde::Deserialize;

use crate::runtime;

/// A network, its input and its gradients.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GradientCase {
    architecture: Architecture,
    task: Task,
    batch_size: usize,
    label_smoothing: f32,
    loss: f64,
    parameters: Vec<Figures>,
}

/// A network, an optimizer and what five steps make of the parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptimizerCase {
    title: String,
    architecture: Architecture,
    task: Task,
    batch_size: usize,
    label_smoothing: f32,
    learning_rate: f32,
    optimizer: OptimizerOptions,
    losses: Vec<f64>,
    parameters: Vec<Figures>,
    statistics: Vec<Figures>,
}

/// What belongs to one parameter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    name: String,
    values: Vec<f64>,
}

/// Value `i` of the trained parameter at `position`: 0.3 · sin(0.7 · i + position), and 1 more for scales of normalisations.
fn formula(name: &str, position: usize, count: usize) -> Vec<f32> {
    let offset = if name.ends_with(".scale") { 1.0 } else { 0.0 };
    (0..count)
        .map(|i| (offset + 0.3 * (0.7 * i as f64 + position as f64).sin()) as f32)
        .collect()
}

/// Bytes `[N, H, W, C]` of a batch.
fn images(task: &Task, batch_size: usize, batch: usize) -> Vec<u8> {
    (0..batch_size * task.height * task.width * task.channels)
        .map(|i| ((i * 7919 + batch * 104_729) % 251) as u8)
        .collect()
}

/// Smoothed targets `[N, K]`; image n is of class n mod K.
fn targets(task: &Task, batch_size: usize, label_smoothing: f32) -> Vec<f32> {
    let labels: Vec<u32> = (0..batch_size)
        .map(|image| (image % task.classes) as u32)
        .collect();
    let mut targets = Vec::new();
    write_targets(&labels, task.classes, label_smoothing, None, &mut targets);
    targets
}

/// ‖found − expected‖₂ / ‖expected‖₂.
fn relative_error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let difference = square(
        &mut found
            .iter()
            .zip(expected)
            .map(|(found, expected)| f64::from(*found) - expected),
    );
    (difference / square(&mut expected.iter().copied())).sqrt()
}

fn position_of(figures: &[Figures], name: &str) -> usize {
    figures
        .iter()
        .position(|figures| figures.name == name)
        .unwrap_or_else(|| panic!("the reference has no parameter {name}"))
}

#[test]
fn gradients_agree_with_pytorch() {
    let cases: Vec<GradientCase> =
        serde_json::from_str(include_str!("../fixtures/gradients/reference.json")).unwrap();
    assert_eq!(cases.len(), 5);
    for case in &cases {
        let network = network::build(&case.architecture, &case.task).unwrap();
        let (loss, gradients) = gradients(&network, case);
        let error = (loss - case.loss).abs() / case.loss;
        assert!(
            error <= 1e-5,
            "{:?}: loss {loss}, PyTorch has {}",
            case.architecture,
            case.loss
        );
        assert_eq!(gradients.len(), case.parameters.len());
        for (name, gradient) in &gradients {
            let expected = &case.parameters[position_of(&case.parameters, name)].values;
            let error = relative_error(gradient, expected);
            assert!(
                error <= 1e-4,
                "{:?}: the gradient of {name} is off by {error:.1e} of its norm",
                case.architecture
            );
        }
    }
}

/// Loss, and the gradient of each trained parameter by name.
fn gradients(network: &Network, case: &GradientCase) -> (f64, Vec<(String, Vec<f32>)>) {
    let training = artifacts::training_graph(network, 1.0).unwrap();
    let graph = &training.graph;
    let names: Vec<String> = training
        .trained
        .iter()
        .map(|&id| graph.value(id).name.clone())
        .collect();
    let mut outputs = vec![("loss".to_owned(), training.loss)];
    for (name, &gradient) in names.iter().zip(&training.gradients) {
        outputs.push((format!("gradient of {name}"), gradient));
    }
    let wanted = Targets {
        outputs,
        effects: vec![],
    };
    let proto = lowering::lower(
        "gradients",
        graph,
        Mode::Training,
        Formulation::Portable,
        &wanted,
        Parameters::Inputs,
    )
    .unwrap();
    let mut session = session(&lowering::model(proto).encode_to_vec());

    let Task {
        height,
        width,
        channels,
        classes,
        ..
    } = case.task;
    let pixels = images(&case.task, case.batch_size, 0);
    let soft = targets(&case.task, case.batch_size, case.label_smoothing);
    let pixels = Tensor::from_array(([case.batch_size, height, width, channels], pixels)).unwrap();
    let soft = Tensor::from_array(([case.batch_size, classes], soft)).unwrap();
    let mut inputs: Vec<(String, SessionInputValue<'_>)> = vec![
        (IMAGES.to_owned(), pixels.into()),
        (TARGETS.to_owned(), soft.into()),
    ];
    for (_, value, parameter) in graph.parameters() {
        let count = value.ty.shape.fixed_len().unwrap();
        let sizes: Vec<usize> = value
            .ty
            .shape
            .dims()
            .iter()
            .map(|dim| match dim {
                catalog::graph::Dim::Fixed(size) | catalog::graph::Dim::Batch(size) => *size,
            })
            .collect();
        let data = match parameter.role.is_trained() {
            true => formula(
                &value.name,
                position_of(&case.parameters, &value.name),
                count,
            ),
            // Batch statistics are used, whatever the running ones are.
            false => vec![1.0; count],
        };
        let tensor = Tensor::from_array((sizes, data)).unwrap();
        inputs.push((value.name.clone(), tensor.into()));
    }
    let outputs = session.run(inputs).unwrap();
    let floats = |name: &str| {
        outputs[name]
            .try_extract_tensor::<f32>()
            .unwrap()
            .1
            .to_vec()
    };
    let gradients = names
        .iter()
        .map(|name| (name.clone(), floats(&format!("gradient of {name}"))))
        .collect();
    (f64::from(floats("loss")[0]), gradients)
}

fn session(model: &[u8]) -> Session {
    Session::builder(&runtime::training().environment)
        .unwrap()
        .with_intra_threads(1)
        .unwrap()
        .commit_from_memory(model)
        .unwrap()
}

#[test]
fn optimizers_move_parameters_as_those_of_pytorch() {
    let cases: Vec<OptimizerCase> =
        serde_json::from_str(include_str!("../fixtures/optimizers/reference.json")).unwrap();
    assert_eq!(cases.len(), 6);
    for case in &cases {
        let network = network::build(&case.architecture, &case.task).unwrap();
        let mut session = training_session(&network, case);
        for (step, &expected) in case.losses.iter().enumerate() {
            let pixels = images(&case.task, case.batch_size, step);
            let soft = targets(&case.task, case.batch_size, case.label_smoothing);
            let loss = session
                .step(&pixels, &soft, case.learning_rate)
                .unwrap()
                .loss;
            let error = (f64::from(loss) - expected).abs() / expected;
            assert!(
                error <= 1e-5,
                "{}: loss {} at step {step}, PyTorch has {expected}",
                case.title,
                loss
            );
        }
        let found = session.parameters().unwrap();
        let mut compared = 0;
        for ((_, value, parameter), found) in network.graph.parameters().zip(&found) {
            let expected = match parameter.role.is_trained() {
                true => &case.parameters,
                false => &case.statistics,
            };
            let expected = &expected[position_of(expected, &value.name)].values;
            let error = relative_error(found, expected);
            assert!(
                error <= 1e-5,
                "{}: {} is off by {error:.1e} of its norm",
                case.title,
                value.name
            );
            compared += 1;
        }
        assert_eq!(compared, case.parameters.len() + case.statistics.len());
    }
}

/// A session whose trained parameters have the formula's values and whose state is fresh.
fn training_session(network: &Network, case: &OptimizerCase) -> TrainingSession {
    let artifacts = artifacts::build(network, &case.optimizer, Formulation::Portable, 1).unwrap();
    let Task {
        height,
        width,
        channels,
        classes,
        ..
    } = case.task;
    let mut session = TrainingSession::new(
        &runtime::training().environment,
        &artifacts,
        case.optimizer.optimizer.clone(),
        &[height, width, channels],
        classes,
        Compute {
            threads: 1,
            seed: 1,
            ..Compute::default()
        },
    )
    .unwrap();
    let mut start = session.parameters().unwrap();
    for ((_, value, parameter), start) in network.graph.parameters().zip(&mut start) {
        if parameter.role.is_trained() {
            let position = position_of(&case.parameters, &value.name);
            *start = formula(&value.name, position, start.len());
        }
    }
    session.restore(&start).unwrap();
    session
}
