//! How much is going on outside the asyncio loops: what a test waits for to fall to zero.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

use parking_lot::Mutex;

use super::loops::Loop;
use crate::clock::Clock;

thread_local! {
    /// Whether what this thread does is counted.
    static WORKER: Cell<bool> = const { Cell::new(false) };
    /// On whose behalf this thread acts, if not on its own.
    static ACTING: Cell<Option<Acting>> = const { Cell::new(None) };
}

/// A thread on whose behalf another one acts.
#[derive(Clone, Copy)]
pub(crate) struct Acting {
    thread: ThreadId,
    is_worker: bool,
}

static BUSY: AtomicUsize = AtomicUsize::new(0);
static WATCHERS: Mutex<Vec<Arc<Loop>>> = Mutex::new(Vec::new());

/// Something begins on another thread.
pub(crate) fn begin() {
    BUSY.fetch_add(1, Ordering::AcqRel);
}

/// It has ended; the last one wakes the loops that watch.
pub(crate) fn end() {
    if BUSY.fetch_sub(1, Ordering::AcqRel) == 1 {
        let watchers: Vec<_> = WATCHERS.lock().clone();
        for event_loop in watchers {
            event_loop.call(|_, _| Ok(()));
        }
    }
}

/// How many things are under way.
pub(crate) fn busy() -> usize {
    BUSY.load(Ordering::Acquire)
}

/// Has `event_loop` woken when nothing is under way any more.
pub(crate) fn watch(event_loop: Arc<Loop>) {
    WATCHERS.lock().push(event_loop);
}

/// Ends what `watch` began.
pub(crate) fn unwatch(event_loop: &Arc<Loop>) {
    let left = {
        let mut watchers = WATCHERS.lock();
        let at = watchers.iter().position(|other| Arc::ptr_eq(other, event_loop));
        at.map(|at| watchers.swap_remove(at))
    };
    drop(left);
}

/// Says of this thread that somebody counts whatever it does.
pub(crate) fn join() {
    WORKER.set(true);
}

/// Whether somebody counts what this thread does.
pub(crate) fn is_worker() -> bool {
    WORKER.get()
}

/// On whose behalf a thread acts that this one starts and waits for.
pub(crate) fn acting() -> Acting {
    let own = || Acting { thread: std::thread::current().id(), is_worker: is_worker() };
    ACTING.get().unwrap_or_else(own)
}

/// This thread acts on behalf of another one.
pub(crate) fn act(acting: Acting) {
    ACTING.set(Some(acting));
}

/// Whether this thread moves `clock`, a virtual one, on when it waits: the test itself, and what
/// it waits for. Any other waits for the test.
pub(crate) fn moves(clock: &Clock) -> bool {
    let Acting { thread, is_worker } = acting();
    match ACTING.get() {
        // Whoever waits for it is counted as busy: nobody else will move it.
        Some(_) if is_worker => true,
        _ => !is_worker && clock.is_moved_by(thread),
    }
}
