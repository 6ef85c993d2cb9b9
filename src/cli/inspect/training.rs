//! The part of `catalog inspect` about the training: data, run, options, epochs.

use serde_json::Value;

use super::fact;
use crate::ensemble::EnsembleSummary;
use crate::lowering::WeightStorage;
use crate::training::export::{EpochFigures, TrainingSummary};

/// Epochs that are shown of a longer run, about.
const EPOCH_LINES: usize = 20;

/// How the model came to be; a summary of another version of the program is shown as it is.
pub(super) fn lines(summary: &Value) -> Vec<String> {
    if summary.is_null() {
        return vec![fact("training", "nothing is said about it")];
    }
    if let Ok(ensemble) = serde_json::from_value::<EnsembleSummary>(summary.clone()) {
        return ensemble_lines(&ensemble, summary);
    }
    let Ok(training) = serde_json::from_value::<TrainingSummary>(summary.clone()) else {
        return vec![fact("training", summary)];
    };
    training_lines(&training, summary)
}

/// What holds of the mean, then each of its models.
fn ensemble_lines(ensemble: &EnsembleSummary, summary: &Value) -> Vec<String> {
    let mut lines = vec![fact(
        "joined by",
        format!(
            "catalog {} with ONNX Runtime {}: the mean of {} models{}",
            ensemble.program_version,
            ensemble.onnxruntime_version,
            ensemble.members.len(),
            match ensemble.weight_storage {
                None | Some(WeightStorage::Float32) => "",
                Some(WeightStorage::Float16) => ", weights rounded to float16",
                Some(WeightStorage::Int8) => ", weights rounded to int8",
            }
        ),
    )];
    lines.push(fact(
        "validation",
        format!(
            "accuracy {:.4}, loss {:.4} on {} images",
            ensemble.validation.accuracy, ensemble.validation.loss, ensemble.data.validation_images
        ),
    ));
    for (place, member) in ensemble.members.iter().enumerate() {
        lines.push(String::new());
        lines.push(fact("model", place + 1));
        lines.extend(training_lines(member, &summary["members"][place]));
    }
    lines
}

/// `summary` is the same as it is in the file: a number that went through the structure would have other decimals.
fn training_lines(training: &TrainingSummary, summary: &Value) -> Vec<String> {
    let data = &training.data;
    let run = &training.run;
    let mut lines = vec![
        fact(
            "trained by",
            format!(
                "catalog {} with ONNX Runtime {}",
                training.program_version, training.onnxruntime_version
            ),
        ),
        fact(
            "data",
            format!(
                "{}: {} images to learn from, {} to choose by, {} files not used",
                data.name, data.train_images, data.validation_images, data.skipped_files
            ),
        ),
        fact("fingerprint", &data.fingerprint),
        fact(
            "network",
            match training.flops_per_image {
                Some(flops) => format!(
                    "{} trained numbers, {:.1} million operations an image",
                    training.trained_scalars,
                    flops as f64 / 1e6
                ),
                None => format!(
                    "{} trained numbers behind a backbone from a file",
                    training.trained_scalars
                ),
            },
        ),
        fact(
            "run",
            format!(
                "{} epochs{}, best is epoch {} with validation accuracy {:.4}",
                run.epochs,
                if run.stopped { " until stopped" } else { "" },
                run.best_epoch,
                run.best_accuracy
            ),
        ),
    ];
    if let Some(options) = summary.get("options") {
        lines.extend(option_lines(options));
    }
    lines.push(String::new());
    lines.extend(epoch_lines(&training.epochs, run.best_epoch));
    lines
}

/// One line an epoch; of a long run some epochs, the best and the last among them.
fn epoch_lines(epochs: &[EpochFigures], best: usize) -> Vec<String> {
    let every = epochs.len().div_ceil(EPOCH_LINES).max(1);
    let mut lines = Vec::new();
    if every > 1 {
        lines.push(format!(
            "One epoch in {every} of {}, the best and the last; --json has all",
            epochs.len()
        ));
    }
    lines.push("epoch  train loss  validation loss  accuracy  learning rate".to_owned());
    for (place, epoch) in epochs.iter().enumerate() {
        let is_best = epoch.epoch == best;
        if !place.is_multiple_of(every) && !is_best && place + 1 != epochs.len() {
            continue;
        }
        lines.push(format!(
            "{:>5}  {:>10.4}  {:>15.4}  {:>8.4}  {:>13.2e}{}",
            epoch.epoch,
            epoch.train_loss,
            epoch.validation_loss,
            epoch.validation_accuracy,
            epoch.learning_rate,
            if is_best { "  best" } else { "" }
        ));
    }
    lines
}

/// One line an option; those of a part of the program have its name in front.
fn option_lines(options: &Value) -> Vec<String> {
    let mut flat = Vec::new();
    flatten(String::new(), options, &mut flat);
    let width = flat.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = flat.iter().enumerate().map(|(place, (name, value))| {
        let first = if place == 0 { "options" } else { "" };
        fact(first, format!("{name:width$}  {value}"))
    });
    lines.collect()
}

fn flatten(name: String, value: &Value, flat: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (field, value) in fields {
                let name = match name.as_str() {
                    "" => field.clone(),
                    name => format!("{name}.{field}"),
                };
                flatten(name, value, flat);
            }
        }
        Value::String(text) => flat.push((name, text.clone())),
        Value::Null => flat.push((name, "none".to_owned())),
        value => flat.push((name, value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::training::events::EpochSummary;

    #[test]
    fn unknown_summaries_are_shown_without_control_characters() {
        let unknown = lines(&json!({"by": "a later\u{1b}[2J version"})).join("\n");
        assert!(unknown.contains("a later") && !unknown.contains('\u{1b}'));
        assert_eq!(
            lines(&Value::Null),
            ["training     nothing is said about it"]
        );
    }

    #[test]
    fn a_long_run_is_shown_by_some_of_its_epochs() {
        let epochs = |count| -> Vec<EpochFigures> {
            (1..=count)
                .map(|epoch| EpochSummary::example(epoch, 0.9).into())
                .collect()
        };
        let shown = |lines: &[String]| -> Vec<usize> {
            lines
                .iter()
                .filter_map(|line| line.split_whitespace().next()?.parse().ok())
                .collect()
        };
        let short = epoch_lines(&epochs(20), 7);
        assert_eq!(shown(&short), (1..=20).collect::<Vec<_>>());
        assert!(short[0].starts_with("epoch") && short[7].ends_with("best"));

        let long = epoch_lines(&epochs(100), 97);
        let expected: Vec<usize> = (1..=100).step_by(5).chain([97, 100]).collect();
        assert_eq!(shown(&long), expected);
        assert_eq!(
            long[0],
            "One epoch in 5 of 100, the best and the last; --json has all"
        );
    }

    #[test]
    fn options_are_a_line_each() {
        let options = json!({"seed": 1, "fit": {"kind": "sgd", "clip": null, "range": [0.5, 1.0]}});
        assert_eq!(
            option_lines(&options),
            [
                "options      fit.clip   none",
                "             fit.kind   sgd",
                "             fit.range  [0.5,1.0]",
                "             seed       1",
            ]
        );
    }
}
