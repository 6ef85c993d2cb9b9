//! `catalog ensemble`: several trained models as one.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use pipeline::atomic_file;
use pipeline::model::ModelFile;

use super::dataset::{DATA_MEMORY, warn_of_skipped, with_validation};
use super::table::table;
use super::train::{CHECKPOINT_FILE, FolderLock, MODEL_FILE, OPTIONS_FILE, calibration_line};
use super::validation_report::{ValidationReport, judged, options};
use super::{GlobalArgs, print};
use crate::dataset::{self, LoadSettings, Part, Parts, Pixels, Purpose, Source};
use crate::ensemble::{Ensemble, Figures, Members, combine};
use crate::lowering::WeightStorage;
use crate::report::DataSheet;
use crate::report::text::{bytes, grouped};
use crate::runtime::{self, Need, Runtime};

/// Join several trained models into one that gives the mean of what they say
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  catalog train photos --out models/a --split-seed 1 --seed 1
  catalog train photos --out models/b --split-seed 1 --seed 2
  catalog ensemble photos models/a/model.onnx models/b/model.onnx --out models/both

The mean is usually right more often than each of the models, and takes as long as all together.
The models may be of different networks, but have to be of the same classes, the same preparation
of pictures and the same data, of which the same part was held out: temperature and thresholds of
the mean are measured on that.

The folder gets model.onnx, report.html, metrics.json and plots/.")]
pub(super) struct EnsembleArgs {
    /// The data that all models were trained on
    #[arg(value_name = "DATA")]
    data: String,
    /// Model files that `catalog train` wrote
    #[arg(value_name = "MODEL", required = true, num_args = 1..)]
    models: Vec<PathBuf>,
    /// Folder for the model and its report
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// How the file holds the weights [default: as the models do]
    #[arg(long, value_name = "TYPE")]
    weights: Option<Smaller>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Smaller {
    /// Rounded to half floats
    Float16,
    /// Rounded to 255 steps, of another size for each filter
    Int8,
}

impl From<Smaller> for WeightStorage {
    fn from(name: Smaller) -> Self {
        match name {
            Smaller::Float16 => Self::Float16,
            Smaller::Int8 => Self::Int8,
        }
    }
}

/// Runs `catalog ensemble`.
pub(super) fn run(args: &EnsembleArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let files = args.models.iter().map(|path| ModelFile::read(path));
    let members = Members::new(files.collect::<Result<_, _>>()?)?;
    let is_new = !args.out.exists();
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let outcome = args.join(&members, global);
    if is_new {
        // Only succeeds where the folder is empty: what came to nothing leaves nothing behind.
        fs::remove_dir(&args.out).ok();
    }
    outcome
}

/// A row for each model and one for their mean, or two where its weights are not theirs.
fn figures(members: &Members, ensemble: &Ensemble) -> String {
    let row = |name: &str, Figures { accuracy, loss }: &Figures| {
        [
            name.to_owned(),
            format!("{accuracy:.4}"),
            format!("{loss:.4}"),
        ]
    };
    let mut rows = vec![["MODEL", "VALIDATION ACCURACY", "LOSS"].map(str::to_owned)];
    for (file, figures) in members.files().iter().zip(&ensemble.members) {
        rows.push(row(file.name(), figures));
    }
    if let Some(mean) = &ensemble.mean_of_files {
        rows.push(row("mean of all, weights as they are", mean));
    }
    rows.push(row("mean of all", &ensemble.summary.validation));
    table(&rows)
}

impl EnsembleArgs {
    fn join(&self, members: &Members, global: &GlobalArgs) -> Result<ExitCode> {
        let _lock = FolderLock::take(&self.out)?;
        self.check_out()?;
        let source = Source::detect(&self.data)?;
        let dataset = dataset::load(
            &source,
            &LoadSettings {
                pixels: Pixels::Contract(members.files()[0].metadata().preprocess.clone()),
                parts: Parts::All,
                purpose: Purpose::Training,
                cache: global.cache_folder()?,
                memory: DATA_MEMORY,
                offline: global.offline,
            },
        )?;
        warn_of_skipped(&dataset);
        members.check_data(&dataset)?;
        let dataset = match dataset.validation {
            Some(_) => dataset,
            None => {
                let (share, seed) = members.split()?;
                with_validation(dataset, &source, share, seed)?
            }
        };
        let runtime = runtime::load(&global.runtime_settings()?, Need::Inference)?;
        let ensemble = combine(
            members,
            &dataset,
            self.weights.map(WeightStorage::from),
            &runtime.environment,
            &runtime.version,
        )?;
        let path = self.out.join(MODEL_FILE);
        atomic_file::write(&path, |file| Ok(file.write_all(ensemble.file.bytes())?))?;
        tracing::info!(
            "wrote {}: {:.2} MB, logits within {:.1e} of the mean of the models' on {} held-out images",
            path.display(),
            ensemble.file.bytes().len() as f64 / 1e6,
            ensemble.largest_gap,
            ensemble.compared_images
        );
        if let Some(calibration) = &ensemble.file.metadata().calibration {
            let temperature = ensemble.file.metadata().temperature;
            tracing::info!("{}", calibration_line(calibration, temperature));
        }
        let report = self
            .write_report(members, &ensemble, dataset, &runtime)
            .context("the model is in place, but not its report")?;
        tracing::info!("report written to {}", report.display());
        print(&figures(members, &ensemble))?;
        Ok(ExitCode::SUCCESS)
    }

