//! `catalog train`: from a data set to a model file.

mod balance;
mod calibration;
mod exported;
mod network;
mod report;
mod run_control;

use std::fs;
use std::io::Write;
use std::mem;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use pipeline::atomic_file;

use crate::artifacts::Optimizer;
use crate::dataset::{self, Purpose, Source};
use crate::runtime::{self, Need};
use crate::training::augment::{AugmentSettings, MixSettings};
use crate::training::checkpoint::CheckpointFile;
use crate::training::events::Event;
use crate::training::export::{Exported, export};
use crate::training::formulation::FormulationChoice;
use crate::training::options::TrainOptions;
use crate::training::preset::Preset;
use crate::training::progress::Renderer;
use crate::training::run::{Ending, Trained, train};
use crate::training::schedule::Schedule;

use super::GlobalArgs;
use super::dataset::{ShapeArgs, load_settings, warn_of_skipped};
use super::signals::Stop;
use balance::BalanceArgs;
use exported::ExportedArgs;
use network::NetworkArgs;
use run_control::{Beginning, CHECKPOINT_FILE, FolderLock, RunArgs};

/// Name of the model file in the output folder.
const MODEL_FILE: &str = "model.onnx";
/// Name of the file with all options.
const OPTIONS_FILE: &str = "options.json";
/// What the first signal makes the run say.
const STOPPING: &str = "stopping after this step with the best model so far, which --resume can take further; once more to stop at once";

