//! The circuit breaker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt};

use super::calls::{Call, begun};
use super::options::Options;
use super::switch::{active, clock_or_process};
use crate::clock::{Clock, Instant};
use crate::error::Error;
use crate::python::args::{Given, one_of, seconds};
use crate::python::bridge::with_python;
use crate::python::clock::PyClock;
use crate::resilience::breaker::{
    HalfOpenRule, Mode, Observer, OnTimeout, Signal, State, Ticket, Window,
};
use crate::resilience::{BreakerSettings, CircuitBreaker};

const OPTIONS: [&str; 18] = [
    "threshold",
    "of",
    "failure_rate",
    "slow_rate",
    "slow_call",
    "minimum_calls",
    "window_calls",
    "window_time",
    "reset_timeout",
    "reset_factor",
    "reset_max",
    "reset_jitter",
    "probes",
    "successes",
    "successes_of",
    "probe_timeout",
    "on_probe_timeout",
    "seed",
];

/// What makes a breaker look at shares instead of counting failures.
const OF_RATES: [&str; 6] =
    ["failure_rate", "slow_rate", "slow_call", "minimum_calls", "window_calls", "window_time"];

/// The breaker behind `tiebeam.resilience.CircuitBreaker`.
#[pyclass(name = "_Breaker", module = "tiebeam._core", frozen)]
pub(crate) struct PyBreaker {
    breaker: CircuitBreaker,
    clock: Clock,
}

/// A permit that knows when its call began, or that somebody else may settle it.
#[pyclass(name = "_Ticket", module = "tiebeam._core", frozen)]
pub(crate) struct PyTicket {
    ticket: Ticket,
    call: Option<Arc<Call>>,
}

impl PyBreaker {
    pub(crate) fn inner(&self) -> &CircuitBreaker {
        &self.breaker
    }
}

#[pymethods]
impl PyBreaker {
    #[new]
    #[pyo3(signature = (name, options, clock=None))]
    fn new(name: &str, options: &Bound<'_, PyDict>, clock: Option<&PyClock>) -> PyResult<Self> {
        let clock = clock_or_process(clock);
        let breaker = CircuitBreaker::new(name, settings(options)?, clock.clone())?;
        Ok(PyBreaker { breaker, clock })
    }

    /// Asks for a call to pass; gives a permit to settle it with.
    fn enter<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if !active() {
            return Ok(py.None().into_bound(py));
        }
        let ticket = self.breaker.begin().map_err(Error::from)?;
        match (ticket.started, begun(&self.breaker, ticket)?) {
            // A number of an early generation is there already: no object has to be made.
            (None, None) => Ok(ticket.generation.into_pyobject(py)?.into_any()),
            (_, call) => Ok(Bound::new(py, PyTicket { ticket, call })?.into_any()),
        }
    }

    /// The call succeeded.
    fn passed(&self, permit: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(ticket) = ticket(permit)? {
            self.breaker.pass(ticket);
        }
        Ok(())
    }

    /// The call failed; rejections quote `error`.
    fn failed(&self, permit: &Bound<'_, PyAny>, error: &str) -> PyResult<()> {
        if let Some(ticket) = ticket(permit)? {
            self.breaker.fail(ticket, error);
        }
        Ok(())
    }

    /// The call says nothing; `abandoned` if it did not come to its end.
    fn given_back(&self, permit: &Bound<'_, PyAny>, abandoned: bool) -> PyResult<()> {
        if let Some(ticket) = ticket(permit)? {
            self.breaker.give_back(ticket, abandoned);
        }
        Ok(())
    }

    /// Has `callback(kind, facts)` called with each signal, in their order.
    fn observe(&self, callback: Py<PyAny>) {
        let clock = self.clock.clone();
        self.breaker.observe(Arc::new(Told { callback, clock }));
    }

    #[getter]
    fn state(&self) -> &'static str {
        self.breaker.state().as_str()
    }

    #[getter]
    fn retry_after(&self) -> Option<f64> {
        self.breaker.retry_after().map(|wait| wait.as_secs_f64())
    }

    /// Puts it into a state; `wait` is the length of an open period.
    #[pyo3(signature = (state, wait=None))]
    fn force(&self, state: &str, wait: Given<'_, '_>) -> PyResult<()> {
        let to = State::parse(state)
            .ok_or_else(|| one_of("state", state, &State::ALL.map(State::as_str)))?;
        match seconds("wait", wait)? {
            None => Ok(self.breaker.force(to)?),
            Some(wait) if to == State::Open => Ok(self.breaker.force_open_for(wait)?),
            Some(_) => Err(PyValueError::new_err(format!(
                "wait is how long `open` lasts, and `{to}` lasts until it is changed"
            ))),
        }
    }

    fn reset(&self) {
        self.breaker.reset();
    }

    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metrics = self.breaker.metrics();
        let figures = PyDict::new(py);
        figures.set_item("state", metrics.state.as_str())?;
        figures.set_item("generation", metrics.generation)?;
        figures.set_item("calls", metrics.calls)?;
        figures.set_item("failed", metrics.failed)?;
        figures.set_item("slow", metrics.slow)?;
        figures.set_item("failure_rate", metrics.failure_percent)?;
        figures.set_item("slow_rate", metrics.slow_percent)?;
        figures.set_item("rejected", metrics.not_permitted)?;
        figures.set_item("consecutive_failures", metrics.consecutive_failures)?;
        figures.set_item("trips", metrics.trips)?;
        figures.set_item("probes", metrics.probes)?;
        figures.set_item("late", metrics.late)?;
        figures.set_item("abandoned", metrics.abandoned)?;
        figures.set_item("opened_at", metrics.opened_at.map(|at| unix_seconds(&self.clock, at)))?;
        figures.set_item("retry_after", self.retry_after())?;
        Ok(figures)
    }
}

