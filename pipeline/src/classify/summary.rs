//! What a run found and did, in numbers that add up: found = the sum over all statuses.

use serde::Serialize;
use serde_json::{Map, Value};

use super::decision::Decisions;
use super::earlier::Comparison;
use super::rows::{Origin, Outcome, Row};
use super::ruling::Ruling;
use super::walk::Skipped;
use crate::decode::Status;

/// What a run found and did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Files found: the number of rows.
    pub found: u64,
    /// Rows per status, in the order of [`Status::ALL`].
    #[serde(serialize_with = "by_status")]
    pub statuses: [u64; Status::ALL.len()],
    /// Rows per class, in the order of the model's labels, by most probable class.
    pub classes: Vec<ClassCount>,
    /// Confidences of the most probable class: entry `i` counts those from `i/10` to `(i+1)/10`.
    pub confidence_histogram: [u64; 10],
    /// What was decided about the classified rows, where thresholds are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decisions: Option<Decisions>,
    /// What got no row.
    pub skipped: Skipped,
    /// Rows that were copied from a file with the same content in this run.
    pub duplicates: u64,
    /// How the files compare with those of earlier runs.
    pub comparison: Comparison,
    /// Memory for files and decoded images.
    pub memory: Memory,
    /// Seconds from the first step to the last row.
    pub seconds: f64,
    /// Files a second over the whole run.
    pub images_per_second: f64,
    /// What each stage did with its time.
    pub stages: Stages,
}

/// Memory for files and decoded images, all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// What it may be at most.
    pub budget_bytes: u64,
    /// The most that was counted.
    pub peak_bytes: u64,
}

/// Rows of one class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// Name of the class.
    pub label: String,
    /// Rows whose most probable class it is.
    pub count: u64,
}

/// Times of the stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stages {
    /// Listing folders.
    pub walk: StageTimes,
    /// Reading files ahead; `readers` threads work during its busy seconds.
    pub read: StageTimes,
    /// Decoding and resizing, and reading what was not read ahead; `jobs` threads work during its busy seconds.
    pub decode: StageTimes,
    /// Running the model; the mean of its sessions, where there are several.
    pub infer: StageTimes,
    /// Writing rows.
    pub write: StageTimes,
}

/// What one stage did, and with its time, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StageTimes {
    /// Files that it worked on: found, looked at, given to the model, or written as rows.
    pub files: u64,
    /// Of these, in a second of work: what it would do if it never had to wait.
    pub files_per_busy_second: f64,
    /// Slabs that were waiting for it when it took one, that one included, on average; none wait for the walk and for reading.
    pub queue_depth: Option<f64>,
    /// Working.
    pub busy_seconds: f64,
    /// Waiting for something to work on.
    pub starved_seconds: f64,
    /// Waiting for the next stage to take the result, or to give a buffer back.
    pub blocked_seconds: f64,
}

impl StageTimes {
    /// The same with its throughput, for a stage that is over.
    pub(super) fn over(self) -> Self {
        Self {
            files_per_busy_second: self.files as f64 / self.busy_seconds.max(f64::MIN_POSITIVE),
            ..self
        }
    }

    /// Several that did the same at the same time, as one: their files together, and the mean of their times.
    pub(super) fn side_by_side(several: &[Self]) -> Self {
        let mean = |part: fn(&Self) -> f64| {
            several.iter().map(part).sum::<f64>() / several.len().max(1) as f64
        };
        Self {
            files: several.iter().map(|times| times.files).sum(),
            queue_depth: Some(mean(|times| times.queue_depth.unwrap_or(0.0))),
            busy_seconds: mean(|times| times.busy_seconds),
            starved_seconds: mean(|times| times.starved_seconds),
            blocked_seconds: mean(|times| times.blocked_seconds),
            ..Self::default()
        }
        .over()
    }
}

impl Stages {
    /// All of them, with their names, in the order of the data.
    pub fn named(&self) -> [(&'static str, &StageTimes); 5] {
        let Self {
            walk,
            read,
            decode,
            infer,
            write,
        } = self;
        [
            ("walk", walk),
            ("read", read),
            ("decode", decode),
            ("infer", infer),
            ("write", write),
        ]
    }

    /// Name of the stage that was busy longest: the one to make faster.
    pub fn bottleneck(&self) -> &'static str {
        let [mut longest, others @ ..] = self.named();
        for stage in others {
            if stage.1.busy_seconds > longest.1.busy_seconds {
                longest = stage;
            }
        }
        longest.0
    }
}

