//! So many calls at once.

use std::time::Duration;

use pyo3::prelude::*;

use super::switch::{active, clock_or_process};
use crate::clock::Clock;
use crate::error::{Error, Kind};
use crate::python::args::{Given, seconds, whole};
use crate::python::blocking::wait_for;
use crate::python::bridge::{Loop, RustAwaitable, runtime};
use crate::python::clock::PyClock;
use crate::resilience::{Acquire, Bulkhead, BulkheadSettings, NoPlace, Place};

/// The bulkhead behind `tiebeam.resilience.Bulkhead`.
#[pyclass(name = "_Bulkhead", module = "tiebeam._core", frozen)]
pub(crate) struct PyBulkhead {
    name: String,
    settings: BulkheadSettings,
    bulkhead: Bulkhead,
    clock: Clock,
}

impl PyBulkhead {
    fn refused(name: &str, settings: BulkheadSettings, why: NoPlace) -> Error {
        let BulkheadSettings { max_concurrent, max_waiting, max_wait } = settings;
        let message = match why {
            NoPlace::Full => format!(
                "bulkhead `{name}` is full: {max_concurrent} calls run and {max_waiting} wait"
            ),
            NoPlace::TimedOut => format!(
                "bulkhead `{name}` had no place within {} s: {max_concurrent} calls run",
                max_wait.unwrap_or_default().as_secs_f64()
            ),
        };
        let reason = match why {
            NoPlace::Full => "full",
            NoPlace::TimedOut => "max_wait",
        };
        Error::new(Kind::BulkheadFull, "call through bulkhead", message)
            .with("name", name)
            .with("reason", reason)
    }

    /// The place is given back by `leave`, and not when it is forgotten here.
    fn taken(
        name: &str,
        settings: BulkheadSettings,
        place: Result<Place, NoPlace>,
    ) -> PyResult<bool> {
        match place {
            Ok(place) => {
                place.keep();
                Ok(true)
            }
            Err(why) => Err(PyBulkhead::refused(name, settings, why).into()),
        }
    }

    fn line(&self) -> Acquire {
        self.bulkhead.acquire()
    }
}

#[pymethods]
impl PyBulkhead {
    #[new]
    #[pyo3(signature = (name, max_concurrent, max_waiting, max_wait=None, clock=None))]
    fn new(
        name: String,
        max_concurrent: &Bound<'_, PyAny>,
        max_waiting: &Bound<'_, PyAny>,
        max_wait: Given<'_, '_>,
        clock: Option<&PyClock>,
    ) -> PyResult<Self> {
        let max_concurrent = whole("max_concurrent", Some(max_concurrent))?.unwrap_or_default();
        let max_waiting = whole("max_waiting", Some(max_waiting))?.unwrap_or_default();
        let max_wait: Option<Duration> = seconds("max_wait", max_wait)?;
        let settings = BulkheadSettings { max_concurrent, max_waiting, max_wait };
        let clock = clock_or_process(clock);
        let bulkhead = Bulkhead::new(settings, clock.clone())?;
        Ok(PyBulkhead { name, settings, bulkhead, clock })
    }

    /// Takes a place if there is one: true then, `None` while resilience is off, else false.
    fn enter(&self) -> Option<bool> {
        active().then(|| {
            self.bulkhead.try_acquire().is_some_and(|place| {
                place.keep();
                true
            })
        })
    }

    /// Waits in line for a place.
    fn arrive(&self, py: Python<'_>) -> PyResult<RustAwaitable> {
        runtime(py)?; // what wakes it when the longest wait is over
        let (name, settings, line) = (self.name.clone(), self.settings, self.line());
        Ok(RustAwaitable::new(async move {
            let place = line.await;
            Python::attach(|py| {
                let taken = PyBulkhead::taken(&name, settings, place)?;
                Ok(taken.into_pyobject(py)?.to_owned().into_any().unbind())
            })
        }))
    }

    /// Blocks this thread in line for a place.
    fn arrive_sync(&self, py: Python<'_>) -> PyResult<bool> {
        if Loop::running(py)?.is_some() {
            let name = &self.name;
            let message = format!(
                "waiting for a place in bulkhead `{name}` would block this event loop, and with \
                 it whoever has one here; call it from a coroutine, or on a thread"
            );
            return Err(Error::new(Kind::WouldDeadlock, "wait for a place", message).into());
        }
        runtime(py)?; // as above
        let place = wait_for(py, &self.clock, self.line(), "wait for a place")?;
        PyBulkhead::taken(&self.name, self.settings, place)
    }

    /// Gives the place back that `enter` or `arrive` gave.
    fn leave(&self) {
        self.bulkhead.give_back();
    }

    /// Calls that run, and calls that wait.
    #[getter]
    fn load(&self) -> (usize, usize) {
        self.bulkhead.load()
    }
}
