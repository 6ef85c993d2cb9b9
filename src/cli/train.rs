//! `catalog train`: from a data set to a model file.

mod augment;
mod balance;
mod calibration;
mod exported;
mod fit;
mod network;
mod report;
mod run_control;
mod steps;
mod transfer;

use std::fs;
use std::io::Write;
use std::mem;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use pipeline::atomic_file;

use crate::dataset::{self, Dataset, Purpose, Source};
use crate::runtime::{self, Need};
use crate::training::checkpoint::CheckpointFile;
use crate::training::events::Event;
use crate::training::export::{Exported, export};
use crate::training::machine::Machine;
use crate::training::options::TrainOptions;
use crate::training::preset::Preset;
use crate::training::progress::Renderer;
use crate::training::run::{Ending, Trained, train};
use crate::training::start::{EarlierModel, Start};

use super::GlobalArgs;
use super::dataset::{ShapeArgs, load_settings, warn_of_skipped, with_validation};
use super::device::DeviceChoice;
use super::pretrained::{FEATURES_FOLDER, StartingPoint, for_backbone, starting_point};
use super::signals::Stop;
use super::tolerance::Tolerance;
use augment::AugmentArgs;
use balance::BalanceArgs;
use exported::ExportedArgs;
use fit::FitArgs;
use network::NetworkArgs;
use run_control::{Beginning, RunArgs};
use steps::StepLog;
use transfer::TransferArgs;

pub(super) use calibration::line as calibration_line;
pub(super) use run_control::{CHECKPOINT_FILE, FolderLock};

/// Name of the model file in the output folder.
pub(super) const MODEL_FILE: &str = "model.onnx";
/// Name of the file with all options.
pub(super) const OPTIONS_FILE: &str = "options.json";
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
    /// Start from the weights of a model that was trained before, on these images or others; its network, its preparation of pictures
    /// and what was held out are taken, too, unless other options say otherwise
    #[arg(long, value_name = "MODEL.onnx", conflicts_with = "backbone")]
    start_from: Option<PathBuf>,
    /// Do not train where more files of the data than this cannot be used: a number, or a share such as 0.5% [default: any number]
    #[arg(long, value_name = "N|P%")]
    max_failures: Option<Tolerance>,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    transfer: TransferArgs,
    #[command(flatten)]
    fit: FitArgs,
    #[command(flatten)]
    augment: AugmentArgs,
    #[command(flatten)]
    balance: BalanceArgs,
    #[command(flatten)]
    exported: ExportedArgs,
    /// Where it trains: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Also write steps.csv, with the loss of every step
    #[arg(long)]
    log_steps: bool,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PresetName {
    /// A small network and few epochs, for trying things
    Quick,
    /// A wider network, more epochs and random erasing
    Default,
    /// A residual network of 20 layers, for many epochs: more than an hour
    Best,
}

pub(super) fn run(args: &TrainArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let options = args.options()?;
    options.validate()?;
    let source = Source::detect(&args.data)?;
    let is_new = !args.out.exists();
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let outcome = train_into_folder(args, global, &source, &options);
    if is_new {
        // Only succeeds where the folder is empty: a run that never began leaves nothing behind.
        fs::remove_dir(&args.out).ok();
    }
    outcome
}

