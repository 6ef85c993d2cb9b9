//! How long a run goes on, and what becomes of a run that was stopped: the options.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use clap::{Args, ValueEnum};

use super::{MODEL_FILE, OPTIONS_FILE};
use crate::training::checkpoint::option_differences;
use crate::training::options::{TrainOptions, UNLIMITED_EPOCHS};
use crate::training::watch::{EarlyStopping, Monitor};

/// Name of the checkpoint in the output folder.
pub(in crate::cli) const CHECKPOINT_FILE: &str = "training.checkpoint";
/// Epochs without an improvement that are borne where only `--stop-on` is given.
const DEFAULT_PATIENCE: usize = 5;

#[derive(Debug, Args)]
#[command(next_help_heading = "Run")]
pub(super) struct RunArgs {
    /// Continue the unfinished run in the output folder as if it had not been stopped; begin it where there is none
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Throw away the unfinished run in the output folder
    #[arg(long)]
    overwrite: bool,
    /// Minutes between checkpoints, beside the one after each epoch
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    checkpoint_minutes: f64,
    /// Be over after so long, such as 20m or 1h30m: as many epochs as fit, and no more than --epochs where that is given
    #[arg(long, value_name = "TIME")]
    time_budget: Option<Length>,
    /// End after so many epochs without an improvement; the learning rate then has not come down
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// What --patience watches [default: accuracy]
    #[arg(long, value_name = "NAME")]
    stop_on: Option<MonitorName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MonitorName {
    /// The loss on the validation images
    Loss,
    /// The accuracy on the validation images
    Accuracy,
}

/// What is to be done in an output folder.
pub(super) enum Beginning {
    /// A run.
    Run {
        /// Whether from its checkpoint on, if there is one.
        is_continued: bool,
    },
    /// Nothing: the run is finished.
    Finished,
}

impl RunArgs {
    /// Changes `options` to what was asked for. A time budget is the only limit unless `epochs_are_given`.
    pub(super) fn apply(&self, options: &mut TrainOptions, epochs_are_given: bool) {
        if let Some(Length(seconds)) = self.time_budget {
            options.time_budget = Some(seconds);
            if !epochs_are_given {
                options.epochs = UNLIMITED_EPOCHS;
            }
        }
        if self.patience.is_some() || self.stop_on.is_some() {
            let before = options.early_stopping;
            options.early_stopping = Some(EarlyStopping {
                patience: self
                    .patience
                    .or(before.map(|before| before.patience))
                    .unwrap_or(DEFAULT_PATIENCE),
                on: match self.stop_on {
                    Some(MonitorName::Loss) => Monitor::Loss,
                    Some(MonitorName::Accuracy) => Monitor::Accuracy,
                    None => before.map_or(Monitor::default(), |before| before.on),
                },
            });
        }
    }

    /// Time between two checkpoints.
    ///
    /// # Errors
    /// When it is no length of time.
    pub(super) fn interval(&self) -> Result<Duration> {
        let seconds = self.checkpoint_minutes * 60.0;
        ensure!(
            seconds > 0.0,
            "--checkpoint-minutes is {}, expected a number above 0",
            self.checkpoint_minutes
        );
        Duration::try_from_secs_f64(seconds).context("--checkpoint-minutes is too large")
    }

    /// Looks at what is in the output folder of a run with these options.
    ///
    /// # Errors
    /// When there is an unfinished run and nothing was said about it, or a finished one with other options shall go on.
    pub(super) fn begin(&self, folder: &Path, options: &TrainOptions) -> Result<Beginning> {
        self.interval()?;
        let is_unfinished = folder.join(CHECKPOINT_FILE).exists();
        match (is_unfinished, self.resume, self.overwrite) {
            (true, false, false) => bail!(
                "{} holds an unfinished run: --resume continues it, --overwrite throws it away",
                folder.display()
            ),
            (false, true, _) if folder.join(MODEL_FILE).exists() => {
                check_finished(folder, options)?;
                tracing::info!(
                    "nothing to do: the run in {} is finished; without --resume it is done again",
                    folder.display()
                );
                Ok(Beginning::Finished)
            }
            _ => Ok(Beginning::Run {
                is_continued: self.resume,
            }),
        }
    }
}

/// Checks that the finished run in a folder had these options.
fn check_finished(folder: &Path, options: &TrainOptions) -> Result<()> {
    let path = folder.join(OPTIONS_FILE);
    let shown = path.display();
    let anew = "without --resume a new run takes its place";
    let text = fs::read_to_string(&path).with_context(|| {
        format!("{shown} does not tell what the model beside it was trained with; {anew}")
    })?;
    let before: TrainOptions = serde_json::from_str(&text)
        .with_context(|| format!("{shown}: not the options of a training run; {anew}"))?;
    let differences = option_differences(&before, options)?;
    ensure!(
        differences.is_empty(),
        "the finished run in {} had other options: {}; {anew}",
        folder.display(),
        differences.join(", ")
    );
    Ok(())
}

/// Keeps other runs out of an output folder as long as it lives. It leaves nothing behind, however the run ends.
pub(in crate::cli) struct FolderLock {
    /// None where folders cannot be locked.
    _folder: Option<File>,
}

impl FolderLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// When another run has it.
    pub(in crate::cli) fn take(folder: &Path) -> Result<Self> {
        // Only Unix lets a folder be opened for that, and some network file systems know no locks.
        let Ok(opened) = File::open(folder) else {
            return Ok(Self { _folder: None });
        };
        match opened.try_lock() {
            Ok(()) => Ok(Self {
                _folder: Some(opened),
            }),
            Err(TryLockError::WouldBlock) => bail!(
                "another run writes to {}; wait for its end or take another --out",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => {
                tracing::debug!("{} cannot be locked: {error}", folder.display());
                Ok(Self { _folder: None })
            }
        }
    }
}

/// A length of time in seconds: numbers with the units h, m and s, the largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Length(pub(in crate::cli) u64);

impl FromStr for Length {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || format!("`{text}` is no length of time, expected something like 20m or 1h30m");
        let mut rest = text;
        let mut seconds = 0_u64;
        for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
            if let Some((number, behind)) = rest.split_once(unit) {
                let number: u64 = number.parse().with_context(wrong)?;
                seconds = number
                    .checked_mul(factor)
                    .and_then(|part| seconds.checked_add(part))
                    .with_context(wrong)?;
                rest = behind;
            }
        }
        ensure!(rest.is_empty() && seconds > 0, wrong());
        Ok(Self(seconds))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn run_args(arguments: &str) -> RunArgs {
        let line = format!("train {arguments}");
        Line::try_parse_from(line.split_whitespace()).unwrap().run
    }

