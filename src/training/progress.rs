//! Shows the events of a training run on stderr: a progress bar on a terminal, plain log lines elsewhere.
//!
//! Text that stays goes through `tracing`, whose subscriber decides on its form; only the moving bar is drawn here.

mod lines;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::lines::{
    accuracy_figures, epoch_line, epoch_name, planned_epochs, resumed_line, run_done_line,
    run_start_line, step_figures,
};
use super::events::Event;

/// Where plain lines go when an epoch takes long: at most one in this time.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

/// How the events of a run are shown.
#[derive(Debug)]
pub enum Renderer {
    /// A bar that moves, and a line per epoch above it.
    Terminal(TerminalProgress),
    /// A line per epoch, and one every half minute inside a long one.
    Plain(PlainProgress),
    /// Only warnings.
    Quiet,
}

impl Renderer {
    /// A progress bar on stderr.
    pub fn terminal() -> Self {
        Self::Terminal(TerminalProgress::new(ProgressDrawTarget::stderr()))
    }

    /// Plain lines.
    pub fn plain() -> Self {
        Self::Plain(PlainProgress::default())
    }

    /// Only warnings.
    pub fn quiet() -> Self {
        Self::Quiet
    }

    /// A progress bar where stderr is a terminal, plain lines elsewhere.
    pub fn for_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self::terminal()
        } else {
            Self::plain()
        }
    }

    /// Shows one event. Never fails: a run must not end because nobody can watch it.
    pub fn render(&mut self, event: &Event) {
        match self {
            Self::Terminal(progress) => progress.render(event),
            Self::Plain(progress) => progress.render(event),
            Self::Quiet => {
                if let Event::Warning(message) = event {
                    tracing::warn!("{message}");
                }
            }
        }
    }
}

/// The state behind a progress bar.
#[derive(Debug)]
pub struct TerminalProgress {
    bar: ProgressBar,
    steps_per_epoch: usize,
    /// Epochs of the run, where that is known.
    epochs: Option<usize>,
    pace: Pace,
    accuracies: Vec<f64>,
}

impl TerminalProgress {
    fn new(target: ProgressDrawTarget) -> Self {
        Self {
            bar: ProgressBar::with_draw_target(Some(1), target)
                .with_style(style())
                .with_message("starting"),
            steps_per_epoch: 0,
            epochs: None,
            pace: Pace::default(),
            accuracies: Vec::new(),
        }
    }

    fn render(&mut self, event: &Event) {
        match event {
            Event::RunStarted(run) => {
                // Nothing is drawn yet, so nothing is in the line's way, and the bar's first sight shall not be an empty one.
                tracing::info!("{}", run_start_line(run));
                self.epochs = planned_epochs(run);
                self.steps_per_epoch = run.steps_per_epoch;
                self.bar.set_prefix(epoch_name(1, self.epochs));
                let most = run.epochs.saturating_mul(run.steps_per_epoch);
                self.bar.set_length(most as u64);
                self.bar.set_position(0);
                self.bar.reset_elapsed();
                self.bar.reset_eta();
            }
            Event::Resumed {
                epoch,
                step,
                accuracies,
            } => {
                self.accuracies.clone_from(accuracies);
                self.bar
                    .suspend(|| tracing::info!("{}", resumed_line(*epoch, *step)));
                let behind = epoch.saturating_sub(1) * self.steps_per_epoch + step;
                self.bar.set_position(behind as u64);
                // What an earlier run did says nothing about the pace of this one.
                self.bar.tick();
                self.bar.reset_eta();
            }
            Event::Planned { epochs, steps } => {
                self.epochs = Some(*epochs);
                self.bar.set_length(*steps);
                self.bar
                    .set_prefix(epoch_name(self.pace.epoch.max(1), self.epochs));
            }
            Event::EpochStarted { epoch } => {
                self.pace.start(*epoch);
                self.bar.set_prefix(epoch_name(*epoch, self.epochs));
            }
            Event::StepDone {
                step,
                steps,
                loss,
                learning_rate,
                images,
            } => {
                let images_per_second = self.pace.add(*images);
                let figures = step_figures(*step, *steps, *loss, *learning_rate, images_per_second);
                let accuracies = accuracy_figures(&self.accuracies);
                self.bar.set_message(figures + &accuracies);
                let behind = self.pace.epoch.saturating_sub(1) * steps;
                self.bar.set_position((behind + step) as u64);
            }
            Event::EpochDone(epoch) => {
                self.accuracies.push(epoch.validation_accuracy);
                self.bar
                    .suspend(|| tracing::info!("{}", epoch_line(epoch, self.epochs)));
            }
            Event::FeaturesDone { done, total } => {
                self.bar.set_prefix("features");
                self.bar.set_length(*total as u64);
                self.bar.set_position(*done as u64);
                self.bar
                    .set_message(format!("{done} of {total} images and variants"));
            }
            Event::Note(message) => self.bar.suspend(|| tracing::info!("{message}")),
            Event::Warning(message) => self.bar.suspend(|| tracing::warn!("{message}")),
            Event::RunDone(run) => {
                self.bar.finish_and_clear();
                tracing::info!("{}", run_done_line(run));
            }
        }
    }
}

