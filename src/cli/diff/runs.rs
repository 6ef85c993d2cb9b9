//! What the reports beside two files of labels say about the runs that wrote them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use pipeline::classify::LabelsFacts;
use serde::Deserialize;

use crate::cli::report_beside;
use crate::report::text::utc;

/// One file of labels, and what is known of it.
#[derive(Debug)]
pub(super) struct Run {
    /// What it is called.
    pub(super) name: String,
    rows: u64,
    report: Option<RunReport>,
}

/// What is read of a run's report; that of a merge has less.
#[derive(Debug, Deserialize)]
struct RunReport {
    model: Option<Model>,
    finished_unix_seconds: Option<f64>,
    labels: LabelsFacts,
}

#[derive(Debug, Deserialize)]
struct Model {
    file: String,
    sha256: String,
}

impl Run {
    /// Takes what lies beside the labels. The comparison is good without it, so what cannot be read is a warning.
    pub(super) fn read(labels: &Path, rows: u64) -> Self {
        Self {
            name: labels.display().to_string(),
            rows,
            report: report(&report_beside(labels)).unwrap_or_else(|error| {
                tracing::warn!("{error:#}; less is known of the run");
                None
            }),
        }
    }

    fn fact(&self, fact: impl Fn(&RunReport) -> Option<String>) -> String {
        self.report
            .as_ref()
            .and_then(fact)
            .unwrap_or_else(|| "not known".to_owned())
    }

    /// That these are not the labels that the report beside them is about: they were cut, or put in place of others.
    pub(super) fn mismatch(&self) -> Option<String> {
        let reported = self.report.as_ref()?.labels.rows;
        (reported != self.rows).then(|| {
            format!(
                "{} has {} rows, the report {} is about {reported}: the labels were cut, or the report is an old one.",
                self.name,
                self.rows,
                report_beside(Path::new(&self.name)).display()
            )
        })
    }
}

fn report(path: &Path) -> Result<Option<RunReport>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("{} cannot be read", path.display()))?,
    };
    let report = serde_json::from_str(&text)
        .with_context(|| format!("{} is not the report of a run", path.display()))?;
    Ok(Some(report))
}

/// Names and values of both: what they are, and every setting in which they differ.
pub(super) fn facts(runs: &[Run; 2]) -> Vec<(String, [String; 2])> {
    let both = |name: &str, fact: &dyn Fn(&Run) -> String| {
        (name.to_owned(), [fact(&runs[0]), fact(&runs[1])])
    };
    let model = |report: &RunReport| report.model.as_ref().map(|model| model.file.clone());
    let checksum = |report: &RunReport| report.model.as_ref().map(|model| model.sha256.clone());
    let finished = |report: &RunReport| {
        let seconds = report.finished_unix_seconds?;
        Some(utc(seconds as u64))
    };
    let mut facts = vec![
        both("file", &|run| run.name.clone()),
        both("rows", &|run| run.rows.to_string()),
        both("model", &|run| run.fact(model)),
        both("model checksum (SHA-256)", &|run| run.fact(checksum)),
        both("finished", &|run| run.fact(finished)),
    ];
    if let [Some(old), Some(new)] = [&runs[0].report, &runs[1].report] {
        let [old, new] = [&old.labels.made_with, &new.labels.made_with];
        let settings: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for setting in settings {
            let values = [old.get(setting), new.get(setting)];
            // The model stands above already.
            if values[0] != values[1] && setting != "the model" {
                let words =
                    values.map(|value| value.cloned().unwrap_or_else(|| "not set".to_owned()));
                facts.push((setting.clone(), words));
            }
        }
    }
    facts
}

/// That the model is the same, where it is.
pub(super) fn same_model(runs: &[Run; 2]) -> Option<String> {
    let model = |run: &Run| {
        let facts = &run.report.as_ref()?.labels.made_with;
        facts.get("the model").cloned()
    };
    let (old, new) = (model(&runs[0])?, model(&runs[1])?);
    (old == new).then(|| {
        "Both are by the same model: what differs comes from the files or the settings.".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rows: u64, model: &str, top_k: &str) -> Run {
        let report = serde_json::json!({
            "model": {"file": format!("{model}.onnx"), "sha256": model},
            "finished_unix_seconds": 60.5,
            "labels": {
                "format": "csv", "rows": 3, "digest": "", "shard": null, "tree": {"files": 3, "digest": ""},
                "made_with": {"the model": model, "--top-k": top_k, "the device": "CPU"},
            },
        });
        Run {
            name: "a.csv".to_owned(),
            rows,
            report: Some(serde_json::from_value(report).unwrap()),
        }
    }

    #[test]
    fn what_differs_is_listed() {
        let runs = [run(3, "m1", "1"), run(4, "m2", "2")];
        let facts = facts(&runs);
        let value = |name: &str| {
            facts
                .iter()
                .find(|(fact, _)| fact == name)
                .map(|(_, values)| values.clone())
        };
        assert_eq!(value("model").unwrap(), ["m1.onnx", "m2.onnx"]);
        assert_eq!(value("--top-k").unwrap(), ["1", "2"]);
        assert_eq!(value("finished").unwrap()[0], "1970-01-01 00:01 UTC");
        assert_eq!([value("the device"), value("the model")], [None, None]);
        assert_eq!(runs[0].mismatch(), None);
        assert_eq!(
            runs[1].mismatch().unwrap(),
            "a.csv has 4 rows, the report a.csv.report.json is about 3: the labels were cut, or the report is an old one."
        );
        assert_eq!(same_model(&runs), None);
        let same = same_model(&[run(3, "m", "1"), run(3, "m", "1")]);
        assert!(same.unwrap().contains("same model"));
    }

    #[test]
    fn without_a_report_little_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let runs = [Run::read(&path, 1), run(3, "m", "1")];
        assert_eq!(facts(&runs)[2].1, ["not known", "m.onnx"]);
        fs::write(report_beside(&path), "{}").unwrap();
        assert!(Run::read(&path, 1).report.is_none());
    }
}
