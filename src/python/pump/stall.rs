//! Handlers that block the loop they run on: who is told, and what.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::watch::Seen;
use super::{LoopExecutor, Pump};
use crate::bus::Subscription;
use crate::clock::Instant;
use crate::event::Event;
use crate::python::bridge::with_python;
use crate::python::event::PyEvent;
use crate::python::shared::Shared;
use crate::python::stalled::Stalled;

/// The handler that blocks one loop, if somebody was told of one.
#[derive(Default)]
pub(super) struct Stalls {
    told: AtomicBool,
    /// Whether somebody waits for the GIL, to look into one.
    asking: AtomicBool,
    block: Mutex<Option<Arc<Block>>>,
    /// The buses whose handlers run here.
    buses: Mutex<Vec<Weak<Shared>>>,
}

struct Block {
    /// The beat since which nothing was seen to move.
    beats: u64,
    since: Instant,
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    event: Option<Arc<Event>>,
}

/// Where a handler stands.
#[derive(Default)]
struct Place {
    /// From the handler's own frame inwards.
    stack: Vec<String>,
    event: Option<Arc<Event>>,
}

impl Stalls {
    /// Whether a handler was told of that has not come back.
    #[inline]
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// Whether the handler that was told of has come back, and nobody has said so.
    pub fn is_over(&self, beats: u64) -> bool {
        self.is_told() && self.block.lock().as_ref().is_none_or(|block| block.beats != beats)
    }

    /// Whether nobody is looking into it: the caller is to do so, and to say when it is `answered`.
    pub fn ask(&self) -> bool {
        !self.asking.swap(true, Ordering::AcqRel)
    }

