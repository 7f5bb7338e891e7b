//! The clock as Python sees it: what `tiebeam.testing` moves.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::args::{Seconds, seconds};
use super::blocking::wait;
use super::bridge::{Loop, RustAwaitable, activity, runtime};
use crate::clock::{Clock, Timer};
use crate::topic::{Pattern, Topic};

/// The machine's clock, or one that a test moves.
#[pyclass(name = "Clock", module = "tiebeam._core", frozen)]
pub(super) struct PyClock(Clock);

impl From<Clock> for PyClock {
    fn from(clock: Clock) -> PyClock {
        PyClock(clock)
    }
}

impl PyClock {
    pub(super) fn inner(&self) -> &Clock {
        &self.0
    }
}

#[pymethods]
impl PyClock {
    /// The machine's clock.
    #[staticmethod]
    fn real(py: Python<'_>) -> PyResult<PyClock> {
        Ok(PyClock(runtime(py)?.clock().clone()))
    }

    /// A clock that stands still until it is moved; `start` in Unix seconds.
    #[staticmethod]
    #[pyo3(signature = (start=1_700_000_000.0))]
    fn simulated(py: Python<'_>, start: f64) -> PyResult<PyClock> {
        runtime(py)?; // the exit hooks belong to every use of the core
        Ok(PyClock(Clock::simulated((start * 1000.0) as i64)))
    }

    #[getter]
    fn is_virtual(&self) -> bool {
        self.0.is_virtual()
    }

    /// Seconds since the clock was made; never steps back.
    fn monotonic(&self) -> f64 {
        self.0.now().as_secs_f64()
    }

    /// Unix time in milliseconds.
    fn unix_ms(&self) -> i64 {
        self.0.unix_ms()
    }

    /// When the next timer fires, in seconds as `monotonic`.
    fn next_due(&self) -> Option<f64> {
        self.0.next_due().map(crate::clock::Instant::as_secs_f64)
    }

    /// Moves a virtual clock to its next timer at or before `until` (in nanoseconds since the
    /// clock was made) and fires it. False, with the time moved to `until`, when there is none.
    fn step(&self, py: Python<'_>, until: u64) -> PyResult<bool> {
        if !self.0.is_virtual() {
            return Err(PyRuntimeError::new_err("only a simulated clock can be moved"));
        }
        Ok(py.detach(|| self.0.step(crate::clock::Instant::from_nanos(until))))
    }

    /// Nanoseconds since the clock was made.
    fn nanos(&self) -> u64 {
        self.0.now().as_nanos()
    }

    /// Calls `callback` on the running loop after `delay` seconds; what a test's event loop
    /// builds its own timers on.
    fn call_at(&self, py: Python<'_>, at: f64, callback: Py<PyAny>) -> PyResult<PyTimer> {
        let event_loop = Loop::running(py)?
            .ok_or_else(|| PyRuntimeError::new_err("timers need a running event loop"))?;
        let at = crate::clock::Instant::ZERO
            .saturating_add(Duration::try_from_secs_f64(at.max(0.0)).unwrap_or(Duration::MAX));
        let timer = self.0.schedule_at(at, move || {
            event_loop.call(move |py, _| callback.call0(py).map(drop));
        });
        Ok(PyTimer(Mutex::new(Some(timer))))
    }

    /// Waits for `delay` seconds; to be awaited.
    fn sleep(&self, py: Python<'_>, delay: Seconds) -> PyResult<RustAwaitable> {
        runtime(py)?; // what wakes it
        let sleep = self.0.sleep(delay.0);
        Ok(RustAwaitable::new(async move {
            sleep.await;
            Ok(Python::attach(|py| py.None()))
        }))
    }

    /// Blocks this thread for `delay` seconds.
    ///
    /// A virtual clock is moved on from here, if this is the thread that made it, or that moved it
    /// last; any other one waits for the test.
    fn wait(&self, py: Python<'_>, delay: Seconds) -> PyResult<()> {
        wait(py, &self.0, delay.0)
    }

    fn __repr__(&self) -> String {
        format!("<{:?}>", self.0)
    }
}

/// A waiting timer.
#[pyclass(name = "_Timer", module = "tiebeam._core", frozen)]
pub(super) struct PyTimer(Mutex<Option<Timer>>);

#[pymethods]
impl PyTimer {
    fn cancel(&self) {
        let timer = self.0.lock().take();
        drop(timer);
    }
}

/// How many things are under way outside the event loops.
#[pyfunction]
pub(super) fn _busy() -> usize {
    activity::busy()
}

/// Something begins on a thread that the core did not start.
#[pyfunction]
pub(super) fn _begin_activity() {
    activity::begin();
}

/// What this thread does is counted by whoever started it.
#[pyfunction]
pub(super) fn _join_activity() {
    activity::join();
}

/// It has ended.
#[pyfunction]
pub(super) fn _end_activity() {
    activity::end();
}

/// Has the running loop woken when nothing is under way any more.
#[pyfunction]
pub(super) fn _watch_activity(py: Python<'_>, on: bool) -> PyResult<()> {
    if let Some(event_loop) = Loop::running(py)? {
        if on {
            activity::watch(event_loop);
        } else {
            activity::unwatch(&event_loop);
        }
    }
    Ok(())
}

/// One duration in seconds from a number or a timedelta, by the rules of all arguments; errors
/// call it by its `name`.
#[pyfunction]
#[pyo3(signature = (value, name="value", /))]
pub(super) fn _seconds(value: &Bound<'_, PyAny>, name: &str) -> PyResult<f64> {
    Ok(seconds(name, Some(value))?.unwrap_or_default().as_secs_f64())
}

/// Whether a pattern matches a topic, by the rules of the bus.
#[pyfunction]
pub(super) fn _matches(pattern: &str, topic: &str) -> PyResult<bool> {
    Ok(Pattern::parse(pattern)?.matches(&Topic::parse(topic)?))
}
