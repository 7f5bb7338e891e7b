//! What is under way with a time limit, and what happens when the time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::prelude::*;

use super::bridge::{Loop, Thread};
use crate::bus::Subscription;
use crate::event::Event;

/// Something under way that has a time limit.
pub(super) enum Limited {
    /// An async handler that waits for something.
    Task(Suspended),
    /// A sync handler on a worker thread, and which of its calls is meant.
    Call { call: Arc<dyn Overdue>, turn: u64 },
}

impl Limited {
    /// The time is up; called on the clock's thread, without the GIL.
    pub(super) fn expire(self) {
        match self {
            Limited::Task(suspended) => suspended.expire(),
            Limited::Call { call, turn } => call.expire(turn),
        }
    }
}

/// A sync handler cannot be cancelled: whoever runs it leaves it behind.
pub(super) trait Overdue: Send + Sync {
    /// The time of the call number `turn` is up; another one may be under way by now.
    fn expire(&self, turn: u64);

    /// Where the call number `turn` runs, and for whom; none if it has ended.
    fn at(&self, turn: u64) -> Option<(Thread, Arc<Subscription>, Arc<Event>)>;

    /// Whether the thread is still at that call, abandoned or not.
    fn is_at(&self, turn: u64) -> bool;
}

/// An async handler that waits, and the task it waits in.
pub(super) struct Suspended {
    pub task: Py<PyAny>,
    pub time: Arc<Time>,
    /// The address of its subscription.
    pub subscription: usize,
}

/// Whether a handler's time is up. Its task serves other handlers after it: a time limit that
/// comes too late must not hit one of them.
#[derive(Debug)]
pub(super) struct Time {
    event_loop: Arc<Loop>,
    state: AtomicU8,
}

impl Time {
    const UP: u8 = 1;
    const ENDED: u8 = 2;

    pub(super) fn new(event_loop: Arc<Loop>) -> Time {
        Time { event_loop, state: AtomicU8::new(0) }
    }

    /// The time is up; false when the handler has ended before.
    fn up(&self) -> bool {
        self.state.compare_exchange(0, Time::UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The handler has ended; returns whether its time was up before.
    pub(super) fn end(&self) -> bool {
        self.state.swap(Time::ENDED, Ordering::AcqRel) == Time::UP
    }
}

impl Suspended {
    /// The time is up: cancels the task from inside its loop.
    pub(super) fn expire(self) {
        let Suspended { task, time, .. } = self;
        let event_loop = time.event_loop.clone();
        event_loop.call(
            move |py, _| {
                if time.up() { task.call_method0(py, "cancel").map(drop) } else { Ok(()) }
            },
        );
    }
}
