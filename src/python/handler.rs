//! A Python callable as a handler: how it is called, and what its outcome means.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::bridge::ffi::call_one;
use super::bridge::guarded;
use super::errors::failure_from;
use super::event::Seen;
use super::inline::Inline;
use super::payload;
use super::stage::{self, Origin, Stage};
use super::watchdog::{Part, traced};
use crate::bus::{Attempt, Delivery, Failure, Manual, Subscription};
use crate::error::Category;
use crate::event::Event;
use crate::health::Home;

/// A handler, and the context it was subscribed in. What every call touches comes first, in one
/// line of the processor's cache.
#[repr(C, align(64))]
pub(super) struct Handler {
    callable: Py<PyAny>,
    origin: Arc<Origin>,
    /// Where it decides on its events, if it does so itself.
    manual: Option<Arc<Manual>>,
    /// How many events a driver pulls for it at once, up to the size of a batch: what a handler
    /// that waits has behind it goes back to the mailbox.
    pull: AtomicUsize,
    fallback: Option<(Py<PyAny>, bool)>,
    is_async: bool,
    reply_limit: usize,
    /// Present where it is its own executor.
    inline: Option<Inline>,
    home: Option<Home>,
    fallback_home: Option<Home>,
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handler(async: {})", self.is_async)
    }
}

/// What follows from one call.
pub(super) enum Conclusion {
    /// Success; to be reported with the batch.
    Delivered,
    /// Success, which settles nothing: somebody decides on the event, or has done so.
    Undecided,
    /// Failure; the core has decided what happens next.
    Settled,
    /// Failure, and the subscription's fallback is to run now.
    Fallback(Delivery, Failure),
    /// Failure by an exception that nobody may swallow.
    Fatal(PyErr),
}

impl Handler {
    /// Checks that `callable` can be called with an event.
    pub(super) fn new(
        callable: Bound<'_, PyAny>,
        fallback: Option<Bound<'_, PyAny>>,
        reply_limit: usize,
    ) -> PyResult<Handler> {
        let py = callable.py();
        check_signature(&callable, "handler")?;
        let fallback = match fallback {
            None => None,
            Some(fallback) => {
                check_signature(&fallback, "fallback")?;
                let is_async = is_async(&fallback)?;
                Some((fallback.unbind(), is_async))
            }
        };
        Ok(Handler {
            is_async: is_async(&callable)?,
            home: home(&callable),
            fallback_home: fallback.as_ref().and_then(|(fallback, _)| home(fallback.bind(py))),
            callable: callable.unbind(),
            fallback,
            origin: Origin::current(py)?,
            reply_limit,
            pull: AtomicUsize::new(usize::MAX),
            manual: None,
            inline: None,
        })
    }

    /// The same handler, deciding on its events at `manual`.
    pub(super) fn deciding(self, manual: Option<Arc<Manual>>) -> Handler {
        Handler { manual, ..self }
    }

    /// The same handler, run inside `publish`.
    pub(super) fn inside_publish(self, inline: Inline) -> Handler {
        Handler { inline: Some(inline), ..self }
    }

    pub(super) fn inline(&self) -> Option<&Inline> {
        self.inline.as_ref()
    }

    /// Whether it decides on its events itself.
    pub(super) fn decides(&self) -> bool {
        self.manual.is_some()
    }

