//! How many retries a dependency gets in total.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::switch::clock_or_process;
use crate::clock::Clock;
use crate::python::args::{Given, seconds};
use crate::python::clock::PyClock;
use crate::resilience::{BudgetRule, BudgetedCall, RetryBudget};

/// How many retries all callers of one dependency get together, shared by retries and hedges.
///
/// Made by `token` (the default of a retry), `throttle`, `concurrency` or `adaptive`; give the
/// same budget to every policy that calls the same dependency.
#[pyclass(name = "RetryBudget", module = "tiebeam.resilience", frozen)]
pub(crate) struct PyRetryBudget {
    budget: RetryBudget,
    /// Whether outcomes, and who is under way, count; else only first attempts and retries do.
    follows: bool,
}

impl PyRetryBudget {
    pub(super) fn inner(&self) -> &RetryBudget {
        &self.budget
    }

    pub(super) fn follows(&self) -> bool {
        self.follows
    }

    fn made(rule: BudgetRule, clock: Clock, seed: Option<u64>) -> PyResult<PyRetryBudget> {
        let budget = match seed {
            Some(seed) => RetryBudget::seeded(rule, clock, seed)?,
            None => RetryBudget::new(rule, clock)?,
        };
        Ok(PyRetryBudget { budget, follows: !matches!(rule, BudgetRule::Token { .. }) })
    }
}

/// One call within a budget: what `RetryBudget.enter` gives.
#[pyclass(name = "_BudgetedCall", module = "tiebeam._core", frozen)]
pub(crate) struct PyBudgetedCall(Mutex<Option<BudgetedCall>>);

#[pymethods]
impl PyBudgetedCall {
    /// Asks for one retry, and pays for it.
    fn retry(&self) -> bool {
        self.0.lock().as_mut().is_some_and(BudgetedCall::retry)
    }

    /// An attempt succeeded.
    fn succeeded(&self) {
        if let Some(call) = &*self.0.lock() {
            call.succeeded();
        }
    }

    /// An attempt failed in a way that could be retried.
    fn failed(&self) {
        if let Some(call) = &*self.0.lock() {
            call.failed();
        }
    }

    /// The call is over.
    fn end(&self) {
        let call = self.0.lock().take();
        drop(call);
    }
}

#[pymethods]
impl PyRetryBudget {
    /// Finagle's rule: each call pays for `ratio` retries, and `min_per_second` more are free;
    /// what is paid counts for `ttl` seconds, 1 to 60.
    #[staticmethod]
    #[pyo3(signature = (ratio=0.2, min_per_second=10, ttl=None, *, clock=None))]
    fn token(
        ratio: f64,
        min_per_second: u32,
        ttl: Given<'_, '_>,
        clock: Option<&PyClock>,
    ) -> PyResult<PyRetryBudget> {
        let ttl = seconds("ttl", ttl)?.unwrap_or(Duration::from_secs(10));
        let rule = BudgetRule::Token { ratio, min_per_second, ttl };
        PyRetryBudget::made(rule, clock_or_process(clock), None)
    }

    /// gRPC's rule (A6): of `max_tokens`, a failure takes one and a success gives `token_ratio`
    /// back; there are retries while more than half are left.
    #[staticmethod]
    #[pyo3(signature = (max_tokens=10.0, token_ratio=0.1, *, clock=None))]
    fn throttle(
        max_tokens: f64,
        token_ratio: f64,
        clock: Option<&PyClock>,
    ) -> PyResult<PyRetryBudget> {
        let rule = BudgetRule::Throttle { max: max_tokens, ratio: token_ratio };
        PyRetryBudget::made(rule, clock_or_process(clock), None)
    }

    /// Envoy's rule: of the calls under way, a share of `ratio` may be retries, and
    /// `min_concurrency` in any case. One that waits for its turn counts.
    #[staticmethod]
    #[pyo3(signature = (ratio=0.2, min_concurrency=3, *, clock=None))]
    fn concurrency(
        ratio: f64,
        min_concurrency: u32,
        clock: Option<&PyClock>,
    ) -> PyResult<PyRetryBudget> {
        let rule = BudgetRule::Concurrency { ratio, min: min_concurrency };
        PyRetryBudget::made(rule, clock_or_process(clock), None)
    }

    /// Google SRE's rule: a retry is refused with the probability
    /// `(calls - ok / target) / (calls + 1)`, at most 0.9, over the last `window` seconds, once
    /// there were `threshold` calls.
    #[staticmethod]
    #[pyo3(signature = (target=0.9, threshold=10, window=None, *, clock=None, seed=None))]
    fn adaptive(
        target: f64,
        threshold: u32,
        window: Given<'_, '_>,
        clock: Option<&PyClock>,
        seed: Option<u64>,
    ) -> PyResult<PyRetryBudget> {
        let window = seconds("window", window)?.unwrap_or(Duration::from_secs(120));
        let rule = BudgetRule::Adaptive { target, threshold, window };
        PyRetryBudget::made(rule, clock_or_process(clock), seed)
    }

    /// What is left: retries (token, concurrency), tokens (throttle), or the probability that a
    /// retry is granted (adaptive).
    #[getter]
    fn balance(&self) -> f64 {
        self.budget.balance()
    }

    /// A call begins: for code that counts its attempts itself.
    fn enter(&self) -> PyBudgetedCall {
        PyBudgetedCall(Mutex::new(Some(self.budget.enter())))
    }

    /// A further part of a call that has entered already.
    fn resume(&self) -> PyBudgetedCall {
        PyBudgetedCall(Mutex::new(Some(self.budget.resume())))
    }

    fn __repr__(&self) -> String {
        format!("<{:?}>", self.budget)
    }
}
