//! The coroutine of a driver task: it steps handlers until one of them waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;

use super::Pump;
use super::work::{Progress, Work};
use crate::bus::Subscription;
use crate::python::bridge::guarded;

/// Handlers stepped before the loop gets a turn for its other work.
const SLICE: usize = 128;

/// Where a driver's state is: taken out while a step runs, because Python code never runs under
/// the lock, and for good when the driver has ended.
pub(super) type DriverCell = Mutex<Option<Box<DriverState>>>;

/// What a driver works at.
pub(super) struct DriverState {
    pump: Arc<Pump>,
    number: u64,
    work: Option<Work>,
    /// Whether this driver leads the ready list.
    leads: bool,
}

/// The coroutine of a driver task.
#[pyclass(name = "_Driver", module = "tiebeam._core", frozen)]
pub(super) struct Driver {
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

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.step(py, None)
    }

    fn send(&self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py, None)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        let exception = match value {
            Some(value) if !value.is_none() => value,
            _ if kind.is_instance_of::<pyo3::types::PyType>() => kind.call0()?,
            _ => kind,
        };
        self.step(py, Some(exception))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self) {
        let state = self.state.lock().take();
        drop(state);
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
        let state = DriverState { pump: pump.clone(), number, work, leads };
        let state = Arc::new(Mutex::new(Some(Box::new(state))));
        pump.drivers.lock().insert(number, Arc::downgrade(&state));
        Driver { state, cancelled: AtomicBool::new(false) }
    }

    fn step(
        &self,
        py: Python<'_>,
        thrown: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let Some(mut state) = self.state.lock().take() else {
            return match thrown {
                Some(thrown) => Err(PyErr::from_value(thrown)),
                None => Err(PyRuntimeError::new_err("this driver has ended, or runs already")),
            };
        };
        let result = guarded("drive handlers", || state.advance(py, &self.cancelled, thrown));
        if let Ok(Some(_)) = &result {
            *self.state.lock() = Some(state);
        }
        // Otherwise it has ended, and what it still held is handed back as it is dropped.
        result
    }
}

impl DriverState {
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
        self.pump.turns.fetch_add(1, Ordering::AcqRel);
        let mut slice = SLICE;
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
                    None if self.retire() => return Ok(None),
                    None => continue,
                }
            };
            let progress = if work.is_waiting() {
                work.resume(py, thrown.take())?
            } else if let Some(thrown) = thrown.take() {
                return Err(PyErr::from_value(thrown));
            } else if slice == 0 {
                return Ok(Some(py.None()));
            } else {
                slice -= 1;
                work.begin_next(py)?
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
                Progress::Settled => continue,
                Progress::Idle => {}
            }
            if !work.next_batch(py) {
                self.work = None;
            }
        }
    }

    /// This task's cancellation was one handler's affair. Its fallback, if it is to run, and
    /// the next events get other tasks; dropping the state hands over what is left.
    fn leave_task(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if let Some(mut work) = self.work.take_if(|work| work.has_fallback()) {
            work.put_back();
            if let Some(event_loop) = self.pump.event_loop.get(py) {
                self.pump.create_task(py, &event_loop, Some(work))?;
            }
        }
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

impl Drop for DriverState {
    fn drop(&mut self) {
        drop(self.work.take());
        self.stop_leading();
        self.pump.drivers.lock().remove(&self.number);
    }
}