    #[test]
    fn a_time_budget_alone_takes_as_many_epochs_as_fit() {
        let epochs = |arguments: &str, epochs_are_given| {
            let mut options = TrainOptions::default();
            run_args(arguments).apply(&mut options, epochs_are_given);
            options.epochs
        };
        let default = TrainOptions::default().epochs;
        assert_eq!(epochs("", false), default);
        assert_eq!(epochs("--time-budget 5m", false), UNLIMITED_EPOCHS);
        assert_eq!(epochs("--time-budget 5m", true), default);
    }

    #[test]
    fn what_is_in_the_folder_decides_how_a_run_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let options = TrainOptions::default();
        // What became of it: whether a run continues, none where there is nothing to do.
        let begun = |arguments: &str, options: &TrainOptions| {
            let beginning = run_args(arguments).begin(path, options);
            beginning.map(|beginning| match beginning {
                Beginning::Run { is_continued } => Some(is_continued),
                Beginning::Finished => None,
            })
        };
        let message = |arguments: &str, options: &TrainOptions| {
            format!("{:#}", begun(arguments, options).unwrap_err())
        };
        assert_eq!(begun("", &options).unwrap(), Some(false));
        assert_eq!(begun("--resume", &options).unwrap(), Some(true));

        fs::write(path.join(CHECKPOINT_FILE), "").unwrap();
        assert!(message("", &options).contains("--resume continues it"));
        assert_eq!(begun("--resume", &options).unwrap(), Some(true));
        assert_eq!(begun("--overwrite", &options).unwrap(), Some(false));
        assert!(
            path.join(CHECKPOINT_FILE).exists(),
            "until a new one is whole"
        );
        fs::remove_file(path.join(CHECKPOINT_FILE)).unwrap();

        fs::write(path.join(MODEL_FILE), "").unwrap();
        assert!(message("--resume", &options).contains("does not tell"));
        let json = serde_json::to_string(&options).unwrap();
        fs::write(path.join(OPTIONS_FILE), json).unwrap();
        assert_eq!(begun("--resume", &options).unwrap(), None);
        assert_eq!(begun("", &options).unwrap(), Some(false));
        let other = TrainOptions {
            epochs: 99,
            threads: 7,
            ..options
        };
        let told = message("--resume", &other);
        assert!(
            told.contains("other options: epochs was 12 and is 99; without"),
            "{told}"
        );
        assert!(message("--checkpoint-minutes 0", &other).contains("is 0, expected"));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_has_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        let error = FolderLock::take(folder.path()).err().unwrap().to_string();
        assert!(error.contains("another run writes to"), "{error}");
        drop(lock);
        FolderLock::take(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn lengths_of_time_have_units() {
        for (text, seconds) in [
            ("20m", 1200),
            ("1h30m", 5400),
            ("45s", 45),
            ("2h", 7200),
            ("1h2m3s", 3723),
        ] {
            assert_eq!(text.parse::<Length>().unwrap(), Length(seconds), "{text}");
        }
        for wrong in [
            "",
            "20",
            "m",
            "1m1h",
            "1.5h",
            "0s",
            "-1m",
            "5 m",
            "99999999999999999999h",
        ] {
            let message = wrong.parse::<Length>().unwrap_err().to_string();
            assert!(message.contains("no length of time"), "{wrong}");
        }
    }
}
