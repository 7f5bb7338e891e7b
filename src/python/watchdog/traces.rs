//! What threads are at: the handlers, and fallbacks, that they call.
//!
//! Each thread leaves traces by plain stores, as a loop does: whose call it is in, for which event,
//! and a count of those that it has been in. One that is stuck inside `publish`, or in a fallback,
//! is seen whatever the others of its subscription do.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
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

/// The traces of one thread, which alone writes them. When that ends, another one has them: there
/// are as many as there were threads at one time, and whoever looks need not count who holds them.
#[derive(Default)]
struct Trace {
    /// None while nobody has them.
    thread: Mutex<Option<Thread>>,
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
    static OWN: Cell<Option<&'static Trace>> = const { Cell::new(None) };
    static LEAVES: Leaves = const { Leaves };
}

/// The traces of all threads, and those that nobody has.
static ALL: Mutex<Vec<&'static Trace>> = Mutex::new(Vec::new());

/// Does `act`, a call for `event` on behalf of `subscription`.
#[inline(always)]
pub(in crate::python) fn traced<R>(
    py: Python<'_>,
    subscription: &Arc<Subscription>,
    event: &Arc<Event>,
    part: Part,
    act: impl FnOnce() -> R,
) -> R {
    let trace = OWN.get().unwrap_or_else(|| begin(py));
    let depth = trace.depth.load(Ordering::Relaxed);
    let Some(level) = trace.levels.get(depth) else { return act() };
    trace.depth.store(depth + 1, Ordering::Relaxed);
    level.part.store(part as u8, Ordering::Relaxed);
    level.at.store(Arc::as_ptr(subscription) as usize, Ordering::Relaxed);
    let calls = level.calls.load(Ordering::Relaxed);
    level.calls.store(calls.wrapping_add(1), Ordering::Release);
    let _ended = Ended { trace, level, depth };
    level.event.during(py, event, act)
}

#[cold]
fn begin(py: Python<'_>) -> &'static Trace {
    // First of all: it asks Python for a name, and that may come here again.
    let mut thread = Thread::here(py);
    if thread.foreign {
        thread.state = 0; // another thread may have that one by the time of a dump
    }
    if let Some(known) = OWN.get() {
        return known;
    }
    let mut all = ALL.lock();
    let free = all.iter().find(|trace| trace.thread.lock().is_none()).copied();
    let trace: &'static Trace = free.unwrap_or_else(|| {
        let made = Box::leak(Box::default());
        all.push(made);
        made
    });
    *trace.thread.lock() = Some(thread);
    OWN.set(Some(trace));
    let _ = LEAVES.try_with(|_| ()); // the end of the thread is told from now on
    trace
}

/// Says that a thread has ended.
struct Leaves;

impl Drop for Leaves {
    fn drop(&mut self) {
        if let Some(trace) = OWN.take() {
            // One that is ended in the middle of a call leaves nothing of it behind.
            trace.levels.iter().for_each(|level| level.at.store(0, Ordering::Relaxed));
            trace.depth.store(0, Ordering::Relaxed);
            *trace.thread.lock() = None;
        }
    }
}

/// The call has ended, one way or another.
struct Ended {
    trace: &'static Trace,
    level: &'static Level,
    depth: usize,
}

impl Drop for Ended {
    #[inline(always)]
    fn drop(&mut self) {
        self.level.at.store(0, Ordering::Release);
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
pub(in crate::python) struct Standing {
    thread: Thread,
    level: &'static Level,
    /// How many calls it is inside of.
    depth: usize,
    call: Call,
    fallback: bool,
    /// When it was seen first.
    first: Look,
}

impl Standing {
    /// For how long it has not come back, of what was looked at.
    pub fn stood(&self, look: Look) -> Duration {
        look.watched - self.first.watched
    }

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
        let place = std::ptr::from_ref(self.level) as usize as u64;
        Suspect {
            key: (Arc::as_ptr(shared) as usize, place, self.call.number),
            who: Who::Handler(subscription),
            shared: shared.clone(),
            place: Place::Thread(self.thread.clone()),
            depth: self.depth + 1,
            since: self.first.now,
            stood: self.stood(look),
            due: self.stood(look) >= limit,
            event: None,
            asks: Some(Box::new(move |py| asks.event(py))),
            fallback: self.fallback,
            still: Box::new(move || still.still()),
        }
    }

    /// Whether it has not come back yet.
    fn still(&self) -> bool {
        self.level.call() == Some(self.call)
    }

    /// The event that it is for.
    fn event(&self, py: Python<'_>) -> Option<Arc<Event>> {
        self.still().then(|| self.level.event.get(py)).flatten()
    }
}

/// The calls that nobody else watches, and that have not come back since an earlier look. Once at
/// each look, whoever asks.
pub(super) fn standing(look: Look) -> Vec<Standing> {
    let mut found = Vec::new();
    for (thread, trace) in live() {
        for (depth, level) in trace.levels.iter().enumerate() {
            let Some((call, first)) = level.stands(look) else { continue };
            let fallback = level.part.load(Ordering::Relaxed) == Part::Fallback as u8;
            found.push(Standing { thread: thread.clone(), level, depth, call, fallback, first });
        }
    }
    found
}

/// The event for which the thread known by `ident` calls the handler of the subscription at
/// `address`.
pub(in crate::python) fn event_at(
    py: Python<'_>,
    ident: u64,
    address: usize,
) -> Option<Arc<Event>> {
    let (_, trace) = live().into_iter().find(|(thread, _)| thread.ident == ident)?;
    let is_it = |level: &&Level| level.call().is_some_and(|call| call.at == address);
    trace.levels.iter().rev().find(is_it)?.event.get(py)
}

/// The traces that somebody has.
fn live() -> Vec<(Thread, &'static Trace)> {
    let all = ALL.lock().clone();
    all.into_iter().filter_map(|trace| Some((trace.thread.lock().clone()?, trace))).collect()
}