/// What a permit stands for, if nobody else has settled it.
fn ticket(permit: &Bound<'_, PyAny>) -> PyResult<Option<Ticket>> {
    if let Ok(generation) = permit.cast::<PyInt>() {
        return Ok(Some(Ticket { generation: generation.extract()?, started: None }));
    }
    if permit.is_none() {
        return Ok(None);
    }
    let timed = permit.cast::<PyTicket>().map_err(|_| {
        PyTypeError::new_err("a call is settled with the permit that its `enter` gave")
    })?;
    let PyTicket { ticket, call } = timed.get();
    Ok(call.as_ref().is_none_or(|call| call.settle()).then_some(*ticket))
}

fn unix_seconds(clock: &Clock, at: Instant) -> f64 {
    let ago = clock.now().saturating_since(at);
    clock.unix_ms() as f64 / 1e3 - ago.as_secs_f64()
}

struct Told {
    callback: Py<PyAny>,
    clock: Clock,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

impl Told {
    fn tell(&self, py: Python<'_>, signal: &Signal) -> PyResult<()> {
        let facts = PyDict::new(py);
        let kind = match signal {
            Signal::FailureRateExceeded { rate } => {
                facts.set_item("rate", *rate)?;
                "failure_rate_exceeded"
            }
            Signal::SlowRateExceeded { rate } => {
                facts.set_item("rate", *rate)?;
                "slow_rate_exceeded"
            }
            Signal::Transition { from, to, generation, at } => {
                facts.set_item("from", from.as_str())?;
                facts.set_item("to", to.as_str())?;
                facts.set_item("generation", *generation)?;
                facts.set_item("at", unix_seconds(&self.clock, *at))?;
                "transition"
            }
        };
        self.callback.call1(py, (kind, facts)).map(drop)
    }
}

impl Observer for Told {
    fn on_signal(&self, _breaker: &str, signal: &Signal) {
        with_python(|py| {
            if let Err(error) = self.tell(py, signal) {
                error.write_unraisable(py, Some(self.callback.bind(py)));
            }
        });
    }
}

fn settings(given: &Bound<'_, PyDict>) -> PyResult<BreakerSettings> {
    let options = Options::new("circuit breaker", given, &OPTIONS)?;
    let mut settings = BreakerSettings::with_mode(mode(&options)?);
    if let Some(base) = options.seconds("reset_timeout")? {
        settings = settings.with_open(base);
    }
    if let Some(factor) = options.number("reset_factor")? {
        settings.open_factor = factor;
    }
    if let Some(longest) = options.seconds("reset_max")? {
        settings.open_max = longest;
    }
    settings.open_jitter = options.flag("reset_jitter")?.unwrap_or(false);
    if let Some(probes) = options.whole("probes")? {
        settings.half_open_permits = probes;
    }
    settings.half_open_rule = match (options.whole("successes")?, options.whole("successes_of")?) {
        (Some(successes), Some(of)) => Some(HalfOpenRule::KOfN { successes, of }),
        (Some(successes), None) => Some(HalfOpenRule::Successes(successes)),
        (None, Some(_)) => {
            return Err(options.refuse("successes_of", "`successes_of` needs `successes`"));
        }
        (None, None) => None,
    };
    settings.half_open_max = options.seconds("probe_timeout")?;
    if options.choice("on_probe_timeout", &["open", "closed"])?.as_deref() == Some("closed") {
        settings.on_timeout = OnTimeout::Closed;
    }
    settings.seed = options.whole("seed")?.map(u64::from);
    Ok(settings)
}

fn mode(options: &Options<'_, '_>) -> PyResult<Mode> {
    let threshold = options.whole("threshold")?;
    let of = options.whole("of")?;
    let mut rates = Vec::new();
    for name in OF_RATES {
        if options.has(name)? {
            rates.push(name);
        }
    }
    let Some(rate) = rates.first() else {
        let threshold = threshold.unwrap_or(5);
        return Ok(match of {
            Some(of) => Mode::KOfN { failures: threshold, of },
            None => Mode::Consecutive { threshold },
        });
    };
    if threshold.is_some() || of.is_some() {
        let said = format!(
            "`threshold` counts failures and `{rate}` belongs to shares of calls; give one or \
             the other"
        );
        return Err(options.refuse(rate, &said));
    }
    let window = match (options.whole("window_calls")?, options.seconds("window_time")?) {
        (Some(_), Some(_)) => {
            return Err(options.refuse(
                "window_time",
                "a window holds calls or time: give `window_calls` or `window_time`",
            ));
        }
        (calls, None) => Window::Calls(calls.unwrap_or(100)),
        (None, Some(span)) => Window::Time(span),
    };
    Ok(Mode::Rate {
        window,
        minimum: options.whole("minimum_calls")?.unwrap_or(100),
        failure_percent: options.number("failure_rate")?.unwrap_or(50.0),
        slow_percent: options.number("slow_rate")?.unwrap_or(100.0),
        slow: options.seconds("slow_call")?.unwrap_or(Duration::from_secs(60)),
    })
}
