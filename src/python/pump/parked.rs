//! Driver tasks without work: they sleep until somebody needs one, because making a task costs
//! more than waking one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::prelude::*;

use super::driver::{Driver, DriverState};
use super::work::Work;
use super::{PATIENCE, Pump};
use crate::python::bridge::ffi::GilCell;
use crate::python::bridge::{Tasks, with_python};

/// How many sleep at most; those that have nothing to do beyond that end.
const MOST: usize = 64;

/// How often it is looked whether the loop of those that sleep was closed.
const REST: Duration = Duration::from_secs(30);

/// A driver without work, and its task.
pub(super) struct Parked {
    pub task: Py<PyAny>,
    driver: Py<Driver>,
}

impl Parked {
    pub fn driver(&self) -> &Driver {
        self.driver.get()
    }

    /// Gives it a handler that waits for something: the task waits for that from now on.
    pub fn adopt(self, py: Python<'_>, work: Work, on: Py<PyAny>) -> PyResult<()> {
        self.driver.get().wake(py, |state| state.carry_on(work, on))
    }

    /// Gives it what was begun and did not get done, and perhaps the ready list too.
    pub fn go_on(self, py: Python<'_>, work: Work, leads: bool) -> PyResult<()> {
        self.driver.get().wake(py, |state| {
            state.go_on(work);
            if leads {
                state.lead();
            }
        })
    }

    /// Has it serve the ready list.
    pub fn lead(self, py: Python<'_>) -> PyResult<()> {
        self.driver.get().wake(py, DriverState::lead)
    }
}

/// The parked drivers of one loop.
pub(super) struct Parking {
    all: GilCell<Vec<Parked>>,
    /// How many there are, for those who do not hold the GIL.
    count: AtomicUsize,
}

impl Parking {
    pub const fn new() -> Parking {
        Parking { all: GilCell::empty(), count: AtomicUsize::new(0) }
    }

    /// `act` runs nobody else's code: what it takes out is dropped by the caller.
    fn with<R>(&self, py: Python<'_>, act: impl FnOnce(&mut Vec<Parked>) -> R) -> R {
        let mut all = self.all.take(py).unwrap_or_default();
        let result = act(&mut all);
        self.count.store(all.len(), Ordering::Release);
        drop(self.all.put(py, all)); // nothing was put there meanwhile
        result
    }

    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether one more may sleep.
    pub fn has_room(&self) -> bool {
        self.count.load(Ordering::Acquire) < MOST
    }

    pub fn push(&self, py: Python<'_>, parked: Parked) {
        self.with(py, |all| all.push(parked));
    }

    /// One of them, if there is any that nobody has cancelled.
    pub fn pop(&self, py: Python<'_>) -> Option<Parked> {
        loop {
            let last = self.with(py, Vec::pop)?;
            if last.driver().is_parked(py) {
                return Some(last);
            }
        }
    }

    /// Takes out those that have ended.
    pub fn sweep(&self, py: Python<'_>) {
        let ended = self.with(py, |all| -> Vec<Parked> {
            all.extract_if(.., |parked| !parked.driver().is_parked(py)).collect()
        });
        drop(ended); // with everything in place again: it may run anybody's code
    }

    /// Ends all of them by waking them.
    fn end(&self, py: Python<'_>) {
        for parked in self.with(py, std::mem::take) {
            if let Err(error) = parked.driver().end(py) {
                error.write_unraisable(py, None);
            }
        }
    }

    /// Ends all of them where they lie: their loop will not step them any more. Each task and
    /// what it sleeps on hold each other, and the loop, until then.
    pub fn close(&self, py: Python<'_>) {
        for parked in self.with(py, std::mem::take) {
            parked.driver().close(py);
        }
    }
}

impl Pump {
    /// A new driver that sleeps, and is not kept anywhere yet.
    pub(super) fn park_new(
        self: &Arc<Self>,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<Parked> {
        let driver = Py::new(py, Driver::parked(self))?;
        let task = self.create_driver_task(py, event_loop, driver.clone_ref(py))?;
        self.watch_sleepers();
        Ok(Parked { task, driver })
    }

    /// Keeps a driver that begins to sleep, in the middle of a step of its task.
    pub(super) fn keep_parked(&self, driver: &Bound<'_, Driver>) -> PyResult<()> {
        let py = driver.py();
        let Some(event_loop) = self.event_loop.get(py) else { return Ok(()) };
        if let Some(task) = Tasks::get(py)?.current(&event_loop)? {
            let parked = Parked { task: task.unbind(), driver: driver.clone().unbind() };
            self.parked.push(py, parked);
        }
        Ok(())
    }

    /// Nobody needs a driver on this loop any more: those that sleep are to end. Runs no Python,
    /// because whoever calls this may hold a lock.
    pub(super) fn dismiss(self: &Arc<Self>) {
        if self.parked.is_empty() {
            return;
        }
        let pump = Arc::downgrade(self); // a loop that is closed never gets to it
        self.event_loop.call(move |py, _| {
            if let Some(pump) = pump.upgrade()
                && pump.users.load(Ordering::Acquire) == 0
            {
                pump.parked.end(py);
            }
            Ok(())
        });
        self.look_at_sleepers(PATIENCE, |pump| &pump.dismissing);
    }

    /// Looks now and then whether the loop was closed, as long as drivers sleep there: they keep
    /// it alive, and nobody else may ever come to see it.
    pub(super) fn watch_sleepers(self: &Arc<Self>) {
        self.look_at_sleepers(REST, |pump| &pump.sleepers_watched);
    }

    /// Looks once, `after` so long; `set` says that somebody is about to.
    fn look_at_sleepers(self: &Arc<Self>, after: Duration, set: fn(&Pump) -> &AtomicBool) {
        if set(self).swap(true, Ordering::AcqRel) {
            return;
        }
        let pump = Arc::downgrade(self);
        let look = move || {
            let Some(pump) = pump.upgrade() else { return };
            // Off the clock's thread: looking takes the GIL.
            let handle = pump.runtime.handle().clone();
            handle.spawn_blocking(move || {
                with_python(|py| {
                    set(&pump).store(false, Ordering::Release);
                    if pump.event_loop.is_gone(py) {
                        pump.orphan_all(py);
                    } else if !pump.parked.is_empty() {
                        pump.watch_sleepers();
                    }
                })
            });
        };
        self.runtime.clock().schedule(after, look).detach();
    }
}
