//! Log lines on stderr: plain sentences for people, or JSON objects.
//!
//! Results do not pass here: they go to stdout. A full or closed stderr loses lines and nothing else.

use std::fmt;
use std::io::{self, Write};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, SubscriberBuilder};
use tracing_subscriber::registry::LookupSpan;

use super::GlobalArgs;

/// Starts logging as the options ask.
pub(super) fn start(options: &GlobalArgs) {
    let logger = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives(options)))
        .with_writer(|| Stderr);
    let logger = logger.log_internal_errors(false);
    if options.json_log {
        install(logger.json().flatten_event(true).finish());
    } else {
        install(plain(logger));
    }
}

fn plain<W>(
    logger: SubscriberBuilder<
        tracing_subscriber::fmt::format::DefaultFields,
        tracing_subscriber::fmt::format::Format,
        EnvFilter,
        W,
    >,
) -> impl Subscriber + Send + Sync
where
    W: for<'writer> tracing_subscriber::fmt::MakeWriter<'writer> + Send + Sync + 'static,
{
    logger.with_ansi(false).event_format(Sentence).finish()
}

fn install(subscriber: impl Subscriber + Send + Sync) {
    // A second start in one process keeps the first logger.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Which messages are wanted: the program's own at one level, those of libraries at a sparser one, and those of ONNX Runtime not at
/// all without `-v`: it logs each error that it also returns, even one that the program mends, such as too large a batch.
fn directives(options: &GlobalArgs) -> &'static str {
    match (options.quiet, options.verbose) {
        (true, _) => "error,ort=off,catalog=warn,catalog_pipeline=warn,pipeline=warn",
        (false, 0) => "error,ort=off,catalog=info,catalog_pipeline=info,pipeline=info",
        (false, 1) => "warn,catalog=debug,catalog_pipeline=debug,pipeline=debug",
        (false, _) => "debug,catalog=trace,catalog_pipeline=trace,pipeline=trace",
    }
}

/// A message as a line that a person reads: its level in front where that matters, no time, no module.
struct Sentence;

impl<S, N> FormatEvent<S, N> for Sentence
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            Level::INFO => "",
            Level::DEBUG => "debug: ",
            Level::TRACE => "trace: ",
        })?;
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Standard error that never fails: a line that cannot be written is dropped.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().lock().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn options(quiet: bool, verbose: u8) -> GlobalArgs {
        GlobalArgs {
            quiet,
            verbose,
            json_log: false,
            onnxruntime: None,
            offline: false,
            cache: None,
        }
    }

    fn logged(options: &GlobalArgs) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let logger = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(directives(options)))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(plain(logger), || {
            tracing::error!(target: "catalog::training", "no such folder");
            tracing::warn!(target: "catalog::dataset", "2 files skipped");
            tracing::info!(target: "catalog::runtime", files = 3, "fetching");
            tracing::debug!(target: "catalog_pipeline::walk", "walking");
            tracing::warn!(target: "ort::logging", "a node was moved");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_sentences() {
        assert_eq!(
            logged(&options(false, 0)),
            "error: no such folder\nwarning: 2 files skipped\nfetching files=3\n"
        );
    }

    #[test]
    fn quiet_and_verbose_choose_the_lines() {
        assert_eq!(
            logged(&options(true, 0)),
            "error: no such folder\nwarning: 2 files skipped\n"
        );
        let verbose = logged(&options(false, 1));
        assert!(
            verbose.contains("debug: walking\n") && verbose.contains("warning: a node was moved\n"),
            "{verbose}"
        );
    }
}
