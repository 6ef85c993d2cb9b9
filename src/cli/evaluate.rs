//! `catalog evaluate`: how good a model is on labelled images.

mod acceptance;
mod files;
mod held_out;
mod levels;
mod report;
mod unknown;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use pipeline::classify::Taxonomy;
use pipeline::model::ModelFile;
use serde::Serialize;

use self::acceptance::Trust;
use self::files::OutputFiles;
use self::held_out::Learnt;
use self::levels::Level;
use self::unknown::{ScoresOfPictures, Told, UnknownFolder};
use super::acceptance::AcceptanceArgs;
use super::dataset::{DATA_MEMORY, warn_of_skipped};
use super::model::{ModelArgs, cores};
use super::signals::Stop;
use super::terminal::space;
use super::{GlobalArgs, NOT_ALL_OK, print};
use crate::dataset::{self, Dataset, LoadSettings, Part, Parts, Pixels, Purpose, Source};
use crate::evaluation::judge;
use crate::metrics::Evaluation;
use crate::metrics::display::{self, Space};
use crate::pulse::Pulse;
use crate::runtime::{self, Need};

/// Say how good a model is on labelled images
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  catalog evaluate fashion-mnist
  catalog evaluate photos --model models/shop/model.onnx --confusion confusion.csv
  catalog evaluate photos --model models/shop/model.onnx --part validation
  catalog evaluate photos --part all --predictions predictions.csv --metrics metrics.json
  catalog evaluate photos --target-precision 0.99
  catalog evaluate photos --report report.html
  catalog evaluate photos --taxonomy taxonomy.csv --unknown other-photos

Data and model meet by the names of the classes. The loss is the mean cross-entropy of the
probabilities that classify writes, in nats.

Exit codes: 0 every image was judged, 1 there is no result, 2 wrong usage,
3 the figures are there, but some files could not be used,
130, 143 or 129 stopped by Ctrl-C, SIGTERM or SIGHUP")]
pub(super) struct EvaluateArgs {
    /// `fashion-mnist`, a folder of class folders or of IDX files, a 785-column CSV, or a CSV with the columns path and label
    #[arg(value_name = "DATA")]
    data: String,
    /// Which part of the data [default: test if there is one, else validation, else all]
    #[arg(long, value_enum)]
    part: Option<PartArg>,
    /// Also give the share of images whose class is among the K most probable
    #[arg(short = 'k', long, value_name = "K,K,…", value_delimiter = ',', default_values_t = [1, 3], value_parser = super::model::at_least_one)]
    top_k: Vec<usize>,
    /// Write the confusion matrix as CSV: rows are the truth, columns what the model said
    #[arg(long, value_name = "FILE.csv")]
    confusion: Option<PathBuf>,
    /// Write all figures as JSON
    #[arg(long, value_name = "FILE.json")]
    metrics: Option<PathBuf>,
    /// Write source, label, predicted class and confidence of every image as CSV
    #[arg(long, value_name = "FILE.csv")]
    predictions: Option<PathBuf>,
    /// Write a report for people: one HTML file with plots, tables and the most confident mistakes
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Write the plots of the report as SVG and PNG files
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Also give the accuracy on each level of the categories in this CSV, as `classify --taxonomy` takes it
    #[arg(long, value_name = "FILE.csv")]
    taxonomy: Option<PathBuf>,
    /// Also say how many pictures of this folder, which are in no class, `classify --reject-unknown` would tell
    #[arg(long, value_name = "FOLDER")]
    unknown: Option<PathBuf>,
    #[command(flatten)]
    acceptance: AcceptanceArgs,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PartArg {
    /// Images to learn from
    Train,
    /// Images to choose by; where the data has no such part, what the model's training held out of it
    Validation,
    /// Images to judge by
    Test,
    /// Every image there is
    All,
}

/// Runs `catalog evaluate`.
pub(super) fn run(args: &EvaluateArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let files = OutputFiles::create(args)?;
    let model = args.model.read()?;
    let labels = &model.metadata().labels;
    let acceptance = args.acceptance.acceptance();
    let thresholding =
        acceptance.thresholding(labels.len(), model.metadata().calibration.as_ref())?;
    let taxonomy = args.taxonomy.as_deref();
    let taxonomy = taxonomy
        .map(|path| Taxonomy::read(path, labels))
        .transpose()?;
    let known = model.metadata().familiarity.as_ref();
    let unknown = args.unknown.as_deref();
    let unknown = unknown
        .map(|folder| UnknownFolder::list(folder, known))
        .transpose()?;
    let source = Source::detect(&args.data)?;
    let runtime = runtime::load(&global.runtime_settings()?, Need::Inference)?;
    let dataset = dataset::load(&source, &load_settings(args, &model, global)?)?;
    warn_of_skipped(&dataset);
    let learnt = Learnt::of(&model);
    let dataset = match args.part {
        Some(PartArg::Validation) => held_out::validation_part(dataset, &source, learnt.as_ref())?,
        _ => dataset,
    };
    if let Some(warning) = learnt.and_then(|learnt| learnt.warning(&dataset)) {
        tracing::warn!("{warning}");
    }
    let (mut classifier, device) = args.model.classifier(&runtime, &model, cores())?;

    tracing::info!("evaluating {}", described(&dataset));
    let stop = Stop::listen()?;
    let temperature = classifier.temperature();
    let mut scores = ScoresOfPictures::default();
    let mut pulse = Pulse::new(
        "judged",
        dataset.parts().map(|(_, split)| split.len()).sum(),
    );
    let outcome = judge(
        &dataset,
        labels,
        args.model.batch_size(),
        &args.top_k,
        |batch, images| {
            if stop.is_asked() {
                bail!("stopped");
            }
            let predictions = classifier
                .classify(batch, images)
                .context("the model could not be run")?;
            scores.add(&predictions, images, temperature);
            pulse.add(images);
            Ok(predictions)
        },
    )
    .and_then(|judgement| {
        let told = unknown
            .map(|folder| folder.judge(&mut classifier, args.model.batch_size(), scores, &stop));
        Ok((judgement, told.transpose()?))
    });
    if stop.is_asked() {
        tracing::warn!("stopped: there is no result");
        return Ok(stop.exit_code());
    }
    let (judgement, unknown) = outcome?;
    if judgement.without_answer > 0 {
        tracing::warn!(
            "{} images are in no figure: the model gave numbers that are not finite for them",
            judgement.without_answer
        );
    }

    let classes = &judgement.evaluation.classes;
    let absent = classes.iter().filter(|class| class.images == 0).count();
    if absent > 0 {
        tracing::warn!(
            "{absent} of the model's {} classes have no image in the data: each counts as 0 in the macro means",
            classes.len()
        );
    }

    let trust = Trust::new(&judgement, labels, &acceptance, thresholding.as_ref());
    let levels = taxonomy.map(|taxonomy| levels::levels(&judgement, &taxonomy));
    let more = More {
        trust,
        levels,
        unknown,
    };
    let report = report::Written {
        model: &model,
        runtime: &runtime,
        device,
        dataset: &dataset,
        judgement: &judgement,
        unknown: more.unknown.as_ref(),
    };
    files.write(&report, &more)?;
    if let Some(folder) = &args.plots {
        report.save_plots(folder)?;
    }
    print(&format!(
        "{}\n{}",
        text(&judgement.evaluation, labels, space()),
        more.text()
    ))?;
    let unused = dataset.skipped.len() + judgement.without_answer;
    Ok(if unused == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_ALL_OK)
    })
}

