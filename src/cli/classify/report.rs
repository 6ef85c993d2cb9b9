//! The figures of a run as JSON: what was asked, what it ran on, what came of it.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use pipeline::classify::{Destination, Finished, LabelsFacts, Settings, Summary, path_text};
use pipeline::decode::{Limits, reduced_jpeg_decoder};
use pipeline::model::{Device, Expectation, ModelFile};
use serde::Serialize;
use serde_json::Value;

use super::ClassifyArgs;
use crate::runtime::Runtime;

/// Everything about one run.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    program: &'static str,
    version: &'static str,
    started_unix_seconds: f64,
    finished_unix_seconds: f64,
    peak_memory_bytes: Option<u64>,
    inputs: Vec<String>,
    output: String,
    model: Model<'a>,
    runtime: Library<'a>,
    settings: Options,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepting: Option<Accepting<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taxonomy: Option<Categories<'a>>,
    /// What `catalog merge` has to know of the labels.
    labels: &'a LabelsFacts,
    /// The stage that was busy longest.
    bottleneck: &'static str,
    summary: &'a Summary,
}

#[derive(Debug, Serialize)]
struct Model<'a> {
    file: &'a str,
    sha256: &'a str,
    classes: usize,
    /// Without the figures of its epochs, which `catalog inspect` shows.
    training: Value,
}

#[derive(Debug, Serialize)]
struct Library<'a> {
    onnxruntime: &'a str,
    /// What decodes JPEGs at a fraction of their size.
    reduced_jpeg_decoder: &'static str,
    library: String,
    device: String,
    /// Over all devices.
    sessions: usize,
}

#[derive(Debug, Serialize)]
struct Options {
    top_k: usize,
    batch_size: usize,
    images_per_run: usize,
    jobs: usize,
    readers: usize,
    limits: Limits,
    memory_budget: u64,
    by_content: bool,
    previous: Option<String>,
    target_precision: Option<f64>,
    review_below: Option<f32>,
    reject_unknown: Option<f64>,
}

/// Where the categories of rows come from.
#[derive(Debug, Serialize)]
struct Categories<'a> {
    file: &'a str,
    sha256: &'a str,
    categories: usize,
}

/// From which confidence on labels were accepted.
#[derive(Debug, Serialize)]
struct Accepting<'a> {
    thresholds: Vec<Threshold<'a>>,
    /// From which probability on a category above labels was accepted instead; only with a taxonomy.
    #[serde(skip_serializing_if = "Option::is_none")]
    above_labels: Option<f32>,
    /// The score of familiarity below which an image was unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_below: Option<f32>,
    /// What they gave on the model's validation images.
    expected: Option<Expectation>,
}

#[derive(Debug, Serialize)]
struct Threshold<'a> {
    label: &'a str,
    /// None where no label of the class was.
    confidence: Option<f32>,
}

/// Where the model ran.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placing<'a> {
    pub(super) devices: &'a [Device],
    pub(super) sessions: usize,
    /// Of a whole batch, by the end of the run.
    pub(super) images_per_run: usize,
}

impl<'a> Report<'a> {
    /// Collects the figures of a run that ends now.
    pub(super) fn new(
        arguments: &ClassifyArgs,
        settings: &Settings,
        model: &'a ModelFile,
        runtime: &'a Runtime,
        placing: Placing<'_>,
        finished: &'a Finished,
        started: SystemTime,
    ) -> Self {
        let summary = &finished.summary;
        let rules = &finished.rules;
        Self {
            program: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            started_unix_seconds: unix_seconds(started),
            finished_unix_seconds: unix_seconds(SystemTime::now()),
            peak_memory_bytes: peak_memory_bytes(),
            inputs: arguments.paths.iter().map(|path| path_text(path)).collect(),
            output: match &settings.output {
                Destination::File(path) => path_text(path),
                Destination::Stdout => "-".to_owned(),
            },
            model: Model {
                file: model.name(),
                sha256: model.checksum(),
                classes: model.metadata().labels.len(),
                training: without_epochs(&model.metadata().summary),
            },
            runtime: Library {
                onnxruntime: &runtime.version,
                reduced_jpeg_decoder: reduced_jpeg_decoder(),
                library: path_text(&runtime.path),
                device: placing
                    .devices
                    .iter()
                    .map(Device::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
                sessions: placing.sessions,
            },
            settings: Options {
                top_k: settings.top_k,
                batch_size: settings.batch_size,
                images_per_run: placing.images_per_run,
                jobs: settings.jobs,
                readers: settings.readers,
                limits: settings.limits,
                memory_budget: settings.memory_budget,
                by_content: settings.by_content,
                previous: settings.previous.as_deref().map(path_text),
                target_precision: settings.acceptance.target_precision,
                review_below: settings.acceptance.review_below,
                reject_unknown: settings.reject_unknown,
            },
            taxonomy: rules.taxonomy.as_ref().map(|taxonomy| Categories {
                file: taxonomy.name(),
                sha256: taxonomy.sha256(),
                categories: taxonomy.categories().len(),
            }),
            accepting: rules.thresholding.as_ref().map(|thresholding| Accepting {
                thresholds: model
                    .metadata()
                    .labels
                    .iter()
                    .zip(&thresholding.thresholds)
                    .map(|(label, &confidence)| Threshold { label, confidence })
                    .collect(),
                above_labels: rules
                    .taxonomy
                    .is_some()
                    .then_some(thresholding.above_labels),
                unknown_below: rules.unknown_below,
                expected: thresholding.expected,
            }),
            labels: &finished.labels,
            bottleneck: summary.stages.bottleneck(),
            summary,
        }
    }
}

fn without_epochs(training: &Value) -> Value {
    let mut training = training.clone();
    if let Value::Object(facts) = &mut training {
        facts.remove("epochs");
        if let Some(Value::Array(members)) = facts.get_mut("members") {
            for member in members {
                *member = without_epochs(member);
            }
        }
    }
    training
}

/// Zero for a clock that is set before 1970.
fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// The most memory this process ever held; only Linux tells it in a file.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string(PathBuf::from("/proc/self/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        assert_eq!(
            unix_seconds(UNIX_EPOCH + std::time::Duration::from_millis(1500)),
            1.5
        );
        assert_eq!(
            unix_seconds(UNIX_EPOCH - std::time::Duration::from_secs(1)),
            0.0
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn peak_memory_is_plausible() {
        assert!(peak_memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
