//! Where handlers run: a context of their own, with the event in it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::bridge::ffi::{self, Context, GilCell};
use super::event::{PyEvent, Seen, lineage};
use crate::event::Event;

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
    pub(super) fn stage(
        &self,
        py: Python<'_>,
        event: Cow<'_, Arc<Event>>,
        attempt: u32,
    ) -> PyResult<Stage> {
        let event = match self.free.take(py) {
            None => event,
            Some(stage) => match set(py, stage, event, attempt) {
                Ok(stage) => return Ok(stage),
                Err(event) => event,
            },
        };
        self.new_stage(py, Seen::new(event.into_owned(), attempt))
    }

    /// A stage that was never used.
    pub(super) fn new_stage(&self, py: Python<'_>, seen: Seen) -> PyResult<Stage> {
        Stage::set(&self.context, lineage(py)?, Bound::new(py, PyEvent::from(seen))?)
    }

    /// Takes a stage that is left as it was, for whoever needs one next.
    pub(super) fn keep(&self, py: Python<'_>, stage: Stage) {
        drop(self.free.put(py, stage));
    }
}

/// The same stage with another event on it; the event comes back if somebody has a part of it.
pub(super) fn set<'a>(
    py: Python<'_>,
    stage: Stage,
    event: Cow<'a, Arc<Event>>,
    attempt: u32,
) -> Result<Stage, Cow<'a, Arc<Event>>> {
    if stage.object(py).get().shows(&event, attempt) {
        return if stage.is_ours(py) { Ok(stage) } else { Err(event) }; // for many handlers
    }
    match stage.recast(py, Seen::new(event.into_owned(), attempt)) {
        Ok(before) => {
            drop(before);
            Ok(stage)
        }
        Err(seen) => Err(Cow::Owned(seen.into_event())),
    }
}

/// What is left of a stage after its handler: all of it, if that left it as it was.
pub(super) fn cleared(py: Python<'_>, stage: Stage) -> Option<Stage> {
    let event = stage.object(py).get();
    if event.is_to_be_decided() || !stage.is_untouched(py) {
        return None;
    }
    event.forget_payload(py);
    Some(stage)
}
