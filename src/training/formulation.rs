//! Which formulation a training run uses on this machine, and why.

use anyhow::{Context, Result, bail, ensure};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::Tensor;
use pipeline::onnx::{GraphProto, NodeProto};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::graph::{Graph, Shape, TensorType};
use crate::kernels::Instructions;
use crate::lowering::{self, Formulation};

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormulationChoice {
    /// The fastest that this machine can run.
    #[default]
    Auto,
    /// Operators that every build of ONNX Runtime with the training API has.
    Portable,
    /// The same in mixed precision: 16-bit products, 32-bit weights.
    Mixed,
    /// Convolutions on blocked layout; an error where this machine has none.
    Blocked,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The formulation.
    pub formulation: Formulation,
    /// One clause for the reader that says what it is and how much of the network it covers.
    pub description: String,
}

/// Chooses the formulation for a network.
///
/// # Errors
/// When blocked layout is asked for and this machine or this library has no operators for it, or ONNX Runtime reports an error.
pub fn choose(choice: FormulationChoice, graph: &Graph, machine: Machine<'_>) -> Result<Chosen> {
    let portable = |reason: &str| Chosen {
        formulation: Formulation::Portable,
        description: format!("portable operators ({reason})"),
    };
    if choice == FormulationChoice::Mixed {
        return Ok(Chosen {
            formulation: Formulation::Mixed,
            description: match machine.device.gpu() {
                Some(_) => "mixed precision: portable operators with 16-bit products".to_owned(),
                None => "mixed precision, which a processor computes by converting to and fro: slower than any other"
                    .to_owned(),
            },
        });
    }
    if machine.device.gpu().is_some() {
        ensure!(
            choice != FormulationChoice::Blocked,
            "blocked layout is for processors, and {} is none: leave out --formulation or --device",
            machine.device
        );
        return Ok(portable("those for CUDA"));
    }
    if choice == FormulationChoice::Portable {
        return Ok(portable("as asked"));
    }
    let (formulation, instructions) = match probe_block(machine.environment) {
        Ok(block) => match Instructions::detect(block) {
            Some(instructions) => (Formulation::Blocked { block }, instructions),
            None => {
                return refuse(
                    choice,
                    portable,
                    &format!("ONNX Runtime uses blocks of {block} channels here"),
                );
            }
        },
        Err(error) => {
            return refuse(
                choice,
                portable,
                &format!("ONNX Runtime has no blocked layout here: {error:#}"),
            );
        }
    };
    let (blocked, total) = lowering::blocked_convolutions(graph, formulation);
    if blocked == 0 {
        let block = instructions.block();
        return refuse(
            choice,
            portable,
            &format!("no convolution has a multiple of {block} filters"),
        );
    }
    Ok(Chosen {
        formulation,
        description: format!(
            "blocked layout of {} channels with {} for {blocked} of {total} convolutions",
            instructions.block(),
            instructions.name()
        ),
    })
}

/// Falls back, unless blocked layout was asked for.
fn refuse(
    choice: FormulationChoice,
    portable: impl Fn(&str) -> Chosen,
    reason: &str,
) -> Result<Chosen> {
    match choice {
        FormulationChoice::Blocked => bail!("blocked layout cannot be used: {reason}"),
        FormulationChoice::Auto | FormulationChoice::Portable | FormulationChoice::Mixed => {
            Ok(portable(reason))
        }
    }
}

/// Asks ONNX Runtime how many channels it puts in a block on this processor, by the order in which a reordered value comes out.
fn probe_block(environment: &Environment) -> Result<usize> {
    const CHANNELS: usize = 32;
    const PIXELS: usize = 2;
    let ty = TensorType::f32(Shape::fixed(&[1, CHANNELS, 1, PIXELS]));
    let node = NodeProto {
        input: vec!["plain".to_owned()],
        output: vec!["blocked".to_owned()],
        op_type: Some("ReorderInput".to_owned()),
        domain: Some(lowering::BLOCKED_DOMAIN.to_owned()),
        ..NodeProto::default()
    };
    let model = lowering::model(GraphProto {
        name: Some("probe".to_owned()),
        node: vec![node],
        input: vec![lowering::value_info("plain", &ty)],
        output: vec![lowering::value_info("blocked", &ty)],
        ..GraphProto::default()
    });
    let mut session = Session::builder(environment)?.commit_from_memory(&model.encode_to_vec())?;
    // Each value says which channel it belongs to.
    let plain: Vec<f32> = (0..CHANNELS * PIXELS)
        .map(|index| (index / PIXELS) as f32)
        .collect();
    let plain = Tensor::from_array(([1, CHANNELS, 1, PIXELS], plain))?;
    let outputs = session.run(ort::inputs![plain])?;
    let (_, blocked) = outputs[0].try_extract_tensor::<f32>()?;
    // The channels of the first block come before channel 0 comes again, at the second pixel.
    let block = blocked.iter().skip(1).position(|&channel| channel == 0.0);
    let block = block.context("the reordered values are not in blocks")? + 1;
    let expected = (0..CHANNELS * PIXELS).map(|index| {
        let (group, lane) = (index / (PIXELS * block), index % block);
        (group * block + lane) as f32
    });
    match blocked.iter().copied().eq(expected) {
        true => Ok(block),
        false => bail!("the reordered values are in an unknown order"),
    }
}
