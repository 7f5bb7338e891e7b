//! Handlers stepped in the name of a driver task that sleeps, by whoever runs on the loop's thread
//! anyway: waking the task would take one more turn of the loop.
//!
//! The task is made the current one meanwhile, by the means that asyncio has for whoever runs
//! tasks, so that a handler finds what it would find there. Where a handler waits, the task is
//! woken after all, and goes on with it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;

use super::driver::Driver;
use super::parked::Parked;
use super::slice::Slice;
use super::work::{Progress, Work};
use super::{Pump, Ready};
use crate::python::bridge::{Tasks, guarded};

/// What standing in for a driver came to.
pub(super) enum StoodIn {
    /// There is nothing left to do.
    Done,
    /// A handler waits for this.
    Waits(Work, Py<PyAny>),
    /// The loop is to have its turn; whether the ready list goes on, too.
    Pauses { work: Work, leads: bool },
    /// A handler cancelled the task, which takes no other event.
    Cancelled(Work),
}

impl Pump {
    /// Has `act` run in the name of a driver that sleeps, instead of the `current` task, and
    /// hands on what that leaves.
    pub(super) fn stand_in<'py>(
        self: &Arc<Self>,
        event_loop: &Bound<'py, PyAny>,
        current: Option<Bound<'py, PyAny>>,
        parked: Parked,
        act: impl FnOnce(&Driver) -> PyResult<StoodIn>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        let tasks = Tasks::get(py)?;
        let task = parked.task.bind(py);
        tasks.exchange(event_loop, current.as_ref(), Some(task))?;
        let at_work = self.at_work();
        // A panic, too, gives the task its place back.
        let came_to = guarded("drive handlers", || act(parked.driver()));
        drop(at_work);
        tasks.exchange(event_loop, Some(task), current.as_ref())?;
        let came_to = match came_to {
            Ok(StoodIn::Waits(work, on)) => return parked.adopt(py, work, on),
            Ok(StoodIn::Pauses { work, leads }) => return parked.go_on(py, work, leads),
            Ok(StoodIn::Cancelled(work)) => self.move_on(py, work),
            Ok(StoodIn::Done) => Ok(()),
            Err(error) => Err(error),
        };
        if self.users.load(Ordering::Acquire) > 0 {
            self.parked.push(py, parked);
        } else if let Err(error) = parked.driver().end(py) {
            error.write_unraisable(py, None); // the last one who needs it has gone meanwhile
        }
        came_to
    }

    /// Runs the handlers of one claim.
    pub(super) fn serve_one(
        &self,
        py: Python<'_>,
        ready: Ready,
        driver: &Driver,
    ) -> PyResult<StoodIn> {
        match Work::claim(ready) {
            Some(work) => self.work_off(py, work, driver, &mut Slice::default()),
            None => Ok(StoodIn::Done),
        }
    }

    /// Leads the ready list, in a callback of the loop.
    pub(super) fn lead_here(
        self: &Arc<Self>,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let began = Cell::new(false);
        let led = match self.parked.pop(py) {
            None => {
                let created = self.create_task(py, event_loop, None);
                began.set(created.is_ok());
                created
            }
            Some(parked) => {
                self.turn();
                self.stand_in(event_loop, None, parked, |driver| {
                    began.set(true);
                    let came_to = guarded("drive handlers", || self.serve_list(py, driver));
                    let leads = matches!(came_to, Ok(StoodIn::Done | StoodIn::Pauses { .. }));
                    if !leads && self.ready.stop_leading() {
                        self.start_driver();
                    }
                    came_to
                })
            }
        };
        if !began.get() {
            self.ready.leaderless();
        }
        led
    }

    fn serve_list(&self, py: Python<'_>, driver: &Driver) -> PyResult<StoodIn> {
        let mut slice = Slice::default();
        loop {
            let work = match self.ready.pop() {
                Some(ready) => Work::claim(ready),
                None if self.ready.retire() => return Ok(StoodIn::Done),
                None => None, // it came at the last moment
            };
            let Some(work) = work else { continue };
            match self.work_off(py, work, driver, &mut slice)? {
                StoodIn::Done => {}
                StoodIn::Pauses { work, .. } => return Ok(StoodIn::Pauses { work, leads: true }),
                other => return Ok(other),
            }
        }
    }

    /// Runs handlers until one waits, the slice is used up, or there is nothing more to do.
    fn work_off(
        &self,
        py: Python<'_>,
        mut work: Work,
        driver: &Driver,
        slice: &mut Slice,
    ) -> PyResult<StoodIn> {
        loop {
            self.begins(work.subscription());
            // Each request may open a turn of its own: they are measured like any dense sequence.
            match work.begin_next(py, &self.event_loop, false)? {
                Progress::Waits { on, .. } => {
                    work.put_back(); // what else was pulled
                    return Ok(StoodIn::Waits(work, on));
                }
                Progress::Settled if driver.is_cancelled() => return Ok(StoodIn::Cancelled(work)),
                Progress::Settled if slice.is_over(self.runtime.clock()) => {
                    return Ok(StoodIn::Pauses { work, leads: false });
                }
                Progress::Settled => {}
                Progress::Idle if work.next_batch(py) => {}
                Progress::Idle => return Ok(StoodIn::Done),
            }
        }
    }

    /// The task in which `work` was done has been cancelled, which was one handler's affair: its
    /// fallback, if it is to run, and the next events get other tasks.
    pub(super) fn move_on(self: &Arc<Self>, py: Python<'_>, mut work: Work) -> PyResult<()> {
        // Dropped, it hands over what is left to whoever is told then.
        if work.has_fallback()
            && let Some(event_loop) = self.event_loop.get(py)
        {
            work.put_back();
            self.create_task(py, &event_loop, Some(work))?;
        }
        Ok(())
    }
}
