//! Progress of a run: a moving line on a terminal, a plain line now and then otherwise.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pipeline::classify::{Event, SkipReason};

use crate::cli::GlobalArgs;

/// How long nothing is said where there is no terminal.
const QUIET: Duration = Duration::from_secs(10);

/// Shows a run's events; chosen once, at the start.
pub(super) struct Progress {
    renderer: Renderer,
    started: Instant,
}

enum Renderer {
    Terminal(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    /// A moving line where stderr is a terminal and a person reads it.
    pub(super) fn new(global: &GlobalArgs) -> Self {
        let started = Instant::now();
        let renderer = if io::stderr().is_terminal() && !global.quiet && !global.json_log {
            let bar = ProgressBar::new_spinner();
            // How many files there will be is not known: the walk goes on while images are classified.
            let style = ProgressStyle::with_template("{spinner} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            Renderer::Terminal(bar.with_style(style))
        } else {
            Renderer::Lines { last: started }
        };
        Self { renderer, started }
    }

    /// Shows one event.
    pub(super) fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Continuing { stopped, previous } => {
                let what = match (stopped, previous) {
                    (true, _) => "going on where the last run was stopped",
                    (false, _) => "taking the labels of unchanged files from the last run",
                };
                let tell = || tracing::info!("{what}; --overwrite starts anew");
                match &self.renderer {
                    Renderer::Terminal(bar) => bar.suspend(tell),
                    Renderer::Lines { .. } => tell(),
                }
            }
            Event::Skipped { path, reason } => {
                let tell = || match reason {
                    SkipReason::UnreadableFolder(_) => {
                        tracing::warn!("{}: {reason}", path.display())
                    }
                    _ => tracing::debug!("{}: {reason}", path.display()),
                };
                match &self.renderer {
                    Renderer::Terminal(bar) => bar.suspend(tell),
                    Renderer::Lines { .. } => tell(),
                }
            }
            Event::Progress { rows, not_ok } => {
                let message = message(*rows, *not_ok, self.started.elapsed());
                match &mut self.renderer {
                    Renderer::Terminal(bar) => {
                        bar.set_message(message);
                        bar.tick();
                    }
                    Renderer::Lines { last } if last.elapsed() >= QUIET => {
                        *last = Instant::now();
                        tracing::info!("{message}");
                    }
                    Renderer::Lines { .. } => {}
                }
            }
        }
    }

    /// Takes the moving line away.
    pub(super) fn finish(self) {
        if let Renderer::Terminal(bar) = self.renderer {
            bar.finish_and_clear();
        }
    }
}

fn message(rows: u64, not_ok: u64, elapsed: Duration) -> String {
    let speed = rows as f64 / elapsed.as_secs_f64().max(1e-3);
    format!("{rows} images, {not_ok} not ok, {speed:.0} images/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_many_and_how_fast() {
        assert_eq!(
            message(300, 2, Duration::from_secs(2)),
            "300 images, 2 not ok, 150 images/s"
        );
    }
}