/// The model's own contract, so that an image becomes the same pixels here as in classification.
fn load_settings(
    args: &EvaluateArgs,
    model: &ModelFile,
    global: &GlobalArgs,
) -> Result<LoadSettings> {
    Ok(LoadSettings {
        pixels: Pixels::Contract(model.metadata().preprocess.clone()),
        parts: match args.part {
            None => Parts::Judging,
            Some(PartArg::Train) => Parts::Only(Part::Train),
            Some(PartArg::Validation) => Parts::HeldOut,
            Some(PartArg::Test) => Parts::Only(Part::Test),
            Some(PartArg::All) => Parts::All,
        },
        purpose: Purpose::Evaluation,
        cache: global.cache_folder()?,
        memory: DATA_MEMORY,
        offline: global.offline,
    })
}

/// The parts that have images.
fn parts(dataset: &Dataset) -> Vec<(&'static str, usize)> {
    dataset
        .parts()
        .filter(|(_, split)| !split.is_empty())
        .map(|(part, split)| (part.name(), split.len()))
        .collect()
}

fn described(dataset: &Dataset) -> String {
    let parts: Vec<String> = parts(dataset)
        .into_iter()
        .map(|(part, images)| format!("{images} images of its {part} part"))
        .collect();
    format!("{}: {}", dataset.name, parts.join(", "))
}

fn text(evaluation: &Evaluation, labels: &[String], space: Space) -> String {
    let mut text = display::summary(evaluation);
    let _ = write!(
        text,
        "\nmacro precision {:.4}, macro recall {:.4}\n\n{}\n{}",
        evaluation.macro_precision,
        evaluation.macro_recall,
        display::class_table(evaluation, space),
        display::confusion_table(&evaluation.confusion_matrix, labels, space)
    );
    text
}

/// What there is beside the figures that training gives, too.
#[derive(Serialize)]
struct More {
    #[serde(flatten)]
    trust: Trust,
    /// Accuracy on each level of the taxonomy.
    #[serde(skip_serializing_if = "Option::is_none")]
    levels: Option<Vec<Level>>,
    /// How well pictures of unknown things are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<Told>,
}

impl More {
    fn text(&self) -> String {
        let mut text = self.trust.text();
        for part in [
            self.levels.as_deref().map(levels::text),
            self.unknown.as_ref().map(Told::text),
        ] {
            text += &part.map(|part| format!("\n{part}")).unwrap_or_default();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Scores;

    fn evaluation(labels: &[String]) -> Evaluation {
        let rows: [(&[f32], u32); 3] = [(&[0.75, 0.25], 0), (&[0.75, 0.25], 1), (&[0.5, 0.5], 0)];
        Evaluation::from_rows(labels, Scores::Probabilities, &[1, 2], rows).unwrap()
    }

    #[test]
    fn figures_table_and_matrix_follow_each_other() {
        let labels = ["bag", "boot"].map(str::to_owned);
        insta::assert_snapshot!(text(&evaluation(&labels), &labels, Space::default()), @r"
        accuracy 0.6667, top-2 1.0000, macro F1 0.4000, loss 0.7890 on 3 images
        macro precision 0.3333, macro recall 0.5000

        class  images  precision  recall      F1
        bag         2     0.6667  1.0000  0.8000
        boot        1     0.0000  0.0000  0.0000
        mean        3     0.3333  0.5000  0.4000

        rows: truth, columns: prediction
              bag  boot
        bag     2     ·
        boot    1     ·
        ");
    }
}