    /// Shows the collector whom we hold.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.callable)?;
        self.fallback.iter().try_for_each(|(fallback, _)| visit.call(fallback))
    }

    pub(super) fn is_async(&self) -> bool {
        self.is_async
    }

    pub(super) fn needs_loop(&self) -> bool {
        self.is_async || self.fallback_is_async()
    }

    pub(super) fn fallback_is_async(&self) -> bool {
        self.fallback.as_ref().is_some_and(|(_, is_async)| *is_async)
    }

    /// How many events to pull for it at once, at most `batch`.
    pub(super) fn pull(&self, batch: usize) -> usize {
        self.pull.load(Ordering::Relaxed).min(batch)
    }

    /// It had to wait: from now on events come to it one by one.
    pub(super) fn waits(&self) {
        self.pull.store(1, Ordering::Relaxed);
    }

    /// It did not wait for a whole batch: the next one may be twice as large.
    pub(super) fn flows(&self) {
        let pull = self.pull.load(Ordering::Relaxed);
        if pull != usize::MAX {
            self.pull.store(pull.saturating_mul(2), Ordering::Relaxed);
        }
    }

    pub(super) fn callable(&self) -> &Py<PyAny> {
        &self.callable
    }

    /// Where its code is defined, or that of its fallback.
    pub(super) fn home(&self, fallback: bool) -> Option<&Home> {
        if fallback { self.fallback_home.as_ref() } else { self.home.as_ref() }
    }

    /// All that it may be running: the handler, and its fallback.
    pub(super) fn callables(&self) -> Vec<&Py<PyAny>> {
        let fallback = self.fallback.as_ref().map(|(fallback, _)| fallback);
        std::iter::once(&self.callable).chain(fallback).collect()
    }

    /// A stage for one delivery: what the handler sets there ends with it.
    pub(super) fn stage(&self, py: Python<'_>, delivery: &Delivery) -> PyResult<Stage> {
        let Some(manual) = &self.manual else {
            return self.origin.stage(py, Cow::Borrowed(&delivery.event), delivery.attempt);
        };
        let seen = Seen::new(delivery.event.clone(), delivery.attempt);
        self.origin.new_stage(py, seen.undecided(manual.open(delivery)))
    }

    /// A stage for one delivery, if possible the one that was `kept`, and what the delivery is
    /// without its event, which is on the stage.
    pub(super) fn stage_for(
        &self,
        py: Python<'_>,
        kept: Option<Stage>,
        delivery: Delivery,
    ) -> Result<(Stage, Attempt), (PyErr, Delivery)> {
        let delivery = match kept {
            Some(stage) if self.manual.is_none() => {
                let (event, attempt) = delivery.split();
                match stage::set(py, stage, Cow::Owned(event), attempt.number()) {
                    Ok(stage) => return Ok((stage, attempt)),
                    Err(event) => attempt.of(event.into_owned()),
                }
            }
            _ => delivery,
        };
        match self.stage(py, &delivery) {
            Ok(stage) => Ok((stage, delivery.split().1)),
            Err(error) => Err((error, delivery)),
        }
    }

    /// Takes a stage back that is left as it was, for whoever needs one next.
    pub(super) fn keep(&self, py: Python<'_>, stage: Stage) {
        self.origin.keep(py, stage);
    }

    /// Calls the handler, or its fallback, on `stage`, and does there what comes `next` with what
    /// it returned: an async one returns its coroutine.
    pub(super) fn call<'py, T>(
        &self,
        py: Python<'py>,
        stage: &Stage,
        fallback: bool,
        next: impl FnOnce(Bound<'py, PyAny>) -> PyResult<T>,
    ) -> PyResult<T> {
        let callable = match &self.fallback {
            Some((fallback_callable, _)) if fallback => fallback_callable,
            _ => &self.callable,
        };
        // A panic in what it calls of ours goes on where its error arrives, and is its failure.
        let call = || next(call_one(callable.bind(py), stage.object(py))?);
        stage.context().run(py, || guarded("run a handler", call))
    }

    /// Calls a sync handler to its end.
    pub(super) fn run_sync(&self, py: Python<'_>, delivery: &Delivery) -> PyResult<Py<PyAny>> {
        self.call_sync(py, self.stage(py, delivery)?, false)
    }

    /// Calls a sync handler with the first attempt of an event that is no delivery yet.
    pub(super) fn run_first(&self, py: Python<'_>, event: &Arc<Event>) -> PyResult<Py<PyAny>> {
        self.call_sync(py, self.origin.stage(py, Cow::Borrowed(event), 1)?, false)
    }

    fn call_sync(&self, py: Python<'_>, stage: Stage, fallback: bool) -> PyResult<Py<PyAny>> {
        let result = self.call(py, &stage, fallback, Ok);
        if let Some(stage) = stage::cleared(py, stage) {
            self.keep(py, stage);
        }
        let result = result?;
        // Most handlers return nothing; looking for an attribute is paid only by the others.
        if !result.is_none() && result.hasattr("__await__")? {
            // Left alone it would warn "never awaited" somewhere else.
            if result.hasattr("close")? {
                result.call_method0("close")?;
            }
            return Err(PyTypeError::new_err(
                "the handler returned a coroutine although it is not `async def`; declare it \
                 `async def`, or subscribe an async function",
            ));
        }
        Ok(result.unbind())
    }

    /// Runs the fallback of a sync handler after its last failure.
    pub(super) fn run_fallback(
        &self,
        py: Python<'_>,
        subscription: &Arc<Subscription>,
        delivery: Delivery,
        original: Failure,
        part: Part,
    ) {
        let stage = self.stage(py, &delivery);
        let result = traced(py, subscription, &delivery.event, part, || {
            stage.and_then(|stage| self.call_sync(py, stage, true)).map(drop)
        });
        self.conclude_fallback(py, subscription, delivery, original, result);
    }

    pub(super) fn conclude_fallback(
        &self,
        py: Python<'_>,
        subscription: &Arc<Subscription>,
        delivery: Delivery,
        original: Failure,
        result: PyResult<()>,
    ) {
        let result = result.map_err(|error| failure_from(py, &error));
        py.detach(|| subscription.fallback_done(delivery, original, result));
    }

    /// Whether a success is only to be counted: nobody waits for an answer or decides.
    pub(super) fn is_plain(&self, subscription: &Subscription, attempt: Attempt) -> bool {
        attempt.is_plain() && self.manual.is_none() && !subscription.responds()
    }

    /// Settles one delivery by what its handler returned or raised.
    pub(super) fn conclude(
        &self,
        py: Python<'_>,
        subscription: &Arc<Subscription>,
        delivery: Delivery,
        result: PyResult<Py<PyAny>>,
    ) -> Conclusion {
        let result = match result {
            Ok(value) if subscription.responds() => {
                self.answer(subscription, &delivery, value.bind(py))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        let Err(error) = result else {
            if self.manual.is_some() {
                return Conclusion::Undecided;
            }
            subscription.pass(&delivery);
            return Conclusion::Delivered;
        };
        let failure = failure_from(py, &error);
        let fatal = !error.is_instance_of::<PyException>(py) && !is_cancelled(py, &error);
        match self.fail(subscription, delivery, failure) {
            Conclusion::Settled if fatal => Conclusion::Fatal(error),
            conclusion => conclusion,
        }
    }

    /// Settles one delivery whose handler took too long.
    pub(super) fn conclude_timeout(
        &self,
        subscription: &Arc<Subscription>,
        delivery: Delivery,
        limit: Duration,
        what: &str,
    ) -> Conclusion {
        let failure = timeout_failure(subscription, limit, what);
        self.fail(subscription, delivery, failure)
    }

    fn fail(
        &self,
        subscription: &Arc<Subscription>,
        delivery: Delivery,
        failure: Failure,
    ) -> Conclusion {
        let kept = self.fallback.is_some().then(|| (delivery.clone(), failure.clone()));
        let run_fallback = subscription.failed(delivery, failure);
        match kept {
            Some((delivery, failure)) if run_fallback => Conclusion::Fallback(delivery, failure),
            _ => Conclusion::Settled,
        }
    }

    fn answer(
        &self,
        subscription: &Subscription,
        delivery: &Delivery,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let reply = payload::encode(value, self.reply_limit, "reply")?;
        subscription.answer(&delivery.event, Ok(reply));
        Ok(())
    }
}

pub(super) fn timeout_failure(subscription: &Subscription, limit: Duration, what: &str) -> Failure {
    Failure::new(
        Category::Transient,
        "TimeoutError",
        format!("{} {what} after {:.3} s", subscription.name(), limit.as_secs_f64()),
    )
}

/// Whether this is asyncio's way of ending a task.
pub(super) fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    py.import("asyncio")
        .and_then(|asyncio| asyncio.getattr("CancelledError"))
        .is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}

