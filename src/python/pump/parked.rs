//! Driver tasks without work: they sleep until somebody needs one, because making a task costs
//! more than waking one.

use std::sync::Arc;

use pyo3::prelude::*;

use super::Pump;
use super::driver::{Driver, DriverState};
use super::eager::Tasks;
use super::work::Work;
use crate::python::bridge::ffi::GilCell;

/// How many sleep at most; those that have nothing to do beyond that end.
const MOST: usize = 64;

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

    /// Has it serve the ready list.
    pub fn lead(self, py: Python<'_>) -> PyResult<()> {
        self.driver.get().wake(py, DriverState::lead)
    }
}

/// The parked drivers of one loop.
pub(super) struct Parking(GilCell<Vec<Parked>>);

impl Parking {
    pub const fn new() -> Parking {
        Parking(GilCell::empty())
    }

    /// One of them, if there is any that nobody has cancelled.
    pub fn pop(&self, py: Python<'_>) -> Option<Parked> {
        let mut all = self.0.take(py)?;
        let mut found = None;
        while let Some(parked) = all.pop() {
            if parked.driver().is_parked() {
                found = Some(parked);
                break;
            }
        }
        drop(self.0.put(py, all));
        found
    }

    /// Whether there is room for one more.
    pub fn has_room(&self, py: Python<'_>) -> bool {
        let all = self.0.take(py).unwrap_or_default();
        let room = all.len() < MOST;
        drop(self.0.put(py, all));
        room
    }

    pub fn push(&self, py: Python<'_>, parked: Parked) {
        let mut all = self.0.take(py).unwrap_or_default();
        all.push(parked);
        drop(self.0.put(py, all));
    }

    /// Takes out those that have ended.
    pub fn sweep(&self, py: Python<'_>) {
        let Some(mut all) = self.0.take(py) else { return };
        let ended: Vec<Parked> =
            all.extract_if(.., |parked| !parked.driver().is_parked()).collect();
        drop(self.0.put(py, all));
        drop(ended); // with everything in place again: it may run anybody's code
    }

    /// All of them, to be ended.
    pub fn empty(&self, py: Python<'_>) -> Vec<Parked> {
        self.0.take(py).unwrap_or_default()
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
        Ok(Parked { task, driver })
    }

    /// Keeps a driver that begins to sleep, in the middle of a step of its task.
    pub(super) fn keep_parked(&self, driver: &Bound<'_, Driver>) -> PyResult<()> {
        let py = driver.py();
        let Some(event_loop) = self.event_loop.get(py) else { return Ok(()) };
        let task = Tasks::get(py)?.current.bind(py).call1((event_loop,))?.unbind();
        self.parked.push(py, Parked { task, driver: driver.clone().unbind() });
        Ok(())
    }

    /// Nobody needs drivers on this loop any more: those that sleep end.
    pub(super) fn dismiss(&self, py: Python<'_>) {
        for parked in self.parked.empty(py) {
            if let Err(error) = parked.driver.get().end(py) {
                error.write_unraisable(py, None);
            }
        }
    }
}
