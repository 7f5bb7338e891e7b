//! The coroutine of a driver task: it steps handlers until one of them waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;

use super::Pump;
use super::slice::Slice;
use super::work::{Progress, Work};
use crate::bus::Subscription;
use crate::event::Event;
use crate::python::bridge::ffi::GilCell;
use crate::python::bridge::{guarded, resolve, sleep_on, thrown, with_python};
use crate::python::handler::is_cancelled;

/// Where a driver's state is: taken out while a step runs, and for good when the driver has ended.
pub(super) type DriverCell = GilCell<Box<DriverState>>;

/// What a driver works at.
pub(super) struct DriverState {
    pump: Arc<Pump>,
    number: u64,
    work: Option<Work>,
    /// Whether this driver leads the ready list.
    leads: bool,
    /// Whether it sleeps until it is given work.
    parks: bool,
    /// What its task sleeps on meanwhile.
    sleeps_on: Option<Py<PyAny>>,
    /// What the handler that it was given waits for, until its task waits for that.
    hands_on: Option<Py<PyAny>>,
}

/// The coroutine of a driver task.
#[pyclass(name = "_Driver", module = "tiebeam._core", frozen)]
pub(super) struct Driver {
    pump: Arc<Pump>,
    number: u64,
    state: Arc<DriverCell>,
    cancelled: AtomicBool,
}