/// Where the code of `callable` is defined, below its decorators.
pub(super) fn home(callable: &Bound<'_, PyAny>) -> Option<Home> {
    const DEPTH: usize = 8;
    let mut inner = callable.clone();
    for _ in 0..DEPTH {
        let Ok(Some(wrapped)) = inner.getattr_opt("__wrapped__") else { break };
        inner = wrapped;
    }
    let code = inner.getattr_opt("__code__").ok()??;
    let name = inner.getattr_opt("__qualname__").ok()??.extract::<String>().ok()?;
    Some(Home {
        file: code.getattr("co_filename").ok()?.extract().ok()?,
        line: code.getattr("co_firstlineno").ok()?.extract().ok()?,
        name: name.rsplit("<locals>.").next().unwrap_or(&name).to_owned(),
    })
}

fn is_async(callable: &Bound<'_, PyAny>) -> PyResult<bool> {
    let inspect = callable.py().import("inspect")?;
    let check = |callable: &Bound<'_, PyAny>| -> PyResult<bool> {
        inspect.call_method1("iscoroutinefunction", (callable,))?.is_truthy()
    };
    // An instance with an `async def __call__` is as good as an async function.
    Ok(check(callable)?
        || callable.getattr_opt("__call__")?.is_some_and(|call| check(&call).unwrap_or(false)))
}

/// Refuses at once what would fail at the first event.
fn check_signature(callable: &Bound<'_, PyAny>, what: &str) -> PyResult<()> {
    let py = callable.py();
    if !callable.is_callable() {
        return Err(PyTypeError::new_err(format!(
            "the {what} must be callable, got {}",
            callable.get_type().name()?
        )));
    }
    let inspect = py.import("inspect")?;
    if inspect.call_method1("isasyncgenfunction", (callable,))?.is_truthy()?
        || inspect.call_method1("isgeneratorfunction", (callable,))?.is_truthy()?
    {
        return Err(PyTypeError::new_err(format!(
            "the {what} is a generator function, whose body would never run; use `def` or \
             `async def` without `yield`"
        )));
    }
    // Builtins may have no signature; they get the benefit of the doubt.
    let Ok(signature) = inspect.call_method1("signature", (callable,)) else { return Ok(()) };
    if signature.call_method1("bind", (py.None(),)).is_err() {
        return Err(PyTypeError::new_err(format!(
            "the {what} must take one argument, the event; its signature is {}",
            signature.str()?
        )));
    }
    Ok(())
}