/// The state behind plain lines.
#[derive(Debug, Default)]
pub struct PlainProgress {
    /// Epochs of the run, where that is known.
    epochs: Option<usize>,
    pace: Pace,
    last_line: Option<Instant>,
}

impl PlainProgress {
    fn render(&mut self, event: &Event) {
        match event {
            Event::RunStarted(run) => {
                self.epochs = planned_epochs(run);
                tracing::info!("{}", run_start_line(run));
            }
            Event::Resumed { epoch, step, .. } => {
                tracing::info!("{}", resumed_line(*epoch, *step));
            }
            Event::Planned { epochs, .. } => self.epochs = Some(*epochs),
            Event::EpochStarted { epoch } => {
                self.pace.start(*epoch);
                self.last_line.get_or_insert_with(Instant::now);
            }
            Event::StepDone {
                step,
                steps,
                loss,
                learning_rate,
                images,
            } => {
                let images_per_second = self.pace.add(*images);
                if self
                    .last_line
                    .is_none_or(|last| last.elapsed() >= BETWEEN_LINES)
                {
                    let figures =
                        step_figures(*step, *steps, *loss, *learning_rate, images_per_second);
                    tracing::info!("{}, {figures}", epoch_name(self.pace.epoch, self.epochs));
                    self.last_line = Some(Instant::now());
                }
            }
            Event::EpochDone(epoch) => {
                tracing::info!("{}", epoch_line(epoch, self.epochs));
                self.last_line = Some(Instant::now());
            }
            Event::FeaturesDone { done, total } => {
                let is_time = |last: Instant| last.elapsed() >= BETWEEN_LINES;
                if self.last_line.is_none_or(is_time) || done == total {
                    tracing::info!("features of {done} of {total} images and variants");
                    self.last_line = Some(Instant::now());
                }
            }
            Event::Note(message) => tracing::info!("{message}"),
            Event::Warning(message) => tracing::warn!("{message}"),
            Event::RunDone(run) => tracing::info!("{}", run_done_line(run)),
        }
    }
}

/// Images per second since the epoch started.
#[derive(Debug, Default)]
struct Pace {
    epoch: usize,
    images: usize,
    since: Option<Instant>,
}

impl Pace {
    fn start(&mut self, epoch: usize) {
        *self = Self {
            epoch,
            images: 0,
            since: Some(Instant::now()),
        };
    }

    /// Counts images and gives the rate so far; 0 where no time has passed.
    fn add(&mut self, images: usize) -> f64 {
        self.images += images;
        let seconds = self
            .since
            .get_or_insert_with(Instant::now)
            .elapsed()
            .as_secs_f64();
        if seconds > 0.0 {
            self.images as f64 / seconds
        } else {
            0.0
        }
    }
}

