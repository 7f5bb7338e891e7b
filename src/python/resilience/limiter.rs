//! So many calls per period.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::switch::{active, clock_or_process};
use crate::error::{Error, Kind};
use crate::python::args::{Given, seconds, whole};
use crate::python::clock::PyClock;
use crate::resilience::{RateExceeded, RateLimit, RateLimiter, Reservation};

/// The limiter behind `tiebeam.resilience.RateLimiter`.
#[pyclass(name = "_Limiter", module = "tiebeam._core", frozen)]
pub(crate) struct PyLimiter {
    name: String,
    rate: RateLimit,
    limiter: RateLimiter,
}

#[pymethods]
impl PyLimiter {
    #[new]
    #[pyo3(signature = (name, limit, period, max_wait=None, clock=None))]
    fn new(
        name: String,
        limit: &Bound<'_, PyAny>,
        period: Given<'_, '_>,
        max_wait: Given<'_, '_>,
        clock: Option<&PyClock>,
    ) -> PyResult<Self> {
        let limit = whole("limit", Some(limit))?.unwrap_or_default();
        let period = seconds("period", period)?.unwrap_or(Duration::from_secs(1));
        let max_wait = seconds("max_wait", max_wait)?.unwrap_or_default();
        let rate = RateLimit { limit, period, max_wait };
        let limiter = RateLimiter::new(rate, clock_or_process(clock))?;
        Ok(PyLimiter { name, rate, limiter })
    }

    /// Takes permits, or reserves them: the call may begin after so many seconds.
    #[pyo3(signature = (permits=None))]
    fn enter(&self, permits: Given<'_, '_>) -> PyResult<f64> {
        let permits = whole("permits", permits)?.unwrap_or(1);
        if !active() {
            return Ok(0.0);
        }
        match self.limiter.acquire(permits) {
            Ok(wait) => Ok(wait.as_secs_f64()),
            Err(exceeded) => Err(self.refused(exceeded)),
        }
    }

    /// Takes a permit: none is needed to wait for it, or it is reserved until it is given back.
    fn reserve(&self) -> PyResult<Option<PyReservation>> {
        if !active() {
            return Ok(None);
        }
        let reserved = self.limiter.reserve(1).map_err(|exceeded| self.refused(exceeded))?;
        Ok((!reserved.wait.is_zero()).then(|| PyReservation {
            limiter: self.limiter.clone(),
            wait: reserved.wait.as_secs_f64(),
            reserved: Mutex::new(Some(reserved)),
        }))
    }

    /// How long permits would have to wait now, in seconds; takes nothing.
    #[pyo3(signature = (permits=None))]
    fn wait_for(&self, permits: Given<'_, '_>) -> PyResult<f64> {
        let permits = whole("permits", permits)?.unwrap_or(1);
        Ok(self.limiter.wait_for(permits).as_secs_f64())
    }

    /// Permits left in this period; below zero when later ones are reserved.
    #[getter]
    fn available(&self) -> i64 {
        self.limiter.available()
    }
}

impl PyLimiter {
    fn refused(&self, exceeded: RateExceeded) -> PyErr {
        let RateLimit { limit, period, .. } = self.rate;
        let (name, after) = (&self.name, exceeded.retry_after.as_secs_f64());
        let message = format!(
            "rate limiter `{name}` allows {limit} calls in {} s; try again in {after:.3} s",
            period.as_secs_f64()
        );
        Error::new(Kind::RateLimited, "call through rate limiter", message)
            .with("name", name)
            .with("retry_after", after.to_string())
            .into()
    }
}

/// A permit of a period to come.
#[pyclass(name = "_Reservation", module = "tiebeam._core", frozen)]
pub(crate) struct PyReservation {
    limiter: RateLimiter,
    /// How long to wait for it, in seconds.
    #[pyo3(get)]
    wait: f64,
    reserved: Mutex<Option<Reservation>>,
}

#[pymethods]
impl PyReservation {
    /// The wait was ended: whoever comes next may have it. Once.
    fn give_back(&self) {
        let reserved = self.reserved.lock().take();
        if let Some(reserved) = reserved {
            self.limiter.give_back(reserved);
        }
    }
}
