//! Pauses between requests that are answered at once, so that the loop has its turns.

use std::sync::Arc;

use pyo3::prelude::*;

use super::Pump;
use crate::bus::Rows;

/// A pause that is due.
pub(in crate::python) struct Pause {
    pump: Arc<Pump>,
    row: u64,
}

impl Pause {
    /// The loop has had its turn.
    pub(in crate::python) fn over(self, py: Python<'_>) {
        self.pump.with_rows(py, |rows| rows.over(self.row));
    }
}

impl Pump {
    /// One more request was served at once; a pause if one is due.
    pub(super) fn served(self: &Arc<Self>, py: Python<'_>, now: i64) -> Option<Pause> {
        let row = self.with_rows(py, |rows| rows.served(now))?;
        Some(Pause { pump: self.clone(), row })
    }

    fn with_rows<R>(&self, py: Python<'_>, act: impl FnOnce(&mut Rows) -> R) -> R {
        let mut rows = self.rows.take(py).unwrap_or_default();
        let result = act(&mut rows);
        let _ = self.rows.put(py, rows); // nothing was put there meanwhile
        result
    }
}
