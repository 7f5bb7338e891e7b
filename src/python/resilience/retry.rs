//! Whether to try again, and when.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::backoff::PyBackoff;
use super::budget::PyRetryBudget;
use super::options::Options;
use super::switch::{active, clock_or_process};
use crate::clock::{Clock, Instant};
use crate::error::Category;
use crate::python::args::{Given, seconds};
use crate::python::clock::PyClock;
use crate::python::errors::category_of;
use crate::resilience::{Attempt, BudgetedCall, Decision, Draws, GiveUp, RetryBudget, RetryPolicy};

/// The policy behind `tiebeam.resilience.Retry`.
#[pyclass(name = "_Retry", module = "tiebeam._core", frozen)]
pub(crate) struct PyRetry {
    policy: RetryPolicy,
    clock: Clock,
    budget: Option<RetryBudget>,
    /// Whether a run is needed from the first attempt on, and not only after its failure.
    follows: bool,
    /// Whether it matters when the first attempt began.
    timed: bool,
    /// What all attempts and waits must fit into.
    limit: Option<Duration>,
}

#[pymethods]
impl PyRetry {
    #[new]
    #[pyo3(signature = (options, backoff=None, budget=None, limit=None, clock=None))]
    fn new(
        options: &Bound<'_, PyDict>,
        backoff: Option<&PyBackoff>,
        budget: Option<&PyRetryBudget>,
        limit: Given<'_, '_>,
        clock: Option<&PyClock>,
    ) -> PyResult<Self> {
        let known = ["max_attempts", "max_elapsed", "retry_circuit_open", "seed"];
        let options = Options::new("retry", options, &known)?;
        let max_elapsed = options.seconds("max_elapsed")?;
        let mut builder = RetryPolicy::builder()
            .max_attempts(options.whole("max_attempts")?)
            .max_elapsed(max_elapsed)
            .retry_circuit_open(options.flag("retry_circuit_open")?.unwrap_or(false));
        if let Some(backoff) = backoff {
            builder = builder.backoff(backoff.inner().clone());
        }
        if let Some(seed) = options.whole("seed")? {
            builder = builder.seed(seed.into());
        }
        let limit = seconds("limit", limit)?;
        let follows = budget.is_some_and(PyRetryBudget::follows);
        Ok(PyRetry {
            policy: builder.build()?,
            clock: clock_or_process(clock),
            budget: budget.map(|budget| budget.inner().clone()),
            follows,
            timed: max_elapsed.is_some() || limit.is_some(),
            limit,
        })
    }

    /// Whether what `begin` gives is to be told of a success.
    #[getter]
    fn follows(&self) -> bool {
        self.follows
    }

    /// A first attempt begins. What `run` is to be given if it fails: the run, where the budget
    /// follows calls to their end; when it began, where that matters; `None` otherwise.
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let nothing = || Ok(py.None().into_bound(py));
        if !active() {
            return nothing();
        }
        if self.follows {
            let call = self.budget.as_ref().map(RetryBudget::enter);
            return Ok(Bound::new(py, self.started(self.clock.now(), call))?.into_any());
        }
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
        if self.timed {
            return Ok(self.clock.now().as_nanos().into_pyobject(py)?.into_any());
        }
        nothing()
    }

    /// The run of a call for which `begin` gave `begun`, after its first attempt failed. `None`
    /// while resilience is off.
    fn run<'py>(&self, begun: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyRetryRun>>> {
        if let Ok(run) = begun.cast::<PyRetryRun>() {
            return Ok(Some(run.clone()));
        }
        if !active() {
            return Ok(None);
        }
        let started = match begun.extract::<Option<u64>>()? {
            Some(nanos) => Instant::from_nanos(nanos),
            None => self.clock.now(),
        };
        let call = self.budget.as_ref().map(RetryBudget::resume);
        Bound::new(begun.py(), self.started(started, call)).map(Some)
    }
}

impl PyRetry {
    fn started(&self, started: Instant, call: Option<BudgetedCall>) -> PyRetryRun {
        PyRetryRun(Mutex::new(Run {
            policy: self.policy.clone(),
            draws: self.policy.draws(),
            clock: self.clock.clone(),
            started,
            limit: self.limit,
            call,
            attempt: 1,
        }))
    }
}

struct Run {
    policy: RetryPolicy,
    draws: Draws,
    clock: Clock,
    started: Instant,
    limit: Option<Duration>,
    call: Option<BudgetedCall>,
    attempt: u32,
}

/// The attempts of one call.
#[pyclass(name = "_RetryRun", module = "tiebeam._core", frozen)]
pub(crate) struct PyRetryRun(Mutex<Run>);

#[pymethods]
impl PyRetryRun {
    /// The attempt failed: how many seconds to wait before the next one, or why there is none.
    ///
    /// `retryable` is what the caller says of it; `None` goes by the category of `error`.
    #[pyo3(signature = (error, *, retryable=None, circuit_open=false, hint=None))]
    fn failed<'py>(
        &self,
        py: Python<'py>,
        error: Option<&Bound<'py, PyAny>>,
        retryable: Option<bool>,
        circuit_open: bool,
        hint: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let category = match (retryable, error) {
            (Some(true), _) => Category::Transient,
            (Some(false), _) | (None, None) => Category::Permanent,
            (None, Some(error)) => category_of(py, &PyErr::from_value(error.clone())),
        };
        match self.decide(category, circuit_open, hint) {
            Ok(wait) => Ok(wait.as_secs_f64().into_pyobject(py)?.into_any()),
            Err(reason) => Ok(reason.as_str().into_pyobject(py)?.into_any()),
        }
    }

    /// The call succeeded.
    fn succeeded(&self) {
        let mut run = self.0.lock();
        let call = run.call.take();
        drop(run);
        if let Some(call) = call {
            call.succeeded();
        }
    }

    /// The call is over, however it ended.
    fn end(&self) {
        let call = self.0.lock().call.take();
        drop(call);
    }

    /// Which attempt is under way; the first call is 1.
    #[getter]
    fn attempt(&self) -> u32 {
        self.0.lock().attempt
    }
}

impl PyRetryRun {
    fn decide(
        &self,
        category: Category,
        circuit_open: bool,
        hint: Option<f64>,
    ) -> Result<Duration, GiveUp> {
        let mut run = self.0.lock();
        let run = &mut *run;
        let elapsed = run.clock.now().saturating_since(run.started);
        let attempt = Attempt {
            circuit_open,
            deadline_left: run.limit.map(|limit| limit.saturating_sub(elapsed)),
            // What a server says may be anything; what is no time is no hint.
            hint: hint.and_then(|hint| Duration::try_from_secs_f64(hint).ok()),
            ..Attempt::new(run.attempt, category, elapsed)
        };
        // A breaker's rejection says nothing new of the dependency.
        if category.is_retryable()
            && !circuit_open
            && let Some(call) = &run.call
        {
            call.failed();
        }
        let wait = match run.policy.decide(&attempt, &mut run.draws) {
            Decision::Retry { after } => after,
            Decision::GiveUp { reason } => return Err(reason),
        };
        if run.call.as_mut().is_some_and(|call| !call.retry()) {
            return Err(GiveUp::Budget);
        }
        run.attempt += 1;
        Ok(wait)
    }
}