    /// The folder must not be that of a training, whose records would be about another model than the one beside them.
    fn check_out(&self) -> Result<()> {
        for file in [CHECKPOINT_FILE, OPTIONS_FILE] {
            ensure!(
                !self.out.join(file).exists(),
                "{} is the folder of a training: take another --out",
                self.out.display()
            );
        }
        let target = fs::canonicalize(self.out.join(MODEL_FILE)).ok();
        for model in &self.models {
            ensure!(
                target.is_none() || fs::canonicalize(model).ok() != target,
                "the mean would take the place of {}, which it is made of: take another --out",
                model.display()
            );
        }
        Ok(())
    }

    fn write_report(
        &self,
        members: &Members,
        ensemble: &Ensemble,
        dataset: dataset::Dataset,
        runtime: &Runtime,
    ) -> Result<PathBuf> {
        let data = DataSheet::of(&dataset);
        let validation = dataset.only(Part::Validation);
        let model = &ensemble.file;
        let judgement = judged(&validation, model, runtime)?;
        let mut remarks: Vec<String> = members
            .files()
            .iter()
            .zip(&ensemble.members)
            .map(|(file, Figures { accuracy, loss })| {
                format!(
                    "{} by itself has an accuracy of {accuracy:.4} and a loss of {loss:.4} on these images.",
                    file.name()
                )
            })
            .collect();
        remarks.push(
            "Each of the models chose its best epoch by these same images, so expect a little less on new ones; catalog evaluate judges the mean on a test part."
                .to_owned(),
        );
        let trained: usize = members
            .summaries()
            .iter()
            .map(|summary| summary.trained_scalars)
            .sum();
        ValidationReport {
            kind: "Ensemble report",
            subtitle: format!(
                "How good the mean of {} models is on {} validation images.",
                members.count(),
                grouped(judgement.evaluation.images)
            ),
            model,
            runtime,
            data: &data,
            validation: &validation,
            judgement: &judgement,
            history: None,
            remarks,
            options: options(&model.metadata().summary),
            facts: vec![
                ("model", MODEL_FILE.to_owned()),
                ("model checksum (SHA-256)", model.checksum().to_owned()),
                ("model size", bytes(model.bytes().len() as u64)),
                ("trained parameters", grouped(trained as u64)),
                ("catalog", ensemble.summary.program_version.clone()),
            ],
        }
        .write(&self.out)
    }
}
