//! What threads are at: the handlers, and fallbacks, that they call.
//!
//! Each thread leaves traces by plain stores, as a loop does: whose call it is in, for which event,
//! and a count of those that it has been in. One that is stuck inside `publish`, or in a fallback,
//! is seen whatever the others of its subscription do.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::suspect::{Look, Place, Suspect, Who};
use crate::bus::Subscription;
use crate::event::Event;
use crate::python::bridge::Thread;
use crate::python::bridge::ffi::Shown;
use crate::python::shared::Shared;

/// How many calls inside of each other are seen; what is deeper counts as what it is inside of.
const DEPTH: usize = 8;

/// What is called.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::python) enum Part {
    /// A handler, or a step of one, that somebody else watches.
    Watched,
    /// A handler inside `publish`.
    Inside,
    /// The fallback of a handler.
    Fallback,
}

/// The traces of one thread, which alone writes them.
struct Trace {
    thread: Thread,
    /// How many calls it is in.
    depth: AtomicUsize,
    levels: [Level; DEPTH],
}

/// One call, inside of those before.
#[derive(Default)]
struct Level {
    /// Whose it is: the address of the subscription, which whoever calls holds; 0 is nobody's.
    at: AtomicUsize,
    /// Counts the calls.
    calls: AtomicU64,
    part: AtomicU8,
    event: Shown<Event>,
    /// Which was seen last, and when first.
    seen: Mutex<Option<(Call, Look)>>,
}

/// Names one call at one level of one thread.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Call {
    at: usize,
    number: u64,
}

thread_local! {
    static OWN: OnceCell<Arc<Trace>> = const { OnceCell::new() };
}

static ALL: Mutex<Vec<Weak<Trace>>> = Mutex::new(Vec::new());

/// Does `act`, a call for `event` on behalf of `subscription`.
#[inline]
pub(in crate::python) fn traced<R>(
    py: Python<'_>,
    subscription: &Arc<Subscription>,
    event: &Arc<Event>,
    part: Part,
    act: impl FnOnce() -> R,
) -> R {
    OWN.with(|own| {
        let trace = own.get().unwrap_or_else(|| begin(py, own));
        trace.during(py, subscription, event, part, act)
    })
}

#[cold]
fn begin<'a>(py: Python<'_>, own: &'a OnceCell<Arc<Trace>>) -> &'a Arc<Trace> {
    // First of all: it asks Python for a name, and that may come here again.
    let thread = Thread::here(py);
    own.get_or_init(|| {
        let trace = Trace { thread, depth: AtomicUsize::new(0), levels: Default::default() };
        let trace = Arc::new(trace);
        let mut all = ALL.lock();
        if all.len() == all.capacity() {
            all.retain(|other| other.strong_count() > 0);
        }
        all.push(Arc::downgrade(&trace));
        trace
    })
}

impl Trace {
    #[inline]
    fn during<R>(
        &self,
        py: Python<'_>,
        subscription: &Arc<Subscription>,
        event: &Arc<Event>,
        part: Part,
        act: impl FnOnce() -> R,
    ) -> R {
        let depth = self.depth.load(Ordering::Relaxed);
        let Some(level) = self.levels.get(depth) else { return act() };
        self.depth.store(depth + 1, Ordering::Relaxed);
        level.part.store(part as u8, Ordering::Relaxed);
        level.at.store(Arc::as_ptr(subscription) as usize, Ordering::Relaxed);
        let calls = level.calls.load(Ordering::Relaxed);
        level.calls.store(calls.wrapping_add(1), Ordering::Release);
        let _ended = Ended { trace: self, depth };
        level.event.during(py, event, act)
    }
}

/// The call has ended, one way or another.
struct Ended<'a> {
    trace: &'a Trace,
    depth: usize,
}

impl Drop for Ended<'_> {
    #[inline]
    fn drop(&mut self) {
        self.trace.levels[self.depth].at.store(0, Ordering::Release);
        self.trace.depth.store(self.depth, Ordering::Relaxed);
    }
}

impl Level {
    fn call(&self) -> Option<Call> {
        let number = self.calls.load(Ordering::Acquire);
        let at = self.at.load(Ordering::Acquire);
        (at != 0).then_some(Call { at, number })
    }

    /// Since when it is in the same call, if it was in that at an earlier look.
    fn stands(&self, look: Look) -> Option<(Call, Look)> {
        let mut seen = self.seen.lock();
        let call = self.call().filter(|_| self.part.load(Ordering::Relaxed) != Part::Watched as u8);
        match (call, *seen) {
            (Some(call), Some((known, first))) if known == call => Some((call, first)),
            (call, _) => {
                *seen = call.map(|call| (call, look));
                None
            }
        }
    }
}

/// A call that has not come back for a while.
#[derive(Clone)]
pub(super) struct Standing {
    trace: Arc<Trace>,
    level: usize,
    call: Call,
    fallback: bool,
    /// When it was seen first.
    first: Look,
}

impl Standing {
    /// Whose it is.
    pub fn is_of(&self, subscription: &Arc<Subscription>) -> bool {
        Arc::as_ptr(subscription) as usize == self.call.at
    }

    /// What it is to the watchdog of `shared`, whose `subscription` this is.
    pub fn suspect(
        &self,
        shared: &Arc<Shared>,
        subscription: Arc<Subscription>,
        look: Look,
        limit: Duration,
    ) -> Suspect {
        let (still, asks) = (self.clone(), self.clone());
        let place = std::ptr::from_ref(self.level()) as usize as u64;
        Suspect {
            key: (Arc::as_ptr(shared) as usize, place, self.call.number),
            who: Who::Handler(subscription),
            shared: shared.clone(),
            place: Place::Thread(self.trace.thread.clone()),
            since: self.first.now,
            stood: look.watched - self.first.watched,
            due: look.watched - self.first.watched >= limit,
            event: None,
            asks: Some(Box::new(move |py| asks.event(py))),
            fallback: self.fallback,
            still: Box::new(move || still.still()),
        }
    }

    fn level(&self) -> &Level {
        &self.trace.levels[self.level]
    }

    /// Whether it has not come back yet.
    fn still(&self) -> bool {
        self.level().call() == Some(self.call)
    }

    /// The event that it is for.
    fn event(&self, py: Python<'_>) -> Option<Arc<Event>> {
        self.still().then(|| self.level().event.get(py)).flatten()
    }
}

/// The calls that nobody else watches, and that have not come back for so long.
pub(super) fn standing(look: Look, least: Duration) -> Vec<Standing> {
    let stands = |trace: Arc<Trace>| {
        let at = |level: usize| {
            let (call, first) = trace.levels[level].stands(look)?;
            let part = trace.levels[level].part.load(Ordering::Relaxed);
            let fallback = part == Part::Fallback as u8;
            let standing = Standing { trace: trace.clone(), level, call, fallback, first };
            (look.watched - first.watched >= least).then_some(standing)
        };
        (0..DEPTH).filter_map(at).collect::<Vec<_>>()
    };
    live().into_iter().flat_map(stands).collect()
}

/// The event for which the thread known by `ident` calls the handler of the subscription at
/// `address`.
pub(in crate::python) fn event_at(
    py: Python<'_>,
    ident: u64,
    address: usize,
) -> Option<Arc<Event>> {
    let trace = live().into_iter().find(|trace| trace.thread.ident == ident)?;
    let is_it = |level: &&Level| level.call().is_some_and(|call| call.at == address);
    trace.levels.iter().rev().find(is_it)?.event.get(py)
}

fn live() -> Vec<Arc<Trace>> {
    ALL.lock().iter().filter_map(Weak::upgrade).collect()
}
