//! Which logs get the records: one set at a time, looked up without a lock.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use tracing::Level;

use super::sink::Sink;

pub(super) static ACTIVE: ArcSwapOption<Sink> = ArcSwapOption::const_empty();

pub(super) fn active() -> Guard<Option<Arc<Sink>>> {
    ACTIVE.load()
}

/// Whether a record of `level` and `target` would be recorded.
pub fn enabled(level: Level, target: &str) -> bool {
    active().as_ref().is_some_and(|sink| sink.levels.load().allow(level, target))
}
