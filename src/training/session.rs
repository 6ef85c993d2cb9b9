//! One training session of ONNX Runtime: step, evaluate, read and write the parameters.
//!
//! A thin, typed shell around `ort::training`. It is not `Send`: one thread makes it and uses it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ndarray::Array2;
use ort::memory::Allocator;
use ort::operator::OperatorDomain;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::training::{Checkpoint, Trainer};
use ort::value::{Tensor, TensorRef, TensorValueType};

use crate::artifacts::{Artifacts, METRICS, Optimizer};
use crate::operators;

use super::examples::Element;
use super::machine::Machine;

/// A live network under training.
pub struct TrainingSession {
    trainer: Trainer,
    /// The trainer's sessions point into it: it is dropped after them, because it comes behind.
    _operators: Arc<OperatorDomain>,
    optimizer: Optimizer,
    /// Number of elements of each parameter, in the order in which ONNX Runtime copies them.
    parameter_sizes: Vec<usize>,
    input_shape: Vec<usize>,
    classes: usize,
    steps_done: u64,
}

/// What a training step gives, all of it before the update.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Mean loss of the batch.
    pub loss: f32,
    /// Logits `[N, K]`, row-major.
    pub logits: Vec<f32>,
}

/// Where and how a session computes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compute {
    /// Threads inside an operator; 0 for one per core.
    pub threads: usize,
    /// Seed of dropout: each drawing of a mask takes it and leaves it one higher.
    pub seed: u64,
    /// Whether threads that wait for work spin. It makes a step faster where nothing else needs the cores, and slower where the
    /// loader does.
    pub spinning: bool,
    /// Where ONNX Runtime writes profiles when the session ends: the beginning of their paths, to which it adds the time and
    /// `.json`. Each of the models has one; those of models that were loaded in the same second overwrite each other, the training
    /// model's last.
    pub profile: Option<PathBuf>,
}