#[pymethods]
impl Driver {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Driver::step(slf, None)
    }

    fn send(slf: &Bound<'_, Self>, _value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        Driver::step(slf, None)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        slf: &Bound<'_, Self>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        Driver::step(slf, Some(thrown(kind, value)?))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// Ends it where it stands; what it still held is handed back.
    pub(super) fn close(&self, py: Python<'_>) {
        drop(self.state.take(py));
    }

    /// Called by the task when somebody cancels it.
    fn note_cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

impl Driver {
    /// A driver for `work`; without any it leads, and serves the ready list.
    pub(super) fn new(pump: &Arc<Pump>, work: Option<Work>) -> Driver {
        let number = pump.last_driver.fetch_add(1, Ordering::Relaxed);
        let leads = work.is_none();
        let driver = Driver::make(pump, number, work, leads, false);
        driver.enlist();
        driver
    }

    /// A driver that waits to be given work.
    pub(super) fn parked(pump: &Arc<Pump>) -> Driver {
        let number = pump.last_driver.fetch_add(1, Ordering::Relaxed);
        Driver::make(pump, number, None, false, true)
    }

    fn make(pump: &Arc<Pump>, number: u64, work: Option<Work>, leads: bool, parks: bool) -> Driver {
        let state = DriverState {
            pump: pump.clone(),
            number,
            work,
            leads,
            parks,
            sleeps_on: None,
            hands_on: None,
        };
        let state = Arc::new(DriverCell::of(Box::new(state)));
        Driver { pump: pump.clone(), number, state, cancelled: AtomicBool::new(false) }
    }

    /// Has the pump know of it: its handlers are to be told when the loop is gone.
    fn enlist(&self) {
        self.pump.drivers.lock().insert(self.number, Arc::downgrade(&self.state));
    }

    /// Does something with the state, if it is there; runs nobody else's code.
    fn with<R>(&self, py: Python<'_>, act: impl FnOnce(&mut DriverState) -> R) -> Option<R> {
        let mut state = self.state.take(py)?;
        let result = act(&mut state);
        drop(self.state.put(py, state)); // nothing was put there meanwhile
        Some(result)
    }

    /// Whether it still waits to be given work.
    pub(super) fn is_parked(&self, py: Python<'_>) -> bool {
        !self.is_cancelled() && self.with(py, |state| state.parks).unwrap_or(false)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Wakes a driver that sleeps, with something to do.
    pub(super) fn wake(&self, py: Python<'_>, give: impl FnOnce(&mut DriverState)) -> PyResult<()> {
        let sleeps_on = self.with(py, |state| {
            give(state);
            state.parks = false;
            state.sleeps_on.take()
        });
        if sleeps_on.is_some() {
            self.enlist();
        }
        stir(py, sleeps_on.flatten())
    }

    /// Ends a driver that sleeps.
    pub(super) fn end(&self, py: Python<'_>) -> PyResult<()> {
        let sleeps_on = self.with(py, |state| {
            state.parks = false;
            state.sleeps_on.take()
        });
        stir(py, sleeps_on.flatten())
    }

    fn step(
        slf: &Bound<'_, Self>,
        thrown: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        let Some(mut state) = this.state.take(py) else {
            return match thrown {
                Some(thrown) => Err(PyErr::from_value(thrown)),
                None => Err(PyRuntimeError::new_err("this driver has ended, or runs already")),
            };
        };
        let parked = state.parks;
        let pump = &this.pump;
        let (running, at_work) = (pump.event_loop.now_running(), pump.at_work());
        let result = guarded("drive handlers", || state.advance(py, &this.cancelled, thrown));
        drop((running, at_work));
        if let Ok(Some(_)) = &result {
            let parks = state.parks && !parked;
            drop(this.state.put(py, state)); // it was taken out for this step
            if parks {
                pump.keep_parked(slf)?;
            }
        }
        // Otherwise it has ended, and what it still held is handed back as it is dropped.
        result
    }
}

/// The coroutine of the handler that waits in `task`, and its event, if that is a driver's.
pub(in crate::python) fn waiting_in<'py>(
    task: &Bound<'py, PyAny>,
) -> Option<(Bound<'py, PyAny>, Arc<Event>)> {
    let driver = task.call_method0("get_coro").ok()?;
    let driver = driver.cast_into::<Driver>().ok()?;
    let py = task.py();
    driver.get().with(py, |state| state.work.as_ref()?.waits(py)).flatten()
}

/// Wakes a task from its sleep; one that has not begun to sleep needs no waking.
fn stir(py: Python<'_>, sleeps_on: Option<Py<PyAny>>) -> PyResult<()> {
    sleeps_on.map_or(Ok(()), |future| resolve(future.bind(py)))
}

impl DriverState {
    /// Goes on with a handler that waits for something.
    pub(super) fn carry_on(&mut self, work: Work, on: Py<PyAny>) {
        self.work = Some(work);
        self.hands_on = Some(on);
    }

    /// Goes on with what was begun.
    pub(super) fn go_on(&mut self, work: Work) {
        self.work = Some(work);
    }

    /// Serves the ready list, which waits for its leader.
    pub(super) fn lead(&mut self) {
        self.leads = true;
    }

    /// Whose events it has.
    pub(super) fn subscription(&self) -> Option<&Arc<Subscription>> {
        self.work.as_ref().map(Work::subscription)
    }

    /// Steps handlers until one waits (its future is returned), the slice is used up (None is
    /// yielded), or there is nothing left to do.
    fn advance(
        &mut self,
        py: Python<'_>,
        cancelled: &AtomicBool,
        mut thrown: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        self.pump.turn();
        if let Some(on) = self.hands_on.take() {
            match thrown.take() {
                // Its task was cancelled before it came to wait for this: as asyncio does, what
                // it waits for is cancelled instead, and tells it.
                Some(error)
                    if is_cancelled(py, &PyErr::from_value(error.clone()))
                        && cancels(on.bind(py))? =>
                {
                    self.pump.watch_loop();
                    return Ok(Some(on));
                }
                // What is thrown in takes the place of what the handler was to wait for.
                Some(error) => thrown = Some(error),
                // One that let the loop have its turn has had it: this is the next one.
                None => {
                    self.pump.watch_loop();
                    if !on.is_none(py) {
                        return Ok(Some(on));
                    }
                }
            }
        }
        if self.parks && thrown.is_none() {
            return self.sleep(py).map(Some);
        }
        let mut slice = Slice::default();
        loop {
            let Some(work) = &mut self.work else {
                if let Some(thrown) = thrown.take() {
                    return Err(PyErr::from_value(thrown));
                }
                let next = self.pump.ready.pop();
                match next {
                    Some(ready) => {
                        self.work = Work::claim(ready);
                        continue;
                    }
                    None if self.retire() => return self.park(py, cancelled),
                    None => continue,
                }
            };
            let progress = if work.is_waiting() {
                self.pump.begins(work.subscription());
                work.resume(py, thrown.take())?
            } else if let Some(thrown) = thrown.take() {
                return Err(PyErr::from_value(thrown));
            } else {
                self.pump.begins(work.subscription());
                work.begin_next(py, &self.pump.event_loop, slice.is_new())?
            };
            match progress {
                Progress::Waits { on, first } => {
                    if first {
                        self.hand_over();
                    }
                    return Ok(Some(on));
                }
                Progress::Settled if cancelled.load(Ordering::Acquire) => {
                    return self.leave_task(py);
                }
                Progress::Settled if slice.is_over(self.pump.runtime.clock()) => {
                    return Ok(Some(py.None()));
                }
                Progress::Settled => continue,
                Progress::Idle => {}
            }
            if !work.next_batch(py) {
                self.work = None;
            }
        }
    }

    /// There is nothing to do: it sleeps, if one more may, or ends.
    fn park(&mut self, py: Python<'_>, cancelled: &AtomicBool) -> PyResult<Option<Py<PyAny>>> {
        let wanted = self.pump.users.load(Ordering::Acquire) > 0
            && !cancelled.load(Ordering::Acquire)
            && self.pump.parked.has_room();
        if !wanted {
            return Ok(None);
        }
        let sleeps_on = self.sleep(py)?;
        self.parks = true;
        self.pump.drivers.lock().remove(&self.number);
        self.pump.watch_sleepers();
        Ok(Some(sleeps_on))
    }

    /// What a parked driver's task sleeps on.
    fn sleep(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(event_loop) = self.pump.event_loop.get(py) else {
            return Err(PyRuntimeError::new_err("the event loop is gone"));
        };
        let future = sleep_on(&event_loop)?;
        self.sleeps_on = Some(future.clone().unbind());
        Ok(future.unbind())
    }

    /// This task was cancelled: what is left gets another one.
    fn leave_task(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.work.take().map_or(Ok(()), |work| self.pump.move_on(py, work))?;
        Ok(None)
    }

    /// A handler waits: another driver takes the rest.
    fn hand_over(&mut self) {
        if let Some(work) = &mut self.work {
            work.put_back();
        }
        self.stop_leading();
        self.pump.watch_loop();
    }

    fn stop_leading(&mut self) {
        if !std::mem::take(&mut self.leads) {
            return;
        }
        if self.pump.ready.stop_leading() {
            self.pump.start_driver();
        }
    }

    /// Ends this driver's turn, unless work came at the last moment.
    fn retire(&mut self) -> bool {
        if !self.leads {
            return true;
        }
        self.leads = !self.pump.ready.retire();
        !self.leads
    }
}

/// Cancels what a handler waits for; false where that cannot be cancelled any more, or is nothing.
fn cancels(on: &Bound<'_, PyAny>) -> PyResult<bool> {
    if on.is_none() {
        return Ok(false);
    }
    on.call_method0(pyo3::intern!(on.py(), "cancel"))?.is_truthy()
}

impl Drop for DriverState {
    fn drop(&mut self) {
        drop(self.work.take());
        self.stop_leading();
        self.pump.drivers.lock().remove(&self.number);
        if self.parks {
            // Cancelled in its sleep: nobody else takes it out.
            with_python(|py| self.pump.parked.sweep(py));
        }
    }
}
