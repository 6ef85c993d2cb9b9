//! Spreading independent pieces of work over threads that somebody else owns.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

/// Calls a function once for each index below a count, in any order, maybe from several threads, and returns when all are done.
pub trait Workers {
    /// Does the work.
    fn for_each(&self, count: usize, work: &(dyn Fn(usize) + Sync));
}

/// A slice cut into consecutive pieces, each for one piece of work.
pub(super) struct Pieces<'a, T>(Vec<Mutex<&'a mut [T]>>);

impl<'a, T> Pieces<'a, T> {
    /// Pieces of `len` elements; the last one may be shorter.
    pub(super) fn new(slice: &'a mut [T], len: usize) -> Self {
        Self(slice.chunks_mut(len.max(1)).map(Mutex::new).collect())
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Hands one piece to `work`. Each is asked for by one piece of work, so nobody ever waits.
    pub(super) fn with<R>(&self, index: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
        let mut piece = self.0[index].lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut piece)
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends `work` a buffer of `len` floats, all zero, that begins at a cache line and stays with the thread: its pages are touched
/// once, not at every step.
pub(super) fn with_zeroed_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    const LINE: usize = 64;
    SCRATCH.with_borrow_mut(|buffer| {
        buffer.clear();
        buffer.resize(len + LINE / size_of::<f32>(), 0.0);
        let start = buffer.as_ptr().align_offset(LINE);
        work(&mut buffer[start..start + len])
    })
}
