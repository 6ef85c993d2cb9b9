//! Bounded channels that know how much waits in them, and several of them side by side that keep the order.

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

/// Gives values to several channels in turn.
pub(super) struct Deal<T> {
    senders: Vec<Sender<T>>,
    next: usize,
}

impl<T> Deal<T> {
    /// Over these channels, of which there is at least one.
    pub(super) fn new(senders: Vec<Sender<T>>) -> Self {
        Self { senders, next: 0 }
    }

    /// Waits until there is room in the channel whose turn it is.
    pub(super) fn send(&mut self, value: T) -> Result<(), SendError<T>> {
        self.senders[self.next].send(value)?;
        self.next = (self.next + 1) % self.senders.len();
        Ok(())
    }
}

/// Takes values from several channels in turn: what [`Deal`] gave to whoever fills them, in the order in which it did.
pub(super) struct Collect<T> {
    receivers: Vec<Receiver<T>>,
    next: usize,
}

impl<T> Collect<T> {
    /// From these channels, of which there is at least one.
    pub(super) fn new(receivers: Vec<Receiver<T>>) -> Self {
        Self { receivers, next: 0 }
    }

    /// Waits for the channel whose turn it is; once that is closed there is nothing more in any.
    pub(super) fn recv(&mut self) -> Result<T, RecvError> {
        let value = self.receivers[self.next].recv()?;
        self.next = (self.next + 1) % self.receivers.len();
        Ok(value)
    }

    /// As [`Receiver::mean_depth`], over all channels.
    pub(super) fn mean_depth(&self) -> f64 {
        let sum = |part: fn(&Receiver<T>) -> u64| self.receivers.iter().map(part).sum::<u64>();
        sum(|receiver| receiver.found) as f64 / sum(|receiver| receiver.taken).max(1) as f64
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

    #[test]
    fn what_is_dealt_out_is_collected_in_order() {
        let (senders, receivers) = (0..3).map(|_| bounded(2)).unzip();
        let (mut deal, mut collect) = (Deal::new(senders), Collect::new(receivers));
        for value in 0..5 {
            deal.send(value).unwrap();
        }
        drop(deal);
        for value in 0..5 {
            assert_eq!(collect.recv(), Ok(value));
        }
        assert_eq!(collect.recv(), Err(RecvError));
        // Two channels had two values at first, the third had one.
        assert_eq!(collect.mean_depth(), (2.0 + 2.0 + 1.0 + 1.0 + 1.0) / 5.0);
    }
}