fn train_into_folder(
    args: &TrainArgs,
    global: &GlobalArgs,
    source: &Source,
    options: &TrainOptions,
) -> Result<ExitCode> {
    let _lock = FolderLock::take(&args.out)?;
    let Beginning::Run { is_continued } = args.run.begin(&args.out, options)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = runtime::load(&global.runtime_settings()?, Need::Training)?;
    let device = args.device.for_training(&runtime)?;
    let checkpoints = CheckpointFile {
        path: args.out.join(CHECKPOINT_FILE),
        interval: args.run.interval()?,
        is_continued,
        onnxruntime_version: runtime.version.clone(),
    };
    let starting_point = starting_point(options, global)?;
    let features = global.cache_folder()?.join(FEATURES_FOLDER);
    let mut settings = load_settings(&args.shape, Purpose::Training, global)?;
    settings.pixels = match (&starting_point, options.backbone()) {
        (Some(point), _) => point.pixels(settings.pixels, options)?,
        (None, Some(backbone)) => for_backbone(settings.pixels, backbone)?,
        (None, None) => settings.pixels,
    };
    let dataset = dataset::load(source, &settings)?;
    warn_of_skipped(&dataset);
    check_failures(&dataset, args.max_failures)?;
    if let Some(StartingPoint::Earlier(model)) = &starting_point {
        check_start(model, &dataset, options)?;
    }
    let folds = options
        .transfer
        .as_ref()
        .and_then(|transfer| transfer.folds);
    let dataset = match folds {
        Some(folds) => judged_in_folds(dataset, folds)?,
        None => with_validation(
            dataset,
            source,
            options.validation_fraction,
            options.seed_of_split(),
        )?,
    };
    balance::report(&dataset, &options.balance);

    let stop = Stop::listen()?;
    let mut renderer = match global.quiet {
        true => Renderer::quiet(),
        false => Renderer::for_stderr(),
    };
    let mut steps = match args.log_steps {
        true => Some(StepLog::create(&args.out)?),
        false => None,
    };
    let mut told = false;
    let mut formulation = String::new();
    let outcome = train(
        &dataset,
        options,
        starting_point
            .as_ref()
            .map_or(Start::Random, |point| point.start(&features)),
        Machine {
            environment: &runtime.environment,
            device,
        },
        Some(&checkpoints),
        stop.flag(),
        &mut |event| {
            if stop.is_asked() && !mem::replace(&mut told, true) {
                renderer.render(&Event::Warning(STOPPING.to_owned()));
            }
            if let Event::RunStarted(start) = event {
                formulation.clone_from(&start.formulation);
            }
            if let Some(steps) = &mut steps {
                steps.take(event);
            }
            renderer.render(event);
        },
    );
    if let Some(steps) = steps {
        steps.finish()?;
    }
    let trained = match outcome {
        // Before the first step there is nothing to export.
        Err(error) if stop.is_asked() => {
            tracing::warn!("{error:#}");
            return Ok(stop.exit_code());
        }
        outcome => outcome?,
    };
    let exported = export(
        &dataset,
        options,
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
    tracing::info!(
        "{}",
        calibration_line(&exported.calibration, exported.temperature)
    );
    let path = report::write(
        &args.out,
        dataset,
        &trained,
        &exported,
        &runtime,
        device,
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

/// Refuses to judge a model by images that it learnt from before, and says what it brings.
fn check_start(model: &EarlierModel, dataset: &Dataset, options: &TrainOptions) -> Result<()> {
    // A validation part of the data is what the user makes it.
    if dataset.validation.is_none() {
        let split = (options.validation_fraction, options.seed_of_split());
        if let Some(warning) = model.check_split(&dataset.fingerprint, split)? {
            tracing::warn!("{warning}");
        }
    }
    tracing::info!(
        "starting from {}, which knows {} of the {} classes",
        model.file().path.display(),
        model.classes_known(&dataset.classes),
        dataset.classes.len()
    );
    Ok(())
}

/// Refuses data of which more files cannot be used than allowed.
fn check_failures(dataset: &Dataset, allowed: Option<Tolerance>) -> Result<()> {
    let failures = dataset.skipped.len() as u64;
    let images: usize = dataset.parts().map(|(_, split)| split.len()).sum();
    if let Some(allowed) = allowed {
        ensure!(
            allowed.allows(failures, failures + images as u64),
            "{}: {failures} of {} files cannot be used, more than the {} of --max-failures; mend or remove them, or allow more",
            dataset.name,
            failures + images as u64,
            allowed.described()
        );
    }
    Ok(())
}

/// The data with all of its images to learn from and to choose by: cross-validation keeps these apart.
fn judged_in_folds(dataset: Dataset, folds: usize) -> Result<Dataset> {
    ensure!(
        dataset.validation.is_none(),
        "{} has a validation part already: leave out --folds {folds}, or put its images among those to learn from",
        dataset.name
    );
    Ok(Dataset {
        validation: Some(dataset.train.clone()),
        ..dataset
    })
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
            None => match (self.transfer.start()?, self.preset) {
                (Some(options), _) => options,
                (None, PresetName::Quick) => Preset::Quick.options(),
                (None, PresetName::Default) => Preset::Default.options(),
                (None, PresetName::Best) => Preset::Best.options(),
            },
            Some(path) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                serde_json::from_str(&text).with_context(|| {
                    format!("{}: not the options of a training run", path.display())
                })?
            }
        };
        if let Some(path) = &self.start_from {
            let model = EarlierModel::read(path)?;
            let before = &model.summary().options;
            options.architecture = before.architecture.clone();
            options.validation_fraction = before.validation_fraction;
            options.split_seed = Some(before.seed_of_split());
            options.start = Some(model.file().clone());
        }
        self.network.apply(&mut options.architecture)?;
        self.transfer.apply(&mut options)?;
        self.fit.apply(&mut options)?;
        self.augment.apply(&mut options);
        self.exported.apply(&mut options);
        let epochs_are_given = self.fit.epochs.is_some() || self.config.is_some();
        self.run.apply(&mut options, epochs_are_given);
        self.balance.apply(&mut options.balance)?;
        if self.config.is_none() && !self.fit.prune_is_given() {
            without_impossible_pruning(&mut options);
        }
        Ok(options)
    }
}

/// The presets leave out easy images; what was asked for goes before that.
fn without_impossible_pruning(options: &mut TrainOptions) {
    if let (Some(_), Some(obstacle)) = (options.pruning, options.obstacle_to_pruning()) {
        tracing::info!("no easy images are left out, as the preset would, because {obstacle}");
        options.pruning = None;
    }
}

fn set<T: Clone>(target: &mut T, given: &Option<T>) {
    if let Some(value) = given {
        *target = value.clone();
    }
}
