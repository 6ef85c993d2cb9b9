//! The state of an unfinished run in a file, from which it continues as if it had never been stopped.
//!
//! The file is: a line that names the format, the length of the header as 8 bytes, the header as JSON, all numbers as
//! little-endian float32, and the SHA-256 of everything before. It appears whole or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pipeline::atomic_file;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::events::EpochSummary;
use super::formulation::FormulationChoice;
use super::options::TrainOptions;
use super::plan::Plan;
use super::pruning::ImageLosses;

const FORMAT: &[u8] = b"catalog checkpoint 1\n";
const DIGEST_BYTES: usize = 32;
const LENGTH_BYTES: usize = 8;
/// Options that decide where a run computes, not what: they may change between a stop and the resumption. Mixed precision is more than that.
const OPTIONS_OF_THE_MACHINE: [&str; 2] = ["threads", "formulation"];

/// Where a run keeps its checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointFile {
    /// The file.
    pub path: PathBuf,
    /// Time between two checkpoints, beside the one that each epoch ends with.
    pub interval: Duration,
    /// Whether a run goes on from what the file holds; otherwise that is replaced.
    pub is_continued: bool,
    /// Version of ONNX Runtime, which is noted in the file.
    pub onnxruntime_version: String,
}

impl CheckpointFile {
    /// What the run goes on from; `None` where it begins.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn load(&self) -> Result<Option<Checkpoint>> {
        match self.is_continued {
            true => Checkpoint::load(&self.path),
            false => Ok(None),
        }
    }

    /// Removes the file of a run that needs it no more, and what kills have left beside it.
    ///
    /// # Errors
    /// When a file is there and cannot be removed.
    pub fn remove(&self) -> Result<()> {
        atomic_file::remove_leftovers(&self.path)?;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// An unfinished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Which run it is.
    pub identity: RunIdentity,
    /// How far it is.
    pub state: RunState,
    /// All parameters, statistics and optimizer state included.
    pub parameters: Vec<Vec<f32>>,
    /// Those of the best epoch; none before the first validation.
    pub best: Option<Vec<Vec<f32>>>,
    /// The average of all parameters, where that is what is judged; none before the first sample.
    pub average: Option<Vec<Vec<f32>>>,
    /// Losses of the training images, where these decide about the images of an epoch.
    pub losses: Option<ImageLosses>,
}

/// What makes two runs the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunIdentity {
    /// Version of this program.
    pub program_version: String,
    /// Version of ONNX Runtime.
    pub onnxruntime_version: String,
    /// SHA-256 over classes, labels and pixels.
    pub data_fingerprint: String,
    /// All options.
    pub options: TrainOptions,
    /// What computes the steps, as a clause; another one gives other last digits.
    pub formulation: String,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Steps of the unfinished epoch that are done.
    pub step: usize,
    /// Steps of the run that are done.
    pub steps_done: u64,
    /// Sum of the losses of the unfinished epoch's steps.
    pub loss_sum: f64,
    /// Images of the unfinished epoch that were learnt from.
    pub images: usize,
    /// Learning rate of the last step.
    pub learning_rate: f32,
    /// Seconds that the unfinished epoch has taken.
    pub epoch_seconds: f64,
    /// Seconds that the run has taken.
    pub seconds: f64,
    /// Seconds of these in which it learnt.
    pub training_seconds: f64,
    /// Finished epochs.
    pub history: Vec<EpochSummary>,
    /// How the schedule goes on.
    pub plan: Plan,
    /// Whether easy images are left out of the unfinished epoch.
    pub is_pruned: bool,
}

#[derive(Serialize, Deserialize)]
struct Header {
    identity: RunIdentity,
    state: RunState,
    /// Elements of each parameter.
    sizes: Vec<usize>,
    has_best: bool,
    #[serde(default)]
    has_average: bool,
    /// Training images whose losses are behind the parameters; 0 where they are not kept.
    losses: usize,
}

impl RunIdentity {
    /// Checks that a checkpoint of this identity can be continued as `current`, and gives a warning where the result may differ in
    /// the last digits.
    ///
    /// # Errors
    /// Names what differs.
    pub fn check(&self, current: &Self) -> Result<Option<String>> {
        ensure!(
            self.data_fingerprint == current.data_fingerprint,
            "the unfinished run learnt from other data; give the same data, or --overwrite to start anew"
        );
        let differences = option_differences(&self.options, &current.options)?;
        if !differences.is_empty() {
            bail!(
                "the unfinished run has other options: {}; give the same ones, or --overwrite to start anew",
                differences.join(", ")
            );
        }
        let changes: Vec<String> = [
            ("catalog", &self.program_version, &current.program_version),
            (
                "ONNX Runtime",
                &self.onnxruntime_version,
                &current.onnxruntime_version,
            ),
            ("the computation", &self.formulation, &current.formulation),
        ]
        .into_iter()
        .filter(|(_, before, now)| before != now)
        .map(|(what, before, now)| {
            format!("{what} was `{before}` before the stop and is `{now}` now")
        })
        .collect();
        Ok((!changes.is_empty()).then(|| {
            format!(
                "{}: the result may differ in the last digits from that of an uninterrupted run",
                changes.join(", ")
            )
        }))
    }
}