/// The bar counts the steps of the whole run, so that the time left is that of the run.
fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} {wide_bar} {eta} left\n{wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;
    use insta::assert_snapshot;

    use super::*;
    use crate::training::events::{EpochSummary, RunStart, RunSummary};

    /// A terminal of 100 columns that remembers everything that was written.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A log that remembers its lines.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(renderer: &mut Renderer, events: &[Event]) -> String {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            events.iter().for_each(|event| renderer.render(event))
        });
        let bytes = log.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn run() -> Vec<Event> {
        let epoch = |epoch, is_best| {
            Event::EpochDone(EpochSummary {
                epoch,
                train_loss: 0.61234,
                train_accuracy: 0.8825,
                validation_loss: 0.4,
                validation_accuracy: 0.871,
                learning_rate: 1e-3,
                seconds: 12.34,
                images_per_second: 4861.7,
                is_best,
            })
        };
        let step = |step| Event::StepDone {
            step,
            steps: 2,
            loss: 0.65432,
            learning_rate: 1e-3,
            images: 128,
        };
        vec![
            Event::RunStarted(RunStart {
                epochs: 2,
                time_budget: None,
                steps_per_epoch: 2,
                batch_size: 128,
                train_images: 300,
                epoch_images: None,
                validation_images: 100,
                classes: 10,
                device: "cpu".to_owned(),
                formulation: "portable operators (as asked)".to_owned(),
            }),
            Event::EpochStarted { epoch: 1 },
            step(1),
            Event::Warning("an image is blank".to_owned()),
            step(2),
            epoch(1, true),
            Event::EpochStarted { epoch: 2 },
            step(1),
            step(2),
            epoch(2, false),
            Event::RunDone(RunSummary {
                epochs: 2,
                best_epoch: 1,
                best_accuracy: 0.871,
                seconds: 25.0,
                stopped: false,
            }),
        ]
    }

    #[test]
    fn plain_lines() {
        assert_snapshot!(logged(&mut Renderer::plain(), &run()), @r"
        INFO training on cpu: 300 images of 10 classes, 100 to validate, 2 epochs of 2 steps of 128 images, portable operators (as asked)
        WARN an image is blank
        INFO epoch 1/2: train loss 0.6123, validation loss 0.4000, accuracy 0.8710, gap +0.0115, rate 1.00e-3, 4862 images/s, 12.3 s, best so far
        INFO epoch 2/2: train loss 0.6123, validation loss 0.4000, accuracy 0.8710, gap +0.0115, rate 1.00e-3, 4862 images/s, 12.3 s
        INFO done after 2 epochs in 25.0 s: best is epoch 1 with accuracy 0.8710
        ");
    }

    #[test]
    fn plain_lines_inside_a_long_epoch() {
        let mut progress = PlainProgress::default();
        let events = run();
        let mut renderer = {
            events[..2].iter().for_each(|event| progress.render(event));
            progress.last_line = Instant::now().checked_sub(BETWEEN_LINES);
            Renderer::Plain(progress)
        };
        let log = logged(&mut renderer, &events[2..3]);
        assert!(
            log.contains("epoch 1/2, step 1/2, loss 0.654, rate 1.00e-3, "),
            "{log}"
        );
        assert_eq!(
            logged(&mut renderer, &events[2..3]),
            "",
            "the next one waits again"
        );
    }

    #[test]
    fn quiet_still_warns() {
        assert_snapshot!(logged(&mut Renderer::quiet(), &run()), @"WARN an image is blank");
    }

    #[test]
    fn terminal_shows_the_bar_and_logs_the_same_lines() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let mut renderer = Renderer::Terminal(TerminalProgress::new(target));
        assert_eq!(
            logged(&mut renderer, &run()),
            logged(&mut Renderer::plain(), &run())
        );
        let drawn = screen.0.lock().unwrap().clone();
        assert!(drawn.contains("epoch 1/2 "), "{drawn}");
        assert!(
            drawn.contains("step 1/2, loss 0.654, rate 1.00e-3, "),
            "{drawn}"
        );
        assert!(drawn.contains(" left"), "{drawn}");
        assert!(drawn.contains(", accuracy 0.8710 ▄"), "{drawn}");
    }

    #[test]
    fn a_resumed_run_shows_the_epochs_before_and_one_with_a_budget_no_number_it_does_not_know() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let mut renderer = Renderer::Terminal(TerminalProgress::new(target));
        let mut events = run();
        if let Some(Event::RunStarted(start)) = events.first_mut() {
            start.time_budget = Some(60);
        }
        let resumed = Event::Resumed {
            epoch: 2,
            step: 1,
            accuracies: vec![0.5],
        };
        let planned = Event::Planned {
            epochs: 3,
            steps: 5,
        };
        let [epoch, step] = [events[6].clone(), events[8].clone()];
        let log = logged(
            &mut renderer,
            &[
                events[0].clone(),
                resumed,
                epoch.clone(),
                step,
                planned,
                events[9].clone(),
            ],
        );
        assert_snapshot!(log, @r"
        INFO training on cpu: 300 images of 10 classes, 100 to validate, what fits into 60 s of epochs of 2 steps of 128 images, portable operators (as asked)
        INFO continuing in epoch 2 after 1 of its steps
        INFO epoch 2/3: train loss 0.6123, validation loss 0.4000, accuracy 0.8710, gap +0.0115, rate 1.00e-3, 4862 images/s, 12.3 s
        ");
        let drawn = screen.0.lock().unwrap().clone();
        assert!(drawn.contains("epoch 2 "), "{drawn}");
        assert!(drawn.contains(", accuracy 0.5000 ▄"), "{drawn}");
    }

    #[test]
    fn events_out_of_order_do_no_harm() {
        for mut renderer in [Renderer::plain(), Renderer::quiet(), Renderer::terminal()] {
            let mut events = run();
            events.reverse();
            logged(&mut renderer, &events);
        }
    }

    #[test]
    fn a_run_stopped_at_once_says_so() {
        let run = RunSummary {
            epochs: 0,
            best_epoch: 0,
            best_accuracy: 0.0,
            seconds: 1.0,
            stopped: true,
        };
        assert_eq!(
            run_done_line(&run),
            "stopped after 1.0 s, before an epoch was finished"
        );
    }
}
