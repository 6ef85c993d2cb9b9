//! How many bytes all decoders together may hold at a time.
//!
//! Nothing here waits: who gets no room comes back later, when the others are through. So threads that compute never block.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number of bytes that is shared by everything that decodes.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: u64,
    held: AtomicU64,
    peak: AtomicU64,
}

/// Bytes taken from a budget; dropping them gives them back.
#[derive(Debug)]
pub struct Held<'a> {
    budget: &'a MemoryBudget,
    bytes: u64,
}

impl MemoryBudget {
    /// A budget of `limit` bytes, all of it free.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        }
    }

    /// Takes `bytes`, or nothing where there is not that much left.
    pub fn take(&self, bytes: u64) -> Option<Held<'_>> {
        let more = |held: u64| {
            held.checked_add(bytes)
                .filter(|&together| together <= self.limit)
        };
        let before = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        self.peak.fetch_max(before + bytes, Ordering::Relaxed);
        Some(Held {
            budget: self,
            bytes,
        })
    }

    /// All there is, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The most that was ever held, in bytes.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_is_given_out_and_all_of_it_comes_back() {
        let budget = MemoryBudget::new(10);
        let first = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        let second = budget.take(4).unwrap();
        assert!(budget.take(1).is_none());
        assert!(budget.take(u64::MAX).is_none());
        drop(first);
        let third = budget.take(6).unwrap();
        drop((second, third));
        assert!(budget.take(10).is_some());
        assert_eq!((budget.peak(), budget.limit()), (10, 10));
    }
}