/// What two runs' options differ in, each as `option was … and is …`; what only says where and how fast a run computes is no difference.
///
/// # Errors
/// When options cannot be written as JSON.
pub fn option_differences(before: &TrainOptions, now: &TrainOptions) -> Result<Vec<String>> {
    let is_rounding = |options: &TrainOptions| options.formulation == FormulationChoice::Mixed;
    let rounds_otherwise = is_rounding(before) != is_rounding(now);
    let (before, now) = (serde_json::to_value(before)?, serde_json::to_value(now)?);
    let mut differences = Vec::new();
    find_differences("", &before, &now, &mut differences);
    differences.retain(|difference| {
        let mut names = OPTIONS_OF_THE_MACHINE.iter();
        rounds_otherwise && difference.starts_with("formulation")
            || names.all(|name| !difference.starts_with(name))
    });
    Ok(differences)
}

/// `path was before and is now` for each leaf that differs.
fn find_differences(path: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(before_fields), Value::Object(now_fields))
            if before_fields.len() == now_fields.len()
                && before_fields.keys().all(|key| now_fields.contains_key(key)) =>
        {
            for (key, value) in before_fields {
                let path = match path {
                    "" => key.clone(),
                    _ => format!("{path}.{key}"),
                };
                find_differences(&path, value, &now_fields[key], found);
            }
        }
        _ if before == now => {}
        _ => found.push(format!("{path} was {before} and is {now}")),
    }
}

