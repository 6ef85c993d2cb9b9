//! A line in the log now and then while many images are worked on, so that nobody takes a long silence for the end.

use std::time::{Duration, Instant};

/// How long nothing is said.
const QUIET: Duration = Duration::from_secs(10);

/// Counts images, and tells how far it has come.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// `decoded`
    what: &'static str,
    done: usize,
    total: usize,
    started: Instant,
    told: Instant,
}

impl Pulse {
    /// Of so many images that are going to be `what`, none is yet.
    pub(crate) fn new(what: &'static str, total: usize) -> Self {
        let now = Instant::now();
        Self {
            what,
            done: 0,
            total,
            started: now,
            told: now,
        }
    }

    /// So many more images are done.
    pub(crate) fn add(&mut self, images: usize) {
        if let Some(line) = self.add_at(images, Instant::now()) {
            tracing::info!("{line}");
        }
    }

    /// What there is to say at this time; nothing of the end, since what comes next tells of it.
    fn add_at(&mut self, images: usize, now: Instant) -> Option<String> {
        self.done += images;
        if now.duration_since(self.told) < QUIET || self.done == self.total {
            return None;
        }
        self.told = now;
        let rate = self.done as f64 / now.duration_since(self.started).as_secs_f64();
        Some(format!(
            "{} {} of {} images, {rate:.0} images/s",
            self.what, self.done, self.total
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_now_and_then_says_how_far_and_how_fast() {
        let mut pulse = Pulse::new("decoded", 50_000);
        let start = pulse.started;
        let mut add = |images, seconds| pulse.add_at(images, start + Duration::from_secs(seconds));
        assert_eq!(add(10_000, 8), None);
        let line = add(8_000, 12).unwrap();
        assert_eq!(line, "decoded 18000 of 50000 images, 1500 images/s");
        assert_eq!(add(2_000, 21), None);
        let line = add(4_000, 24).unwrap();
        assert_eq!(line, "decoded 24000 of 50000 images, 1000 images/s");
        assert_eq!(add(26_000, 60), None);
    }
}
