//! Reading files before the decoders want them, so that these never wait for a slow disk or a distant server.

use anyhow::{Context as _, Result};
use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _,
};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::batch::{ReadAhead, Todo};
use crate::decode::{Limits, MemoryBudget, read_ahead};

/// Of the memory budget, this part is for what is read ahead.
const SHARE: u64 = 16;

/// A memory budget in two parts, for looking at files and for reading them ahead.
///
/// They are kept apart so that what is read ahead never takes the room that a large image needs: which one is too large must not
/// depend on its neighbours.
pub(super) struct Budgets {
    pub(super) looking: MemoryBudget,
    pub(super) ahead: MemoryBudget,
}

impl Budgets {
    pub(super) fn of(bytes: u64) -> Self {
        let ahead = bytes / SHARE;
        Self {
            looking: MemoryBudget::new(bytes - ahead),
            ahead: MemoryBudget::new(ahead),
        }
    }

    /// All there is, in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.looking.limit() + self.ahead.limit()
    }

    /// No less than the most that was ever held, in bytes: the most of each part, which need not have been at the same time.
    pub(super) fn peak(&self) -> u64 {
        self.looking.peak() + self.ahead.peak()
    }
}

/// Threads that read, and what they read with.
pub(super) struct Readers<'a> {
    /// None where nothing is to be read ahead.
    pool: Option<ThreadPool>,
    limits: &'a Limits,
    memory: &'a MemoryBudget,
}

impl<'a> Readers<'a> {
    /// Starts `threads` of them; with none, decoders read for themselves.
    pub(super) fn new(
        threads: usize,
        limits: &'a Limits,
        memory: &'a MemoryBudget,
    ) -> Result<Self> {
        let pool = match threads {
            0 => None,
            threads => Some(
                ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|number| format!("read-{number}"))
                    .build()
                    .context("the reading threads could not be started")?,
            ),
        };
        Ok(Self {
            pool,
            limits,
            memory,
        })
    }

    /// Reads as many of the files as there is room for.
    pub(super) fn read(&self, files: &[Todo]) -> Vec<ReadAhead<'a>> {
        let Some(pool) = &self.pool else {
            return files.iter().map(|_| None).collect();
        };
        let read = |file: &Todo| read_ahead(&file.source.path, self.limits, self.memory);
        pool.install(|| files.par_iter().with_max_len(1).map(read).collect())
    }
}