impl Checkpoint {
    /// Writes the checkpoint, replacing the one before it only when it is whole and durable.
    ///
    /// # Errors
    /// When the file cannot be written; the one before it is then untouched.
    pub fn save(&self, path: &Path) -> Result<()> {
        let header = serde_json::to_vec(&Header {
            identity: self.identity.clone(),
            state: self.state.clone(),
            sizes: self.parameters.iter().map(Vec::len).collect(),
            has_best: self.best.is_some(),
            has_average: self.average.is_some(),
            losses: self.losses.as_ref().map_or(0, |losses| losses.known.len()),
        })?;
        let mut bytes = FORMAT.to_vec();
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        let losses = self.losses.iter();
        let losses = losses.flat_map(|losses| [&losses.known, &losses.latest]);
        let copies = [
            Some(&self.parameters),
            self.best.as_ref(),
            self.average.as_ref(),
        ];
        let copies = copies.into_iter().flatten().flatten();
        for values in copies.chain(losses) {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        atomic_file::write(path, |file| Ok(file.write_all(&bytes)?))
            .context("the checkpoint cannot be saved")
    }

    /// Reads a checkpoint; `None` where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read, is of another format or is damaged.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        Self::decode(&bytes).map(Some).with_context(|| {
            format!(
                "{} cannot be continued from; --overwrite starts anew",
                path.display()
            )
        })
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let body = bytes
            .strip_prefix(FORMAT)
            .context("it is no checkpoint of this version of catalog")?;
        let damaged = || "it is damaged".to_owned();
        let (content, digest) = bytes
            .split_at_checked(bytes.len().saturating_sub(DIGEST_BYTES))
            .with_context(damaged)?;
        ensure!(Sha256::digest(content).as_slice() == digest, damaged());
        let (length, rest) = body
            .split_first_chunk::<LENGTH_BYTES>()
            .with_context(damaged)?;
        let length = usize::try_from(u64::from_le_bytes(*length))?;
        let (header, numbers) = rest.split_at_checked(length).with_context(damaged)?;
        // Whole, as the digest says: another version of the program has other options.
        let header: Header = serde_json::from_slice(header)
            .context("it was written by another version of catalog")?;
        let numbers = numbers
            .split_at_checked(numbers.len().saturating_sub(DIGEST_BYTES))
            .with_context(damaged)?
            .0;
        let (mut numbers, rest) = {
            let (chunks, rest) = numbers.as_chunks::<4>();
            (chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)), rest)
        };
        let copies = 1 + usize::from(header.has_best) + usize::from(header.has_average);
        let all = header.sizes.iter().sum::<usize>() * copies + 2 * header.losses;
        ensure!(rest.is_empty() && numbers.len() == all, damaged());
        let mut take = |size: usize| -> Vec<f32> { numbers.by_ref().take(size).collect() };
        let mut take_all =
            || -> Vec<Vec<f32>> { header.sizes.iter().map(|&size| take(size)).collect() };
        let parameters = take_all();
        let best = header.has_best.then(&mut take_all);
        let average = header.has_average.then(take_all);
        let losses = (header.losses > 0).then(|| ImageLosses {
            known: take(header.losses),
            latest: take(header.losses),
        });
        Ok(Self {
            identity: header.identity,
            state: header.state,
            parameters,
            best,
            average,
            losses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            identity: RunIdentity {
                program_version: "1.2.3".to_owned(),
                onnxruntime_version: "1.19.2".to_owned(),
                data_fingerprint: "abc".to_owned(),
                options: TrainOptions::default(),
                formulation: "portable".to_owned(),
            },
            state: RunState {
                step: 3,
                steps_done: 13,
                // No short decimal: it has to come back to the bit.
                loss_sum: 0.1 + 0.2,
                images: 96,
                learning_rate: 0.05,
                epoch_seconds: 1.5,
                seconds: 7.25,
                training_seconds: 6.5,
                history: vec![EpochSummary::example(1, 0.5)],
                plan: Plan::new(5, 10, None, 2, 32),
                is_pruned: true,
            },
            parameters: vec![vec![1.0, -2.5], vec![], vec![f32::MIN_POSITIVE]],
            best: Some(vec![vec![0.0, 3.0], vec![], vec![7.0]]),
            average: Some(vec![vec![-1.0, 0.1], vec![], vec![0.25]]),
            losses: Some(ImageLosses {
                known: vec![0.5, f32::INFINITY],
                latest: vec![0.25, 2.0],
            }),
        }
    }

    #[test]
    fn what_was_saved_comes_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        assert_eq!(Checkpoint::load(&path).unwrap(), None);
        for parts in 0..8 {
            let has = |part: u8| parts & part != 0;
            let saved = Checkpoint {
                best: checkpoint().best.filter(|_| has(1)),
                average: checkpoint().average.filter(|_| has(2)),
                losses: checkpoint().losses.filter(|_| has(4)),
                ..checkpoint()
            };
            saved.save(&path).unwrap();
            assert_eq!(Checkpoint::load(&path).unwrap(), Some(saved));
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        checkpoint().save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            assert!(Checkpoint::decode(&whole[..length]).is_err(), "{length}");
        }
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 0x10;
            assert!(Checkpoint::decode(&bytes).is_err(), "{index}");
        }
        std::fs::write(&path, "something else").unwrap();
        let error = format!("{:#}", Checkpoint::load(&path).unwrap_err());
        assert!(error.contains("no checkpoint of this version"), "{error}");
    }

    #[test]
    fn mixed_precision_is_no_matter_of_the_machine() {
        let with = |formulation| TrainOptions {
            formulation,
            ..TrainOptions::default()
        };
        let [auto, portable, mixed] = [
            FormulationChoice::Auto,
            FormulationChoice::Portable,
            FormulationChoice::Mixed,
        ]
        .map(with);
        assert!(option_differences(&auto, &portable).unwrap().is_empty());
        assert!(option_differences(&mixed, &mixed).unwrap().is_empty());
        assert_eq!(
            option_differences(&mixed, &auto).unwrap(),
            [r#"formulation was "mixed" and is "auto""#]
        );
    }

    #[test]
    fn another_run_is_refused_with_what_differs_and_another_machine_is_not() {
        let before = checkpoint().identity;
        assert_eq!(before.check(&before).unwrap(), None);

        let mut other = before.clone();
        other.options.epochs = 99;
        other.options.augment.shift_x = 0.5;
        let error = before.check(&other).unwrap_err().to_string();
        assert!(error.contains("epochs was 12 and is 99"), "{error}");
        assert!(error.contains("augment.shift_x was"), "{error}");

        let mut other = before.clone();
        other.data_fingerprint = "xyz".to_owned();
        assert!(
            before
                .check(&other)
                .unwrap_err()
                .to_string()
                .contains("other data")
        );

        let mut other = before.clone();
        other.options.threads = 7;
        other.formulation = "blocked".to_owned();
        let warning = before.check(&other).unwrap().unwrap();
        assert!(
            warning.contains("`portable` before the stop and is `blocked`"),
            "{warning}"
        );
        other.onnxruntime_version = "1.20.0".to_owned();
        let warning = before.check(&other).unwrap().unwrap();
        assert!(
            warning.contains("ONNX Runtime was `1.19.2` before the stop and is `1.20.0` now, the"),
            "{warning}"
        );
    }

    #[test]
    fn only_a_run_that_goes_on_reads_the_file_and_removal_takes_what_kills_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = CheckpointFile {
            path: folder.path().join("checkpoint"),
            interval: Duration::from_secs(1),
            is_continued: false,
            onnxruntime_version: String::new(),
        };
        checkpoint().save(&file.path).unwrap();
        assert_eq!(file.load().unwrap(), None);
        file.is_continued = true;
        assert_eq!(file.load().unwrap(), Some(checkpoint()));
        std::fs::write(folder.path().join(".checkpoint.abc.tmp"), "half").unwrap();
        file.remove().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        file.remove().unwrap();
    }
}
