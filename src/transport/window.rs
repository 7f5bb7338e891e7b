//! How far back it is remembered what was handled.

use std::time::Duration;

/// How long, and how many, ids are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// For how long.
    pub time: Duration,
    /// How many at most; beyond it, the oldest is forgotten.
    pub count: usize,
}

impl Default for Window {
    fn default() -> Self {
        Window { time: Duration::from_secs(600), count: 100_000 }
    }
}
