//! What a new model leaves beside its file for people and programs: the report, its plots and the figures.
//!
//! They are about the model file as users get it, on the validation part; the test part is for `catalog evaluate`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use pipeline::atomic_file;
use pipeline::model::{Classifier, ModelFile, SessionSettings};
use serde_json::{Map, Value};

use crate::dataset::{Dataset, Part};
use crate::evaluation::{Judgement, batch_size, judge};
use crate::report::environment::{moment, processor, system};
use crate::report::{DataSheet, Metrics, Report, save_figures};
use crate::runtime::Runtime;
use crate::training::history::History;

/// The k of the top-k accuracies, as `evaluate` takes them by default.
pub(super) const TOP_K: [usize; 2] = [1, 3];

/// A model judged on the validation part of the data it was made from.
pub(super) struct ValidationReport<'a> {
    /// `Training report`.
    pub(super) kind: &'a str,
    /// One sentence under the title.
    pub(super) subtitle: String,
    pub(super) model: &'a ModelFile,
    pub(super) runtime: &'a Runtime,
    /// All of the data.
    pub(super) data: &'a DataSheet,
    /// Its validation part alone.
    pub(super) validation: &'a Dataset,
    pub(super) judgement: &'a Judgement,
    /// The epochs, where it is about one training.
    pub(super) history: Option<&'a History>,
    /// What the reader should know of this model; what holds of every report follows.
    pub(super) remarks: Vec<String>,
    pub(super) options: Value,
    /// Facts about the model and what made it, before those of the machine.
    pub(super) facts: Vec<(&'static str, String)>,
}

impl ValidationReport<'_> {
    /// Writes `metrics.json`, `plots/` and `report.html`; gives the path of the report.
    pub(super) fn write(self, folder: &Path) -> Result<PathBuf> {
        let Self {
            kind,
            subtitle,
            model,
            runtime,
            data,
            validation,
            judgement,
            history,
            mut remarks,
            options,
            facts: mut environment,
        } = self;
        let metrics = Metrics::new(model, &runtime.version, validation, judgement);
        let metrics = serde_json::to_string_pretty(&metrics)? + "\n";
        let save = |name: &str, text: &str| {
            let path = folder.join(name);
            atomic_file::write(&path, |file| Ok(file.write_all(text.as_bytes())?))?;
            Ok::<_, anyhow::Error>(path)
        };
        save("metrics.json", &metrics)?;
        if judgement.without_answer > 0 {
            remarks.push(format!(
                "{} images are in no figure: the model gave numbers that are not finite for them.",
                judgement.without_answer
            ));
        }
        if !validation.skipped.is_empty() {
            remarks.push(format!(
                "{} files could not be used; see Data.",
                validation.skipped.len()
            ));
        }
        environment.extend([
            ("ONNX Runtime", runtime.version.clone()),
            ("processor", processor()),
            ("system", system()),
        ]);
        let report = Report {
            kind,
            subtitle,
            part: Part::Validation.name(),
            labels: &validation.classes,
            dataset: validation,
            judgement,
            calibration: model.metadata().calibration.as_ref(),
            history,
            remarks,
            data,
            options,
            environment,
            footer: format!(
                "Written by catalog {} on {}.",
                env!("CARGO_PKG_VERSION"),
                moment(SystemTime::now())
            ),
        };
        save_figures(&report.figures(), &folder.join("plots"))?;
        save("report.html", &report.html())
    }
}

/// The options of the training that a model's summary tells, null where it tells none. Of a mean of models those that all share come
/// first, then what is each model's own.
pub(super) fn options(summary: &Value) -> Value {
    let Some(members) = summary.get("members").and_then(Value::as_array) else {
        return summary.get("options").cloned().unwrap_or_default();
    };
    let options: Vec<Value> = members.iter().map(options).collect();
    let (shared, own) = apart(&options.iter().collect::<Vec<_>>());
    let own = (1..).zip(own);
    let own = own.filter_map(|(number, own)| Some((format!("model {number}"), own?)));
    let shared = shared.map(|shared| ("all models".to_owned(), shared));
    shared.into_iter().chain(own).collect()
}

/// What is the same in all, and what each has beside it.
fn apart(all: &[&Value]) -> (Option<Value>, Vec<Option<Value>>) {
    if all.windows(2).all(|pair| pair[0] == pair[1]) {
        return (all.first().copied().cloned(), vec![None; all.len()]);
    }
    let objects: Option<Vec<_>> = all.iter().map(|value| value.as_object()).collect();
    let Some(objects) = objects else {
        return (None, all.iter().copied().cloned().map(Some).collect());
    };
    let mut shared = Map::new();
    let mut own = vec![Map::new(); all.len()];
    let names: BTreeSet<&String> = objects.iter().flat_map(|object| object.keys()).collect();
    for name in names {
        let values: Vec<_> = objects.iter().map(|object| object.get(name)).collect();
        let (same, others) = match values.iter().copied().collect::<Option<Vec<_>>>() {
            Some(values) => apart(&values),
            None => (
                None,
                values.into_iter().map(Option::<&Value>::cloned).collect(),
            ),
        };
        shared.extend(same.map(|value| (name.clone(), value)));
        for (own, other) in own.iter_mut().zip(others) {
            own.extend(other.map(|value| (name.clone(), value)));
        }
    }
    let some = |object: Map<_, _>| (!object.is_empty()).then_some(Value::Object(object));
    (some(shared), own.into_iter().map(some).collect())
}

/// What a model says about the validation part.
pub(super) fn judged(
    validation: &Dataset,
    model: &ModelFile,
    runtime: &Runtime,
) -> Result<Judgement> {
    let settings = SessionSettings::on_processor(0);
    let mut classifier = Classifier::load(&runtime.environment, model, &settings)?;
    judge(
        validation,
        &model.metadata().labels,
        batch_size(validation.preprocess.bytes_per_image()),
        &TOP_K,
        |batch, images| {
            classifier
                .classify(batch, images)
                .context("the model could not be run")
        },
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mean_has_the_options_that_its_models_share_and_what_is_their_own() {
        let network = |name: &str, width: u32| json!({"name": name, "width": width});
        let one = json!({"seed": 1, "epochs": 9, "network": network("a", 8)});
        let two = json!({"seed": 2, "epochs": 9, "network": network("b", 8), "start": null});
        let summary = |options: &Value| json!({"options": options, "epochs": []});
        assert_eq!(options(&summary(&one)), one);
        assert_eq!(
            options(&json!({"members": [summary(&one), summary(&two)]})),
            json!({
                "all models": {"epochs": 9, "network": {"width": 8}},
                "model 1": {"seed": 1, "network": {"name": "a"}},
                "model 2": {"seed": 2, "network": {"name": "b"}, "start": null},
            })
        );
        let twins = json!({"members": [summary(&one), summary(&one)]});
        assert_eq!(options(&twins), json!({ "all models": one }));
        assert_eq!(options(&Value::Null), Value::Null);
    }
}
