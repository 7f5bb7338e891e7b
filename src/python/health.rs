//! Health as Python computes with it: verdicts that are put together, and objectives.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::args::{Given, Seconds, seconds};
use super::clock::PyClock;
use super::resilience::clock_or_process;
use crate::clock::Clock;
use crate::health::{Objective, Slo, Urgency, Verdict, aggregate, aggregate_in};

/// The worst of some verdicts, or the first in `order`; names that are none are left out.
#[pyfunction]
#[pyo3(signature = (verdicts, order=None))]
pub(super) fn _aggregate(verdicts: Vec<String>, order: Option<Vec<String>>) -> &'static str {
    let known = |names: Vec<String>| -> Vec<Verdict> {
        names.iter().filter_map(|name| Verdict::parse(name)).collect()
    };
    let verdicts = known(verdicts);
    match order {
        None => aggregate(verdicts).as_str(),
        Some(order) => aggregate_in(&known(order), verdicts).as_str(),
    }
}

/// The verdict of a name; `None` for what is none.
#[pyfunction]
pub(super) fn _verdict(name: &str) -> Option<&'static str> {
    Verdict::parse(name).map(Verdict::as_str)
}

/// The HTTP status of an endpoint that says this; 200 for what is no verdict.
#[pyfunction]
pub(super) fn _http_status(verdict: &str) -> u16 {
    Verdict::parse(verdict).map_or(200, Verdict::http_status)
}

/// A service-level objective: how much of its error budget is left, and how fast it goes.
///
/// Google, "The Site Reliability Workbook", chapter 5: with a target of 0.999 a thousandth of all
/// events may be bad over the period. The burn rate says how many times faster they are.
#[pyclass(name = "Slo", module = "tiebeam", frozen)]
pub(super) struct PySlo {
    slo: Mutex<Slo>,
    clock: Clock,
}

impl PySlo {
    fn with<T>(&self, ask: impl FnOnce(&mut Slo, crate::clock::Instant) -> T) -> T {
        ask(&mut self.slo.lock(), self.clock.now())
    }
}

#[pymethods]
impl PySlo {
    #[new]
    #[pyo3(signature = (target, *, period=None, min_events=1, clock=None))]
    fn new(
        target: f64,
        period: Given<'_, '_>,
        min_events: u64,
        clock: Option<&PyClock>,
    ) -> PyResult<Self> {
        const MONTH: Duration = Duration::from_secs(30 * 86_400);
        let period = seconds("period", period)?.unwrap_or(MONTH);
        let slo = Slo::new(Objective::new(target, period, min_events)?);
        Ok(PySlo { slo: Mutex::new(slo), clock: clock_or_process(clock) })
    }

    /// The share of events that is to be good.
    #[getter]
    fn target(&self) -> f64 {
        self.slo.lock().objective().target()
    }

    /// Over how many seconds.
    #[getter]
    fn period(&self) -> f64 {
        self.slo.lock().objective().period().as_secs_f64()
    }

    /// So many good and bad events happened.
    #[pyo3(signature = (good=1, bad=0))]
    fn record(&self, good: u64, bad: u64) {
        self.with(|slo, now| slo.record(now, good, bad));
    }

    /// The share of bad events in one of the windows of the alerts, or in the period.
    fn ratio(&self, window: Seconds) -> Option<f64> {
        self.with(|slo, now| slo.ratio(now, window.0))
    }

    /// How fast the budget goes in such a window.
    fn burn(&self, window: Seconds) -> Option<f64> {
        self.with(|slo, now| slo.burn(now, window.0))
    }

    /// The loudest alert at present: `page`, `ticket` or `None`.
    #[getter]
    fn alert(&self) -> Option<&'static str> {
        self.with(Slo::alert).map(Urgency::as_str)
    }

    /// The share of this period's budget that is left; below zero when it is overdrawn.
    #[getter]
    fn remaining(&self) -> f64 {
        self.with(Slo::remaining)
    }

    /// The share of the whole budget that so many seconds at this rate use up.
    fn consumed(&self, burn: f64, window: Seconds) -> f64 {
        self.slo.lock().objective().consumed(burn, window.0)
    }

    /// For how many seconds a full budget lasts at this rate; `None` for ever.
    fn lasts(&self, burn: f64) -> Option<f64> {
        self.slo.lock().objective().lasts(burn).map(|time| time.as_secs_f64())
    }

    fn __repr__(&self) -> String {
        let (target, left) = (self.target(), self.remaining());
        format!("<Slo {}: {:.1} % of the budget left>", target, left * 100.0)
    }
}
