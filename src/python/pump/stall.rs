//! Handlers that block the loop they run on, as the watchdog sees them; and what else does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Pump;
use super::watch::Seen;
use crate::bus::Subscription;
use crate::python::shared::Shared;
use crate::python::watchdog::{
    Look, Place, Source, Standing, Suspect, Watchdog, Who, elsewhere, event_at,
};

/// The step at which one loop stands.
#[derive(Default)]
pub(super) struct Stood {
    /// Whether it has stood there for too long.
    due: AtomicBool,
    /// The beat and the handler that were seen last, and when first.
    seen: Mutex<Option<(u64, usize, Look)>>,
    /// The buses whose handlers run here.
    buses: Mutex<Vec<Weak<Shared>>>,
}

impl Stood {
    /// Whether the loop was seen to stand, and has not come back.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.due.load(Ordering::Relaxed)
    }

    /// Handlers of this bus run here.
    pub fn serve(&self, shared: &Weak<Shared>) {
        let mut buses = self.buses.lock();
        if buses.iter().any(|known| known.ptr_eq(shared)) {
            return;
        }
        if buses.len() == buses.capacity() {
            buses.retain(|known| known.strong_count() > 0);
        }
        buses.push(shared.clone());
    }

    /// The subscription at `address`, whose handler is at work.
    fn whose(&self, address: usize) -> Option<(Arc<Shared>, Arc<Subscription>)> {
        let buses: Vec<_> = self.buses.lock().iter().filter_map(Weak::upgrade).collect();
        buses.into_iter().find_map(|shared| {
            let all = shared.bus.unfinished();
            let found = all.into_iter().find(|s| Arc::as_ptr(s) as usize == address)?;
            Some((shared, found))
        })
    }
}

impl Source for Pump {
    fn look(&self, look: Look, _: &[Standing]) -> Vec<Suspect> {
        self.stands(look).into_iter().collect()
    }
}

impl Pump {
    /// The handler that has not moved for too long.
    fn stands(&self, look: Look) -> Option<Suspect> {
        let (beats, at) = (self.watch.beats(), self.watch.at());
        let first = {
            let mut seen = self.watch.stood.seen.lock();
            match *seen {
                Some((b, a, first)) if (b, a) == (beats, at) && at != 0 => first,
                _ => {
                    *seen = Some((beats, at, look));
                    return None;
                }
            }
        };
        let this = self.this.upgrade()?;
        let (shared, subscription) = self.watch.stood.whose(at)?;
        let (stood, patience) = (look.watched - first.watched, shared.under_way.patience()?);
        if stood < patience / 2 {
            return None;
        }
        let due = stood >= patience;
        if due {
            self.watch.stood.due.store(true, Ordering::Release);
        }
        let (asked, ident) = (this.clone(), self.event_loop.place().ident);
        let stands = move |pump: &Pump| pump.watch.beats() == beats && pump.watch.at() == at;
        Some(Suspect {
            key: (self.address(), at as u64, beats),
            who: Who::Handler(subscription),
            shared,
            place: Place::Loop(self.event_loop.clone()),
            depth: 0,
            since: first.now,
            stood,
            due,
            event: None,
            asks: Some(Box::new(move |py| {
                stands(&asked).then(|| event_at(py, ident, at)).flatten()
            })),
            fallback: false,
            still: Box::new(move || stands(&this)),
        })
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// The handler that was seen to stand has come back.
    #[cold]
    pub(super) fn came_back(&self) {
        self.watch.stood.due.store(false, Ordering::Release);
        let seen = *self.watch.stood.seen.lock();
        if let Some((_, _, first)) = seen {
            let took = self.runtime.clock().now().saturating_since(first.now);
            self.was_late(took, false);
        }
        let own = self.address();
        Watchdog::get(&self.runtime).settle(|source| source == own);
    }

    /// No handler of ours is at work, and yet the loop does not come to those that wait: says what
    /// it is at instead. Whether something was said.
    pub(super) fn tell_of_others(&self, py: Python<'_>, seen: &Seen) -> bool {
        let still = self.watch.beats() == seen.beats && self.watch.at() == seen.at;
        if !still || !self.ready.is_led() {
            return false;
        }
        let running = self.event_loop.open(py).is_some_and(|event_loop| {
            let running = event_loop.call_method0("is_running");
            running.and_then(|running| running.is_truthy()).unwrap_or(false)
        });
        let seconds = self.runtime.clock().now().saturating_since(seen.since).as_secs_f64();
        running && self.warn_of_others(py, seconds).unwrap_or(false)
    }

    fn warn_of_others(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let stalls = py.import("tiebeam._stalls")?;
        let none: [Py<PyAny>; 0] = [];
        let place = stalls.call_method1("place", (self.event_loop.place().ident, none))?;
        let stack: Vec<String> = place.get_item(0)?.extract()?;
        if stack.is_empty() {
            return Ok(false);
        }
        let fields = PyDict::new(py);
        fields.set_item("seconds", seconds)?;
        stalls.call_method1("warn", (elsewhere(&stack, seconds), fields))?;
        Ok(true)
    }
}