impl Summary {
    /// Of a run that has found nothing yet, with a model of these labels.
    pub fn new(labels: &[String]) -> Self {
        let classes = labels
            .iter()
            .map(|label| ClassCount {
                label: label.clone(),
                count: 0,
            })
            .collect();
        Self {
            found: 0,
            statuses: [0; Status::ALL.len()],
            classes,
            confidence_histogram: [0; 10],
            decisions: None,
            skipped: Skipped::default(),
            duplicates: 0,
            comparison: Comparison::default(),
            memory: Memory::default(),
            seconds: 0.0,
            images_per_second: 0.0,
            stages: Stages::default(),
        }
    }

    pub(crate) fn count(&mut self, row: &Row, ruling: Ruling) {
        self.found += 1;
        self.duplicates += u64::from(row.origin == Origin::Duplicate);
        self.statuses[row.outcome.status() as usize] += 1;
        if let Outcome::Labelled { best, .. } = &row.outcome
            && let Some(first) = best.first()
        {
            self.classes[first.class].count += 1;
            let tenth = (first.confidence * 10.0) as usize;
            self.confidence_histogram[tenth.min(9)] += 1;
        }
        if let Some(decision) = ruling.decision {
            self.decisions.get_or_insert_default().count(decision);
        }
    }

    /// Rows with this status.
    pub fn with_status(&self, status: Status) -> u64 {
        self.statuses[status as usize]
    }

    /// Whether every file found was classified without complaint, and no file can have been missed.
    pub fn is_all_ok(&self) -> bool {
        self.with_status(Status::Ok) == self.found && self.skipped.unreadable_folders == 0
    }
}

fn by_status<S: serde::Serializer>(
    counts: &[u64; Status::ALL.len()],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let names = Status::ALL.iter().map(|status| status.as_str().to_owned());
    names
        .zip(counts.iter().map(|&count| Value::from(count)))
        .collect::<Map<_, _>>()
        .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::csv_output::tests::decided;
    use crate::classify::decision::Decision;
    use crate::classify::rows::Candidate;
    use crate::classify::walk::{SkipReason, Source};
    use crate::decode::{Fault, Stamp};

    fn row(outcome: Outcome) -> Row {
        Row {
            source: Source {
                path: "x".into(),
                shown: "x".into(),
            },
            stamp: Stamp::default(),
            content: None,
            origin: Origin::ThisRun,
            outcome,
        }
    }

    #[test]
    fn the_numbers_add_up() {
        let mut summary = Summary::new(&["a".into(), "b".into()]);
        for (class, confidence) in [(1, 1.0), (1, 0.25), (0, 0.3)] {
            let labelled = Outcome::Labelled {
                best: vec![Candidate { class, confidence }],
                above: vec![],
                familiarity: 0.0,
                damage: None,
            };
            let decision = match confidence {
                1.0 => Decision::Accept,
                _ => Decision::Review,
            };
            summary.count(&row(labelled), decided(decision));
        }
        assert!(summary.is_all_ok());
        let gone = Outcome::Failed(Fault::new(Status::Vanished, "gone"));
        summary.count(&row(gone), Ruling::default());
        let decided = Decisions {
            accept: 1,
            review: 2,
            ..Decisions::default()
        };
        assert_eq!(summary.decisions, Some(decided));
        assert_eq!(summary.found, summary.statuses.iter().sum::<u64>());
        assert_eq!(
            summary
                .classes
                .iter()
                .map(|class| class.count)
                .collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(summary.confidence_histogram, [0, 0, 1, 1, 0, 0, 0, 0, 0, 1]);
        assert!(!summary.is_all_ok());
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(
            [&json["statuses"]["ok"], &json["statuses"]["vanished"]],
            [3, 1]
        );
    }

    #[test]
    fn a_folder_that_could_not_be_read_is_not_all_ok() {
        let mut summary = Summary::new(&[]);
        summary.skipped.count(&SkipReason::BrokenLink);
        assert!(summary.is_all_ok());
        summary
            .skipped
            .count(&SkipReason::UnreadableFolder("no".into()));
        assert!(!summary.is_all_ok());
    }

    #[test]
    fn the_busiest_stage_is_the_bottleneck() {
        let mut stages = Stages::default();
        stages.infer.busy_seconds = 2.0;
        stages.decode.busy_seconds = 1.0;
        stages.write.blocked_seconds = 9.0;
        assert_eq!(stages.bottleneck(), "infer");
    }
}