impl TrainingSession {
    /// Loads the artifacts. `input_shape` is that of one example: of images height, width, channels.
    ///
    /// # Errors
    /// When ONNX Runtime has no training API or refuses the artifacts.
    pub fn new<'a>(
        machine: impl Into<Machine<'a>>,
        artifacts: &Artifacts,
        optimizer: Optimizer,
        input_shape: &[usize],
        classes: usize,
        compute: Compute,
    ) -> Result<Self> {
        let checkpoint = Checkpoint::load_from_buffer(&artifacts.checkpoint)
            .context("loading the checkpoint")?;
        let operators = operators::domain()?;
        let options = session_options(machine.into(), &compute, &operators)?;
        let trainer = {
            let _registration = operators::registration();
            // Random operators take their seed when the session is created; it is the process's, so no other session may come between.
            ort::training::set_seed(compute.seed as i64)
                .context("ONNX Runtime has no training API")?;
            Trainer::new_from_memory(
                options,
                Allocator::default(),
                checkpoint,
                &artifacts.training,
                &artifacts.evaluation,
                &artifacts.optimizer,
            )
            .context("ONNX Runtime refused the training graph")?
        };
        let parameter_sizes: Vec<usize> =
            artifacts.parameters.iter().map(|(_, size)| *size).collect();
        let expected: usize = parameter_sizes.iter().sum();
        let found = trainer.num_params(false)?;
        ensure!(
            found == expected,
            "ONNX Runtime counts {found} parameter elements, the training graph has {expected}"
        );
        Ok(Self {
            trainer,
            _operators: operators,
            optimizer,
            parameter_sizes,
            input_shape: input_shape.to_vec(),
            classes,
            steps_done: 0,
        })
    }

    /// Forward, backward and update for examples `[N, …]` and soft targets `[N, K]`.
    ///
    /// # Errors
    /// When the sizes do not fit, or ONNX Runtime reports one.
    pub fn step<T: Element>(
        &mut self,
        inputs: &[T],
        targets: &[f32],
        learning_rate: f32,
    ) -> Result<Step> {
        let count = self.count(inputs)?;
        ensure!(
            targets.len() == count * self.classes,
            "{} target values for {count} examples of {} classes",
            targets.len(),
            self.classes
        );
        let inputs = TensorRef::from_array_view((self.batch_shape(count), inputs))?;
        let targets = TensorRef::from_array_view(([count, self.classes], targets))?;
        let mut optimizer = self.trainer.optimizer();
        optimizer.set_lr(learning_rate)?;
        let outputs = match self.optimizer.corrections(self.steps_done + 1) {
            None => self.trainer.step(ort::inputs![inputs, targets], [])?,
            Some([first, second]) => {
                let first = Tensor::from_array(([1_usize], vec![first]))?;
                let second = Tensor::from_array(([1_usize], vec![second]))?;
                self.trainer
                    .step(ort::inputs![inputs, targets, first, second], [])?
            }
        };
        let metrics = outputs
            .get(METRICS)
            .context("the training step gave no metrics")?
            .try_extract_sequence::<TensorValueType<f32>>()?;
        optimizer.step()?;
        optimizer.reset_grad()?;
        self.steps_done += 1;
        let loss = metrics.first().context("the training step gave no loss")?;
        let loss = loss.try_extract_tensor::<f32>()?.1.first().copied();
        let logits = metrics.get(1).context("the training step gave no logits")?;
        Ok(Step {
            loss: loss.context("the loss is empty")?,
            logits: logits.try_extract_tensor::<f32>()?.1.to_vec(),
        })
    }

    /// Logits `[N, K]` of examples `[N, …]`, with running statistics and without dropout.
    ///
    /// # Errors
    /// When the sizes do not fit, or ONNX Runtime reports one.
    pub fn evaluate<T: Element>(&self, inputs: &[T]) -> Result<Array2<f32>> {
        let count = self.count(inputs)?;
        let inputs = TensorRef::from_array_view((self.batch_shape(count), inputs))?;
        let outputs = self.trainer.eval_step(ort::inputs![inputs], [])?;
        let metrics = outputs
            .get(METRICS)
            .context("the evaluation step gave no metrics")?
            .try_extract_sequence::<TensorValueType<f32>>()?;
        let logits = metrics
            .first()
            .context("the evaluation step gave no logits")?;
        matrix(logits, count, self.classes)
    }

    /// A copy of all parameters, statistics and optimizer state included, in the order of [`Artifacts::parameters`].
    ///
    /// # Errors
    /// When ONNX Runtime reports one.
    pub fn parameters(&self) -> Result<Vec<Vec<f32>>> {
        let total: usize = self.parameter_sizes.iter().sum();
        let mut flat = Tensor::from_array(([total], vec![0.0_f32; total]))?;
        self.trainer.copy_parameters_to(&mut flat, false)?;
        let (_, mut rest) = flat.try_extract_tensor::<f32>()?;
        let split = |&size: &usize| {
            let (head, tail) = rest.split_at(size);
            rest = tail;
            head.to_vec()
        };
        Ok(self.parameter_sizes.iter().map(split).collect())
    }

    /// Sets all parameters, in the same order.
    ///
    /// # Errors
    /// When their number does not fit, or ONNX Runtime reports an error.
    pub fn restore(&mut self, parameters: &[Vec<f32>]) -> Result<()> {
        let flat: Vec<f32> = parameters.iter().flatten().copied().collect();
        let expected: usize = self.parameter_sizes.iter().sum();
        ensure!(
            flat.len() == expected,
            "{} parameter elements, expected {expected}",
            flat.len()
        );
        let flat = Tensor::from_array(([expected], flat))?;
        self.trainer.copy_parameters_from(&flat, false)?;
        Ok(())
    }

    /// Continues a run: all parameters, in the same order, and the number of steps that led to them.
    ///
    /// # Errors
    /// As [`TrainingSession::restore`].
    pub fn continue_from(&mut self, parameters: &[Vec<f32>], steps_done: u64) -> Result<()> {
        self.restore(parameters)?;
        self.steps_done = steps_done;
        Ok(())
    }

    /// Number of steps done.
    pub fn steps_done(&self) -> u64 {
        self.steps_done
    }

    fn count<T>(&self, inputs: &[T]) -> Result<usize> {
        let width: usize = self.input_shape.iter().product();
        ensure!(
            !inputs.is_empty() && inputs.len().is_multiple_of(width),
            "{} values are no batch of examples of {width} values",
            inputs.len()
        );
        Ok(inputs.len() / width)
    }

    fn batch_shape(&self, count: usize) -> Vec<usize> {
        let mut shape = vec![count];
        shape.extend(&self.input_shape);
        shape
    }
}

/// Session options of training: sequential execution, because parallel execution silently stops the running statistics.
fn session_options(
    machine: Machine<'_>,
    compute: &Compute,
    operators: &Arc<OperatorDomain>,
) -> Result<SessionBuilder> {
    // Left to itself ONNX Runtime counts physical cores, which virtual machines misreport.
    let threads = match compute.threads {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        given => given,
    };
    let builder = machine.place(Session::builder(machine.environment)?)?;
    let builder = builder
        .with_intra_threads(threads)
        .map_err(ort::Error::<()>::from)?;
    let builder = builder
        .with_intra_op_spinning(compute.spinning)
        .map_err(ort::Error::<()>::from)?;
    let builder = match &compute.profile {
        Some(path) => builder
            .with_profiling(path)
            .map_err(ort::Error::<()>::from)?,
        None => builder,
    };
    Ok(builder
        .with_operators(Arc::clone(operators))
        .map_err(ort::Error::<()>::from)?)
}

fn matrix(
    tensor: &ort::value::Value<TensorValueType<f32>>,
    rows: usize,
    columns: usize,
) -> Result<Array2<f32>> {
    let (_, data) = tensor.try_extract_tensor::<f32>()?;
    Array2::from_shape_vec((rows, columns), data.to_vec()).context("the logits have another shape")
}