/// Train a network on a data set and export one self-describing ONNX file
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  catalog train fashion-mnist --out models/fashion\n  \
    catalog train photos --out models/shop --size 64 --epochs 30\n  \
    catalog train fashion-mnist --out models/study --network seed --optimizer adamw --epochs 10\n\n\
    The presets, measured on Fashion-MNIST and two cores, are described in docs/training.md.\n\n\
    The folder gets model.onnx, report.html, metrics.json, history.csv, options.json and plots/;\n\
    --config takes options.json back."
)]
pub struct TrainArgs {
    /// `fashion-mnist`, a folder of class folders or of IDX files, a 785-column CSV, or a CSV with the columns path and label
    #[arg(value_name = "DATA")]
    data: String,
    /// Folder for the model and its records
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Start from these options; other options change them
    #[arg(long, value_name = "NAME", default_value = "default")]
    preset: PresetName,
    /// Start from the options in this file instead
    #[arg(long, value_name = "FILE.json", conflicts_with = "preset")]
    config: Option<PathBuf>,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    fit: FitArgs,
    #[command(flatten)]
    augment: AugmentArgs,
    #[command(flatten)]
    balance: BalanceArgs,
    #[command(flatten)]
    exported: ExportedArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PresetName {
    /// A small network and few epochs, for trying things
    Quick,
    /// A larger network, mirror averaging and random erasing
    Default,
    /// The same network, for many epochs
    Best,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Fit")]
struct FitArgs {
    /// Passes over the training images [default: that of the preset]
    #[arg(short, long, value_name = "N")]
    epochs: Option<usize>,
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
    /// Seed of everything random; the same one gives the same model on the same machine [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
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

#[derive(Debug, Args)]
#[command(next_help_heading = "Augmentation")]
struct AugmentArgs {
    /// Train on the images as they are; other augmentation options then add to nothing
    #[arg(long)]
    no_augment: bool,
    /// Turn by up to so many degrees [default: 0]
    #[arg(long, value_name = "DEGREES")]
    rotation: Option<f32>,
    /// Shift by up to this share of the side, along both axes [default: that of the preset]
    #[arg(long, value_name = "SHARE")]
    shift: Option<f32>,
    /// Shear by up to so many degrees [default: 0]
    #[arg(long, value_name = "DEGREES")]
    shear: Option<f32>,
    /// Zoom by a factor between 1 − this and 1 + this [default: 0]
    #[arg(long, value_name = "SHARE")]
    zoom: Option<f32>,
    /// Probability of a horizontal flip [default: 0.5]
    #[arg(long, value_name = "PROBABILITY")]
    flip: Option<f32>,
    /// Probability of a vertical flip [default: 0]
    #[arg(long, value_name = "PROBABILITY")]
    vertical_flip: Option<f32>,
    /// Probability of random erasing [default: that of the preset]
    #[arg(long, value_name = "PROBABILITY")]
    erasing: Option<f32>,
    /// Blend pairs of images with a share from Beta(α, α) [default: 0, not at all]
    #[arg(long, value_name = "α")]
    mixup: Option<f32>,
    /// Exchange a rectangle between pairs of images, with a share from Beta(α, α) [default: 0, not at all]
    #[arg(long, value_name = "α")]
    cutmix: Option<f32>,
}

pub(super) fn run(args: &TrainArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let options = args.options()?;
    options.validate()?;
    let source = Source::detect(&args.data)?;
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let _lock = FolderLock::take(&args.out)?;
    let Beginning::Run { is_continued } = args.run.begin(&args.out, &options)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = runtime::load(&global.runtime_settings()?, Need::Training)?;
    let checkpoints = CheckpointFile {
        path: args.out.join(CHECKPOINT_FILE),
        interval: args.run.interval()?,
        is_continued,
        onnxruntime_version: runtime.version.clone(),
    };
    let settings = load_settings(&args.shape, Purpose::Training, global)?;
    let dataset = dataset::load(&source, &settings)?
        .with_validation(options.validation_fraction, options.seed)?;
    warn_of_skipped(&dataset);
    balance::report(&dataset, &options.balance);

    let stop = Stop::listen()?;
    let mut renderer = match global.quiet {
        true => Renderer::quiet(),
        false => Renderer::for_stderr(),
    };
    let mut told = false;
    let mut formulation = String::new();
    let trained = train(
        &dataset,
        &options,
        &runtime.environment,
        Some(&checkpoints),
        stop.flag(),
        &mut |event| {
            if stop.is_asked() && !mem::replace(&mut told, true) {
                renderer.render(&Event::Warning(STOPPING.to_owned()));
            }
            if let Event::RunStarted(start) = event {
                formulation.clone_from(&start.formulation);
            }
            renderer.render(event);
        },
    )?;
    let exported = export(
        &dataset,
        &options,
        &trained,
        &runtime.environment,
        &runtime.version,
    )?;
    save(&args.out, &trained, &exported)?;
    tracing::info!(
        "exported {}: {:.2} MB, logits within {:.1e} of the training session's on {} held-out images",
        args.out.join(MODEL_FILE).display(),
        exported.bytes.len() as f64 / 1e6,
        exported.largest_gap,
        exported.compared_images
    );
    tracing::info!("{}", calibration::line(&exported));
    let path = report::write(
        &args.out,
        dataset,
        &trained,
        &exported,
        &runtime,
        formulation,
    )
    .context("the model is in place, but not its report")?;
    // What was stopped can be continued, and so can what has not left everything yet.
    if trained.ending != Ending::Stopped {
        checkpoints.remove()?;
    }
    tracing::info!("report written to {}", path.display());
    match trained.ending {
        Ending::Finished => Ok(ExitCode::SUCCESS),
        Ending::Stopped => Ok(stop.exit_code()),
        Ending::Diverged { step } => {
            tracing::error!(
                "the loss was no number any more at step {step}; the model is the best one before that. Try a lower --learning-rate"
            );
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Writes model, history and options; each file is whole or not there.
fn save(folder: &Path, trained: &Trained, exported: &Exported) -> Result<()> {
    let write = |name: &str, bytes: &[u8]| {
        atomic_file::write(&folder.join(name), |file| Ok(file.write_all(bytes)?))
    };
    write(MODEL_FILE, &exported.bytes)?;
    trained.history.save(&folder.join("history.csv"))?;
    let options = serde_json::to_string_pretty(&exported.summary.options)?;
    write(OPTIONS_FILE, options.as_bytes())
}

impl TrainArgs {
    /// The configuration file or the defaults, changed by the other options.
    fn options(&self) -> Result<TrainOptions> {
        let mut options = match &self.config {
            None => match self.preset {
                PresetName::Quick => Preset::Quick.options(),
                PresetName::Default => Preset::Default.options(),
                PresetName::Best => Preset::Best.options(),
            },
            Some(path) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                serde_json::from_str(&text).with_context(|| {
                    format!("{}: not the options of a training run", path.display())
                })?
            }
        };
        self.network.apply(&mut options.architecture)?;
        self.fit.apply(&mut options)?;
        self.augment.apply(&mut options);
        self.exported.apply(&mut options);
        let epochs_are_given = self.fit.epochs.is_some() || self.config.is_some();
        self.run.apply(&mut options, epochs_are_given);
        self.balance.apply(&mut options.balance)?;
        Ok(options)
    }
}

fn set<T: Clone>(target: &mut T, given: &Option<T>) {
    if let Some(value) = given {
        *target = value.clone();
    }
}

impl FitArgs {
    fn apply(&self, options: &mut TrainOptions) -> Result<()> {
        set(&mut options.epochs, &self.epochs);
        set(&mut options.batch_size, &self.batch_size);
        set(&mut options.label_smoothing, &self.label_smoothing);
        set(&mut options.validation_fraction, &self.validation_fraction);
        set(&mut options.seed, &self.seed);
        if let Some(name) = self.formulation {
            options.formulation = match name {
                FormulationName::Auto => FormulationChoice::Auto,
                FormulationName::Portable => FormulationChoice::Portable,
                FormulationName::Blocked => FormulationChoice::Blocked,
            };
        }
        set(&mut options.threads, &self.threads);
        self.apply_optimizer(options)?;
        self.apply_schedule(options);
        set(&mut options.optimizer.weight_decay, &self.weight_decay);
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

impl AugmentArgs {
    fn apply(&self, options: &mut TrainOptions) {
        if self.no_augment {
            options.augment = AugmentSettings::none();
            options.mixing = MixSettings::default();
        }
        set(&mut options.mixing.mixup_alpha, &self.mixup);
        set(&mut options.mixing.cutmix_alpha, &self.cutmix);
        let augment = &mut options.augment;
        set(&mut augment.rotation_degrees, &self.rotation);
        set(&mut augment.shift_x, &self.shift);
        set(&mut augment.shift_y, &self.shift);
        set(&mut augment.shear_degrees, &self.shear);
        if let Some(zoom) = self.zoom {
            augment.zoom = [1.0 - zoom, 1.0 + zoom];
        }
        set(&mut augment.horizontal_flip, &self.flip);
        set(&mut augment.vertical_flip, &self.vertical_flip);
        set(&mut augment.erasing.probability, &self.erasing);
    }
}
