//! Whether resilience is on, and the clock of what lives as long as the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use crate::clock::Clock;
use crate::python::bridge::runtime;
use crate::python::clock::PyClock;

static OFF: AtomicBool = AtomicBool::new(false);

/// Whether calls are to be guarded; tests may switch it off.
#[inline]
pub(super) fn active() -> bool {
    !OFF.load(Ordering::Relaxed)
}

/// The clock given, or the process's: the machine's time, or that of the test that runs.
pub(crate) fn clock_or_process(py: Python<'_>, given: Option<&PyClock>) -> PyResult<Clock> {
    match given {
        Some(clock) => Ok(clock.inner().clone()),
        None => process_clock(py),
    }
}

fn process_clock(py: Python<'_>) -> PyResult<Clock> {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    let real = runtime(py)?.clock().clone();
    Ok(CLOCK.get_or_init(|| Clock::following(real)).clone())
}

/// The clock of everything that is not given one.
#[pyfunction]
pub(crate) fn _process_clock(py: Python<'_>) -> PyResult<PyClock> {
    process_clock(py).map(PyClock::from)
}

/// Has that clock go as `clock` does, or as the machine's again; returns the one before.
#[pyfunction]
pub(crate) fn _stand_in(py: Python<'_>, clock: Option<&PyClock>) -> PyResult<Option<PyClock>> {
    let following = process_clock(py)?;
    let before = following.follow(clock.map(|clock| clock.inner().clone()));
    Ok(before.filter(Clock::is_virtual).map(PyClock::from))
}

/// Whether resilience is on.
#[pyfunction]
pub(crate) fn _resilience_active() -> bool {
    active()
}

/// Switches it on or off; returns what it was.
#[pyfunction]
pub(crate) fn _set_resilience(active: bool) -> bool {
    !OFF.swap(!active, Ordering::Relaxed)
}
