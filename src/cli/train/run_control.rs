//! How long a run goes on, and what becomes of a run that was stopped: the options.

use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use clap::{Args, ValueEnum};

use super::MODEL_FILE;
use crate::training::checkpoint::CheckpointFile;
use crate::training::options::TrainOptions;
use crate::training::watch::{EarlyStopping, Monitor};

/// Name of the checkpoint in the output folder.
const CHECKPOINT_FILE: &str = "training.checkpoint";
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
    /// Be over after so long, such as 20m or 1h30m: as many epochs as fit, and no more than --epochs
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
    /// A run, from the checkpoint in this file if there is one.
    Run(CheckpointFile),
    /// Nothing: the run is finished.
    Finished,
}

impl RunArgs {
    pub(super) fn apply(&self, options: &mut TrainOptions) {
        if let Some(Length(seconds)) = self.time_budget {
            options.time_budget = Some(seconds);
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

    /// Looks at what is in the output folder.
    ///
    /// # Errors
    /// When there is an unfinished run and nothing was said about it.
    pub(super) fn begin(&self, folder: &Path) -> Result<Beginning> {
        let seconds = self.checkpoint_minutes * 60.0;
        ensure!(
            seconds > 0.0,
            "--checkpoint-minutes is {}, expected a number above 0",
            self.checkpoint_minutes
        );
        let file = CheckpointFile {
            path: folder.join(CHECKPOINT_FILE),
            interval: Duration::try_from_secs_f64(seconds)
                .context("--checkpoint-minutes is too large")?,
        };
        let is_unfinished = file.path.exists();
        match (is_unfinished, self.resume, self.overwrite) {
            (true, false, false) => bail!(
                "{} holds an unfinished run: --resume continues it, --overwrite throws it away",
                folder.display()
            ),
            (true, _, true) => remove(&file)?,
            (false, true, _) if folder.join(MODEL_FILE).exists() => {
                tracing::info!(
                    "nothing to do: the run in {} is finished; without --resume it is done again",
                    folder.display()
                );
                return Ok(Beginning::Finished);
            }
            _ => {}
        }
        Ok(Beginning::Run(file))
    }
}

/// Removes the checkpoint of a run that needs none any more.
pub(super) fn remove(file: &CheckpointFile) -> Result<()> {
    match fs::remove_file(&file.path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", file.path.display()))
        }
        _ => Ok(()),
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
    use super::*;

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
