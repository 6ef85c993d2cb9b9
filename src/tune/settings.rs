//! What a search is asked for.

use std::time::Duration;

use crate::training::options::TrainOptions;

use super::points::Search;
use super::space::{NetworkKind, Space};

/// What to search, and for how long.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Kinds of network, each once, not empty.
    pub networks: Vec<NetworkKind>,
    /// How points are chosen.
    pub search: Search,
    /// Ranges.
    pub space: Space,
    /// What does not vary; its seed is that of the search, too.
    pub base: TrainOptions,
    /// Most configurations to start.
    pub trials: Option<usize>,
    /// Time for the whole search, with what earlier runs used of it.
    pub time_budget: Option<Duration>,
    /// Longest time for one training.
    pub trial_limit: Option<Duration>,
}
