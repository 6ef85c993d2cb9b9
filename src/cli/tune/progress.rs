//! What a search shows: a line for each training that has ended and, on a terminal, one that moves for the one under way.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::training::events::Event;
use crate::tune::records::{Record, Status};
use crate::tune::run::News;

/// Shows the news of a search on stderr.
pub(super) struct Progress {
    bar: ProgressBar,
    is_quiet: bool,
    /// `trial 3, rung 0`, while it is trained.
    current: String,
    epochs: usize,
    epoch: usize,
}

impl Progress {
    pub(super) fn new(is_quiet: bool) -> Self {
        let target = match !is_quiet && std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {wide_msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            is_quiet,
            current: String::new(),
            epochs: 0,
            epoch: 0,
        }
    }

    /// Never fails: a search must not end because nobody can watch it.
    pub(super) fn show(&mut self, news: &News<'_>) {
        match news {
            News::Resumed { trainings, seconds } => self.say(&format!(
                "going on after {trainings} trainings that took {}",
                duration(*seconds)
            )),
            News::Started {
                trial,
                rung,
                epochs,
                ..
            } => {
                self.current = format!("trial {trial}, rung {rung}");
                self.epochs = *epochs;
                self.epoch = 0;
                self.bar.set_message(self.current.clone());
            }
            News::Training(Event::EpochStarted { epoch }) => self.epoch = *epoch,
            News::Training(Event::StepDone {
                step, steps, loss, ..
            }) => {
                self.bar.set_message(format!(
                    "{}: epoch {} of {}, step {step} of {steps}, loss {loss:.3}",
                    self.current, self.epoch, self.epochs
                ));
            }
            News::Training(Event::Warning(message)) => {
                self.bar.suspend(|| tracing::warn!("{message}"));
            }
            News::Training(_) => {}
            News::Done {
                record,
                best,
                seconds_left,
            } => self.say(&line(record, *best, *seconds_left)),
        }
    }

    fn say(&self, line: &str) {
        if !self.is_quiet {
            self.bar.suspend(|| tracing::info!("{line}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `trial 4, rung 1: 0.9123 in 6 epochs, 41 s (seed 48 96 …); best 0.9201 by trial 2; 31m left`
fn line(record: &Record, best: Option<&Record>, seconds_left: Option<f64>) -> String {
    let result = match (record.status, record.validation_accuracy) {
        (Status::Ok, Some(accuracy)) => format!("{accuracy:.4}"),
        _ => format!("{} ({})", record.status.name(), record.message),
    };
    let best = best.map_or(String::new(), |best| {
        format!(
            "; best {:.4} by trial {} in {}",
            best.validation_accuracy.unwrap_or_default(),
            best.trial,
            epochs(best.epochs)
        )
    });
    let left = seconds_left.map_or(String::new(), |left| format!("; {} left", duration(left)));
    format!(
        "trial {}, rung {}: {result} after {}, {}: {}{best}{left}",
        record.trial,
        record.rung,
        epochs(record.epochs),
        duration(record.seconds),
        what(record)
    )
}

pub(super) fn epochs(count: usize) -> String {
    match count {
        1 => "1 epoch".to_owned(),
        count => format!("{count} epochs"),
    }
}

/// The hyper-parameters that say most, in a few words.
fn what(record: &Record) -> String {
    let values = record.hyper_parameters();
    let value = |name: &str| {
        let found = values.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let normalised = match value("batch_norm") {
        "true" => " with batch norm",
        _ => "",
    };
    format!(
        "{} {}{normalised}, {} at {}",
        value("network"),
        value("filters").replace(' ', ","),
        value("optimizer"),
        value("learning_rate")
    )
}

fn duration(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