    pub fn answered(&self) {
        self.asking.store(false, Ordering::Release);
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

impl Pump {
    /// Whether nothing has moved since it was `seen`.
    fn is_still(&self, seen: &Seen) -> bool {
        self.watch.beats() == seen.beats && self.watch.at() == seen.at
    }

    /// A handler blocks the loop: says whose it is, and where it stands.
    pub(super) fn tell(&self, py: Python<'_>, seen: &Seen) {
        let Some((shared, subscription)) = self.watch.stalls.whose(seen.at) else { return };
        let executor: &dyn Any = &**subscription.executor();
        let handler = executor.downcast_ref::<LoopExecutor>().map(|own| own.handler.clone());
        let callables = handler.as_ref().map(|handler| handler.callables()).unwrap_or_default();
        let place = self.place(py, callables).unwrap_or_else(|error| {
            error.write_unraisable(py, None);
            None
        });
        let Some((block, seconds)) = self.keep(seen, shared, subscription, &place) else { return };
        let place = place.unwrap_or_default();
        py.detach(|| self.emit(&block, seconds, &place.stack));
        let said = format!(
            "the handler {} has blocked its event loop for {seconds:.1} s{}; nothing else runs \
             there meanwhile: use `await`, `asyncio.to_thread`, or a `def` handler, which runs on \
             a thread",
            block.subscription.name(),
            way(&place.stack)
        );
        warn(py, &said, Some(&block), seconds);
    }

    /// The same where the GIL is not to be had.
    pub(super) fn tell_without_python(&self, seen: &Seen) {
        let Some((shared, subscription)) = self.watch.stalls.whose(seen.at) else { return };
        let Some((block, seconds)) = self.keep(seen, shared, subscription, &None) else { return };
        tracing::warn!(
            target: "tiebeam::bus",
            subscription = block.subscription.name(),
            seconds,
            "a handler has blocked its event loop, and the GIL is held all the time: by what it \
             calls, or by another thread"
        );
        self.emit(&block, seconds, &[]);
    }

    /// Notes that somebody is told, unless the handler has moved on or it was told before.
    fn keep(
        &self,
        seen: &Seen,
        shared: Arc<Shared>,
        subscription: Arc<Subscription>,
        place: &Option<Place>,
    ) -> Option<(Arc<Block>, f64)> {
        let stalls = &self.watch.stalls;
        let mut kept = stalls.block.lock();
        if !self.is_still(seen) || stalls.is_told() {
            return None;
        }
        let event = place.as_ref().and_then(|place| place.event.clone());
        let block =
            Arc::new(Block { beats: seen.beats, since: seen.since, shared, subscription, event });
        *kept = Some(block.clone());
        stalls.told.store(true, Ordering::Release);
        drop(kept);
        Some((block.clone(), self.seconds(&block)))
    }

    fn seconds(&self, block: &Block) -> f64 {
        self.runtime.clock().now().saturating_since(block.since).as_secs_f64()
    }

    fn emit(&self, block: &Block, seconds: f64, stack: &[String]) {
        let event = block.event.as_deref();
        let stalled = Stalled::new(&block.subscription, event, seconds, "blocks_loop").at(stack);
        block.shared.bus.emit("system.handler_stalled", &stalled);
    }

    /// The handler that was told of has come back: says so, on another thread.
    #[cold]
    pub(super) fn came_back(&self) {
        let block = {
            let mut kept = self.watch.stalls.block.lock();
            self.watch.stalls.told.store(false, Ordering::Release);
            kept.take()
        };
        let Some(block) = block else { return };
        let took = self.runtime.clock().now().saturating_since(block.since);
        self.was_late(took, false);
        self.runtime.handle().spawn_blocking(move || {
            let (name, seconds) = (block.subscription.name(), took.as_secs_f64());
            block.shared.bus.emit(
                "system.handler_recovered",
                &Stalled::new(&block.subscription, block.event.as_deref(), seconds, "came_back"),
            );
            let said = format!("the handler {name} gave its event loop back after {seconds:.1} s");
            with_python(|py| warn(py, &said, Some(&block), seconds));
        });
    }

    /// How long the handler of `subscription` has blocked the loop, where it does.
    pub(super) fn blocked_by(&self, subscription: &Subscription) -> Option<std::time::Duration> {
        let kept = self.watch.stalls.block.lock();
        let block = kept.as_ref().filter(|block| std::ptr::eq(&*block.subscription, subscription));
        block.map(|block| self.runtime.clock().now().saturating_since(block.since))
    }

    /// No handler of ours is at work, and yet the loop does not come to those that wait: says what
    /// it is at instead. Whether something was said.
    pub(super) fn tell_of_others(&self, py: Python<'_>, seen: &Seen) -> bool {
        if !self.is_still(seen) || !self.ready.is_led() {
            return false;
        }
        let running = self.event_loop.open(py).is_some_and(|event_loop| {
            let running = event_loop.call_method0("is_running");
            running.and_then(|running| running.is_truthy()).unwrap_or(false)
        });
        let Ok(Some(Place { stack, .. })) = self.place(py, Vec::new()) else { return false };
        if !running {
            return false;
        }
        let seconds = self.runtime.clock().now().saturating_since(seen.since).as_secs_f64();
        let said = format!(
            "an event loop has not come to its handlers for {seconds:.1} s: something else blocks \
             it{}",
            way(&stack)
        );
        warn(py, &said, None, seconds);
        true
    }

    /// Where the loop's thread stands: in one of `handlers`, or in whatever runs there.
    fn place(&self, py: Python<'_>, handlers: Vec<&Py<PyAny>>) -> PyResult<Option<Place>> {
        let stalls = py.import("tiebeam._stalls")?;
        let found = stalls.call_method1("place", (self.event_loop.ident(), handlers))?;
        let (stack, event): (Vec<String>, Option<Bound<'_, PyEvent>>) = found.extract()?;
        let event = event.map(|event| event.get().inner().clone());
        Ok((!stack.is_empty() || event.is_some()).then_some(Place { stack, event }))
    }
}

/// The way to where something stands, for a message; of a long one its ends.
fn way(stack: &[String]) -> String {
    const SHOWN: usize = 3;
    let steps = match stack {
        [] => return String::new(),
        all if all.len() <= 2 * SHOWN => all.join(" -> "),
        all => {
            let (first, last) = (&all[..SHOWN], &all[all.len() - SHOWN..]);
            format!("{} -> ... -> {}", first.join(" -> "), last.join(" -> "))
        }
    };
    format!(", at {steps}")
}

/// A warning in Python's `logging`, where a bus that stands alone is heard too.
fn warn(py: Python<'_>, said: &str, block: Option<&Block>, seconds: f64) {
    let warned = || {
        let fields = PyDict::new(py);
        fields.set_item("seconds", seconds)?;
        if let Some(block) = block {
            fields.set_item("subscription", block.subscription.name())?;
            fields.set_item("component", block.subscription.component().map(|name| &**name))?;
            fields.set_item("event_id", block.event.as_ref().map(|event| event.id.to_string()))?;
        }
        py.import("tiebeam._stalls")?.call_method1("warn", (said, fields)).map(drop)
    };
    if let Err(error) = warned() {
        error.write_unraisable(py, None);
    }
}
