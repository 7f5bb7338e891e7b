//! Whether resilience is on, and the clock of what lives as long as the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use crate::clock::Clock;
use crate::python::bridge::real_clock;
use crate::python::clock::PyClock;

static OFF: AtomicBool = AtomicBool::new(false);

/// Whether calls are to be guarded; tests may switch it off.
#[inline]
pub(super) fn active() -> bool {
    !OFF.load(Ordering::Relaxed)
}

/// The clock given, or the process's: the machine's time, or that of the test that runs.
pub(crate) fn clock_or_process(given: Option<&PyClock>) -> Clock {
    match given {
        Some(clock) => clock.inner().clone(),
        None => process_clock(),
    }
}

/// It starts nothing: a module may be imported, with all its policies, before a process forks.
fn process_clock() -> Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(|| Clock::following(real_clock().clone())).clone()
}

/// The clock of everything that is not given one.
#[pyfunction]
pub(crate) fn _process_clock() -> PyClock {
    process_clock().into()
}

/// Has that clock go as `clock` does, or as the machine's again; returns the one before.
#[pyfunction]
pub(crate) fn _stand_in(clock: Option<&PyClock>) -> Option<PyClock> {
    let before = process_clock().follow(clock.map(|clock| clock.inner().clone()));
    before.filter(Clock::is_virtual).map(PyClock::from)
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
