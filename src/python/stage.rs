//! Where handlers run: a context of their own, with the event in it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::bridge::ffi::{self, Context, GilCell};
use super::event::{PyEvent, Seen, lineage};
use crate::bus::Delivery;

/// A context with an event in it.
pub(super) type Stage = ffi::Stage<PyEvent>;

/// The context that handlers were subscribed in, and a stage that is free.
///
/// One for all that were subscribed in the same context: they hand the stage on to each other.
pub(super) struct Origin {
    context: Context,
    free: GilCell<Stage>,
}

/// Every origin there is, by the identity of its context's values.
static ORIGINS: Mutex<Option<HashMap<usize, Weak<Origin>>>> = Mutex::new(None);

impl Origin {
    /// The one of the context that is current.
    pub(super) fn current(py: Python<'_>) -> PyResult<Arc<Origin>> {
        let made = Arc::new(Origin { context: Context::current(py)?, free: GilCell::empty() });
        let Some(identity) = made.context.identity(py) else { return Ok(made) };
        let mut origins = ORIGINS.lock();
        let origins = origins.get_or_insert_default();
        if let Some(known) = origins.get(&identity).and_then(Weak::upgrade) {
            return Ok(known);
        }
        if origins.len() == origins.capacity() {
            origins.retain(|_, origin| origin.strong_count() > 0);
        }
        origins.insert(identity, Arc::downgrade(&made));
        Ok(made)
    }

    /// A stage for one delivery: what the handler sets there ends with it.
    pub(super) fn stage(&self, py: Python<'_>, delivery: &Delivery) -> PyResult<Stage> {
        let mut seen = Seen::new(delivery.event.clone(), delivery.attempt);
        if let Some(stage) = self.free.take(py) {
            match stage.recast(py, seen) {
                Ok(_) => return Ok(stage),
                Err(back) => seen = back,
            }
        }
        Stage::set(&self.context, lineage(py)?, Bound::new(py, PyEvent::from(seen))?)
    }

    /// Takes a stage back that is not needed any more.
    pub(super) fn clear(&self, py: Python<'_>, stage: Stage) {
        if stage.is_untouched(py) {
            stage.object(py).get().forget_payload(py);
            drop(self.free.put(py, stage));
        }
    }
}
