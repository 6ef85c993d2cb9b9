//! Bounded channels that know how much waits in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvError, SendError, SyncSender};

/// A channel in which `capacity` values wait at most.
pub(super) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::sync_channel(capacity);
    let waiting = Arc::new(AtomicUsize::new(0));
    let receiver = Receiver {
        receiver,
        waiting: Arc::clone(&waiting),
        taken: 0,
        found: 0,
    };
    (Sender { sender, waiting }, receiver)
}

pub(super) struct Sender<T> {
    sender: SyncSender<T>,
    waiting: Arc<AtomicUsize>,
}

impl<T> Sender<T> {
    /// Waits until there is room.
    pub(super) fn send(&self, value: T) -> Result<(), SendError<T>> {
        // Counted first: what waits for room waits as well.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.sender.send(value)
    }
}

pub(super) struct Receiver<T> {
    receiver: mpsc::Receiver<T>,
    waiting: Arc<AtomicUsize>,
    /// Values taken so far.
    taken: u64,
    /// What was waiting when each of them was taken, itself included, added up.
    found: u64,
}

impl<T> Receiver<T> {
    /// Waits until there is a value.
    pub(super) fn recv(&mut self) -> Result<T, RecvError> {
        let value = self.receiver.recv()?;
        self.taken += 1;
        self.found += self.waiting.fetch_sub(1, Ordering::Relaxed) as u64;
        Ok(value)
    }

    /// Mean number of values that were waiting when one was taken, itself included: 1 where each is awaited, one more than the
    /// capacity where there is always another that waits for room.
    pub(super) fn mean_depth(&self) -> f64 {
        self.found as f64 / self.taken.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_depth_is_what_waited() {
        let (sender, mut receiver) = bounded(2);
        assert_eq!(receiver.mean_depth(), 0.0);
        sender.send('a').unwrap();
        sender.send('b').unwrap();
        assert_eq!(receiver.recv(), Ok('a'));
        assert_eq!(receiver.recv(), Ok('b'));
        assert_eq!(receiver.mean_depth(), 1.5);
        drop(sender);
        assert_eq!(receiver.recv(), Err(RecvError));
        assert_eq!(receiver.mean_depth(), 1.5);
    }
}
