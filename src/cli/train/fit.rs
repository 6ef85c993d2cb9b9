//! The options of `catalog train` for how the network is fitted: optimizer, schedule, batches.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::artifacts::Optimizer;
use crate::training::averaging::AveragingOptions;
use crate::training::formulation::FormulationChoice;
use crate::training::options::TrainOptions;
use crate::training::pruning::PruningOptions;
use crate::training::schedule::Schedule;

use super::set;

#[derive(Debug, Args)]
#[command(next_help_heading = "Fit")]
pub(super) struct FitArgs {
    /// Passes over the training images [default: that of the preset]
    #[arg(short, long, value_name = "N")]
    pub(super) epochs: Option<usize>,
    /// Images per step [default: 128]
    #[arg(short, long, value_name = "N")]
    batch_size: Option<usize>,
    /// Optimizer [default: sgd]
    #[arg(long, value_name = "NAME")]
    optimizer: Option<OptimizerName>,
    /// Highest learning rate [default: 0.1 for sgd, 0.002 for adamw]
    #[arg(short, long, value_name = "RATE")]
    learning_rate: Option<f32>,
    /// sgd: share of the velocity kept at each step (Nesterov) [default: 0.9]
    #[arg(long, value_name = "SHARE")]
    momentum: Option<f32>,
    /// How the learning rate goes over the run [default: one-cycle]
    #[arg(long, value_name = "NAME")]
    schedule: Option<ScheduleName>,
    /// Share of the steps that lead up to the highest learning rate [default: 0.3 for one-cycle]
    #[arg(long, value_name = "SHARE")]
    warmup: Option<f32>,
    /// Decay of convolution and dense weights [default: 0.0005 for sgd, 0.01 for adamw]
    #[arg(long, value_name = "DECAY")]
    weight_decay: Option<f32>,
    /// Largest norm of all gradients together [default: no limit]
    #[arg(long, value_name = "NORM")]
    clip_norm: Option<f32>,
    /// Share of each target spread over all classes [default: that of the preset]
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f32>,
    /// Share of the training images held out for validation, where the data has no validation part [default: that of the preset]
    #[arg(long, value_name = "SHARE")]
    validation_fraction: Option<f64>,
    /// Share of the easy images that an epoch leaves out, so that as many steps are more epochs; 0 for none [default: that of the
    /// preset]
    #[arg(long, value_name = "SHARE")]
    prune: Option<f32>,
    /// Judge and export an average of the weights, in which what an epoch adds fades over so many epochs; 0 for the weights
    /// themselves [default: that of the preset]
    #[arg(long, value_name = "EPOCHS")]
    average_weights: Option<f32>,
    /// Seed of everything random, the split too unless --split-seed is given; the same one gives the same model on the same machine
    /// [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Seed of what is held out for validation, where that is not to change with --seed [default: that of --seed]
    #[arg(long, value_name = "N")]
    split_seed: Option<u64>,
    /// Threads of ONNX Runtime; 0 for one per core [default: 0]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Which operators train the network; the model is the same up to rounding [default: auto]
    #[arg(long, value_name = "NAME")]
    formulation: Option<FormulationName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormulationName {
    /// The fastest that this machine can run
    Auto,
    /// Operators of ONNX Runtime alone
    Portable,
    /// The same in mixed precision: convolutions and matrix products in float16, weights in float32; for GPUs
    Mixed,
    /// Convolutions on blocked layout with this program's own operators
    Blocked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OptimizerName {
    /// Stochastic gradient descent with Nesterov momentum
    Sgd,
    /// Adam with decoupled weight decay
    Adamw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScheduleName {
    /// Up to the highest rate, then down to almost nothing
    OneCycle,
    /// Linear warm-up, then down along a half cosine
    Cosine,
    /// Linear warm-up, then constant
    Constant,
}

impl FitArgs {
    pub(super) fn prune_is_given(&self) -> bool {
        self.prune.is_some()
    }

    pub(super) fn apply(&self, options: &mut TrainOptions) -> Result<()> {
        set(&mut options.epochs, &self.epochs);
        set(&mut options.batch_size, &self.batch_size);
        set(&mut options.label_smoothing, &self.label_smoothing);
        set(&mut options.validation_fraction, &self.validation_fraction);
        set(&mut options.seed, &self.seed);
        if self.split_seed.is_some() {
            options.split_seed = self.split_seed;
        }
        if let Some(name) = self.formulation {
            options.formulation = match name {
                FormulationName::Auto => FormulationChoice::Auto,
                FormulationName::Portable => FormulationChoice::Portable,
                FormulationName::Mixed => FormulationChoice::Mixed,
                FormulationName::Blocked => FormulationChoice::Blocked,
            };
        }
        set(&mut options.threads, &self.threads);
        self.apply_optimizer(options)?;
        self.apply_schedule(options);
        set(&mut options.optimizer.weight_decay, &self.weight_decay);
        match self.average_weights {
            None => {}
            Some(0.0) => options.averaging = None,
            Some(epochs) => options.averaging = Some(AveragingOptions { epochs }),
        }
        match self.prune {
            None => {}
            Some(0.0) => options.pruning = None,
            Some(left_out) => {
                options.pruning = Some(PruningOptions {
                    left_out,
                    ..options.pruning.unwrap_or_default()
                });
            }
        }
        if self.clip_norm.is_some() {
            options.optimizer.clip_norm = self.clip_norm;
        }
        Ok(())
    }

    /// Another optimizer brings its own learning rate and weight decay.
    fn apply_optimizer(&self, options: &mut TrainOptions) -> Result<()> {
        let current = &options.optimizer.optimizer;
        match (self.optimizer, current) {
            (Some(OptimizerName::Adamw), Optimizer::Sgd { .. }) => {
                options.optimizer.optimizer = Optimizer::adamw();
                options.optimizer.weight_decay = 0.01;
                options.schedule = with_peak(options.schedule, 0.002);
            }
            (Some(OptimizerName::Sgd), Optimizer::AdamW { .. }) => {
                let default = TrainOptions::default();
                options.optimizer.optimizer = default.optimizer.optimizer;
                options.optimizer.weight_decay = default.optimizer.weight_decay;
                options.schedule = with_peak(options.schedule, default.schedule.peak());
            }
            _ => {}
        }
        match (&mut options.optimizer.optimizer, self.momentum) {
            (Optimizer::Sgd { momentum }, Some(given)) => *momentum = given,
            (Optimizer::AdamW { .. }, Some(_)) => {
                anyhow::bail!("--momentum belongs to --optimizer sgd")
            }
            (_, None) => {}
        }
        Ok(())
    }

    fn apply_schedule(&self, options: &mut TrainOptions) {
        let peak = self
            .learning_rate
            .unwrap_or_else(|| options.schedule.peak());
        options.schedule = match self.schedule {
            Some(ScheduleName::OneCycle) => Schedule::one_cycle(peak),
            Some(ScheduleName::Cosine) => Schedule::cosine(peak),
            Some(ScheduleName::Constant) => Schedule::constant(peak),
            None => with_peak(options.schedule, peak),
        };
        if let Some(share) = self.warmup {
            match &mut options.schedule {
                Schedule::OneCycle {
                    warmup_fraction, ..
                }
                | Schedule::Cosine {
                    warmup_fraction, ..
                }
                | Schedule::Constant {
                    warmup_fraction, ..
                } => *warmup_fraction = share,
            }
        }
    }
}

fn with_peak(schedule: Schedule, rate: f32) -> Schedule {
    let mut schedule = schedule;
    match &mut schedule {
        Schedule::OneCycle { peak, .. }
        | Schedule::Cosine { peak, .. }
        | Schedule::Constant { peak, .. } => *peak = rate,
    }
    schedule
}
