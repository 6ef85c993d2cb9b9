//! The files of `catalog evaluate`: figures, matrix, predictions, report.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use pipeline::atomic_file::StagedFile;
use pipeline::classify::cell_text;
use serde::Serialize;

use super::{EvaluateArgs, More, report};
use crate::evaluation::Judgement;
use crate::metrics::display;
use crate::report::Metrics;

/// Files that were asked for, made before anything else so that a place that cannot be written is known at once.
pub(super) struct OutputFiles {
    confusion: Option<StagedFile>,
    metrics: Option<StagedFile>,
    predictions: Option<StagedFile>,
    report: Option<StagedFile>,
}

/// All figures, as a file.
#[derive(Serialize)]
struct AllFigures<'a> {
    #[serde(flatten)]
    metrics: Metrics<'a>,
    #[serde(flatten)]
    more: &'a More,
}

impl OutputFiles {
    pub(super) fn create(args: &EvaluateArgs) -> Result<Self> {
        let paths = [
            &args.confusion,
            &args.metrics,
            &args.predictions,
            &args.report,
        ];
        let given: Vec<&Path> = paths
            .into_iter()
            .filter_map(|path| path.as_deref())
            .collect();
        for (index, path) in given.iter().enumerate() {
            if given[..index].contains(path) {
                bail!("{}: two results cannot have the same file", path.display());
            }
        }
        if let Some(folder) = &args.plots {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        let create = |path: &Option<PathBuf>| path.as_deref().map(StagedFile::create).transpose();
        Ok(Self {
            confusion: create(&args.confusion)?,
            metrics: create(&args.metrics)?,
            predictions: create(&args.predictions)?,
            report: create(&args.report)?,
        })
    }

    /// Writes them all before the first appears.
    pub(super) fn write(self, written: &report::Written<'_>, more: &More) -> Result<()> {
        let &report::Written {
            model,
            runtime,
            dataset,
            judgement,
            ..
        } = written;
        let labels = &model.metadata().labels;
        let mut whole = Vec::new();
        if let Some(mut file) = self.confusion {
            let matrix = &judgement.evaluation.confusion_matrix;
            display::write_confusion_csv(matrix, labels, &mut file)
                .context("the confusion matrix cannot be written")?;
            whole.push(file.make_durable()?);
        }
        if let Some(mut file) = self.metrics {
            let metrics = AllFigures {
                metrics: Metrics::new(model, &runtime.version, dataset, judgement),
                more,
            };
            serde_json::to_writer_pretty(&mut file, &metrics)
                .context("the figures cannot be written")?;
            file.write_all(b"\n")?;
            whole.push(file.make_durable()?);
        }
        if let Some(mut file) = self.predictions {
            write_predictions(judgement, labels, &mut file)
                .context("the predictions cannot be written")?;
            whole.push(file.make_durable()?);
        }
        if let Some(mut file) = self.report {
            file.write_all(written.html().as_bytes())
                .context("the report cannot be written")?;
            whole.push(file.make_durable()?);
        }
        whole.into_iter().try_for_each(|file| file.publish())
    }
}

/// A row per image; one without an answer has an empty prediction and confidence.
fn write_predictions(
    judgement: &Judgement,
    labels: &[String],
    file: impl io::Write,
) -> csv::Result<()> {
    let labels: Vec<String> = labels.iter().map(|label| cell_text(label)).collect();
    let mut csv = csv::Writer::from_writer(file);
    csv.write_record(["source", "label", "predicted", "confidence"])?;
    for verdict in &judgement.verdicts {
        let (predicted, confidence) = match verdict.answer {
            Some((class, confidence)) => (labels[class].as_str(), format!("{confidence:.6}")),
            None => ("", String::new()),
        };
        csv.write_record([
            cell_text(&verdict.source).as_str(),
            &labels[verdict.label as usize],
            predicted,
            &confidence,
        ])?;
    }
    csv.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Verdict;
    use crate::metrics::{Evaluation, Scores};

    fn evaluation(labels: &[String]) -> Evaluation {
        let rows: [(&[f32], u32); 1] = [(&[0.75, 0.25], 0)];
        Evaluation::from_rows(labels, Scores::Probabilities, &[1], rows).unwrap()
    }

    #[test]
    fn predictions_have_a_row_per_image() {
        let labels = ["=bag", "T-shirt/top"].map(str::to_owned);
        let verdict = |source: &str, label, answer| Verdict {
            source: source.to_owned(),
            label,
            answer,
        };
        let judgement = Judgement {
            evaluation: evaluation(&labels),
            verdicts: vec![
                verdict("test/a,b.png", 1, Some((0, 0.75))),
                verdict("t10k-images#1", 0, None),
            ],
            without_answer: 1,
        };
        let mut bytes = Vec::new();
        write_predictions(&judgement, &labels, &mut bytes).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "source,label,predicted,confidence\n\
             \"test/a,b.png\",T-shirt/top,%3Dbag,0.750000\n\
             t10k-images#1,%3Dbag,,\n"
        );
    }
}
