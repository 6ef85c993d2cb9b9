//! What a signal does: the first one asks a run to stop where it leaves things whole, the second ends the program at once.
//!
//! Everything happens in handlers that only set flags, so nothing here can dead-lock or print. A run looks at the flag between
//! two steps and says itself what it leaves behind.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts;
use signal_hook::flag;

/// The signals that ask for an end.
#[cfg(unix)]
const STOPPING: &[i32] = &[consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
#[cfg(not(unix))]
const STOPPING: &[i32] = &[consts::SIGINT, consts::SIGTERM];

/// What a shell reports for a program that a signal ended is this plus the signal's number.
const EXIT_BASE: i32 = 128;

/// Whether a signal has asked the run to stop, and which.
pub(super) struct Stop {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Listens from now on. A signal that was ignored when the program started, as SIGHUP is under `nohup`, stays ignored.
    pub(super) fn listen() -> Result<Self> {
        let stop = Self {
            asked: Arc::new(AtomicBool::new(false)),
            signal: Arc::new(AtomicUsize::new(0)),
        };
        let ignored = ignored_signals();
        for &signal in STOPPING {
            if ignored & bit(signal) == 0 {
                stop.listen_to(signal)
                    .with_context(|| format!("cannot listen to signal {signal}"))?;
            }
        }
        Ok(stop)
    }

    /// Handlers run in the order in which they are registered: the second signal ends the program before it sets anything.
    fn listen_to(&self, signal: i32) -> std::io::Result<()> {
        flag::register_conditional_shutdown(signal, EXIT_BASE + signal, Arc::clone(&self.asked))?;
        flag::register_usize(
            signal,
            Arc::clone(&self.signal),
            usize::try_from(signal).unwrap_or_default(),
        )?;
        flag::register(signal, Arc::clone(&self.asked))?;
        Ok(())
    }

    /// Set once a signal has come; a run stops when it sees that.
    pub(super) fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// Whether a signal has come.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// What the program ends with after a stop: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP.
    pub(super) fn exit_code(&self) -> ExitCode {
        exit_code(self.signal.load(Ordering::Relaxed))
    }
}

/// SIGINT's where it is not known which signal it was.
fn exit_code(signal: usize) -> ExitCode {
    let code = i32::try_from(signal)
        .ok()
        .filter(|&signal| signal > 0)
        .map_or(EXIT_BASE + consts::SIGINT, |signal| EXIT_BASE + signal);
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Makes a write beyond the file-size limit (`ulimit -f`) fail like any other write, instead of killing the program.
pub(super) fn survive_file_size_limit() {
    // Any handler does: with one, the write returns an error, which is reported where it happens.
    #[cfg(unix)]
    if let Err(error) = flag::register(consts::SIGXFSZ, Arc::new(AtomicBool::new(false))) {
        tracing::debug!("the signal of the file-size limit cannot be handled: {error}");
    }
}

/// The mask of signals that are ignored in this process; empty where the system does not tell it in a file.
fn ignored_signals() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .map(|status| ignored_in(&status))
        .unwrap_or_default()
}

/// Signal n is bit n − 1 of the line `SigIgn`.
fn ignored_in(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

fn bit(signal: i32) -> u64 {
    u32::try_from(signal - 1)
        .ok()
        .and_then(|place| 1_u64.checked_shl(place))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_the_signal() {
        assert_eq!(exit_code(2), ExitCode::from(130));
        assert_eq!(exit_code(15), ExitCode::from(143));
        assert_eq!(exit_code(1), ExitCode::from(129));
        assert_eq!(exit_code(0), ExitCode::from(130));
    }

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status =
            "Name:\tcatalog\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        let mask = ignored_in(status);
        assert_ne!(mask & bit(1), 0, "SIGHUP, as under nohup");
        assert_ne!(mask & bit(13), 0, "SIGPIPE, as in every Rust program");
        assert_eq!(mask & (bit(2) | bit(15)), 0);
        assert_eq!(ignored_in("no such line"), 0);
        assert_eq!(bit(0) | bit(-1) | bit(200), 0);
    }
}
