//! One claim on a subscription: its batch, and the handler that is being stepped.

use std::collections::VecDeque;
use std::sync::Arc;

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

use crate::bus::{Delivery, Failure, Subscription};
use crate::deadlines::Key;
use crate::python::bridge::Loop;
use crate::python::bridge::ffi::{Context, Step, call_one, send};
use crate::python::handler::{Conclusion, is_cancelled};
use crate::python::limits::{Limited, Suspended, Time};
use crate::python::shared::Ready;

/// A handler's coroutine on its way.
struct Running {
    delivery: Delivery,
    coroutine: Py<PyAny>,
    context: Context,
    /// The failure before, when this is the fallback.
    fallback_for: Option<Failure>,
    time: Arc<Time>,
    limit: Option<Key>,
    waited: bool,
}

/// One claim on a subscription.
pub(super) struct Work {
    ready: Ready,
    batch: VecDeque<Delivery>,
    done: usize,
    running: Option<Running>,
    /// Whether the claim is still to be released.
    claimed: bool,
}

impl Work {
    /// Claims a subscription, if there is work for it.
    pub(super) fn claim(ready: Ready) -> Option<Work> {
        let mut batch = VecDeque::new();
        let claimed = ready.subscription.claim(ready.shared.batch, &mut batch);
        // Made only where there is a claim: dropping it releases one.
        claimed.then(|| Work { ready, batch, done: 0, running: None, claimed })
    }

    /// Whose events these are.
    pub(super) fn subscription(&self) -> &Arc<Subscription> {
        &self.ready.subscription
    }

    /// Whether a coroutine is to be stepped.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether that coroutine has been waiting for something already.
    pub(super) fn has_waited(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.waited)
    }

    /// Reports what is done and pulls more; false ends the claim.
    pub(super) fn next_batch(&mut self) -> bool {
        let done = std::mem::take(&mut self.done);
        let Ready { subscription, shared, .. } = &self.ready;
        self.claimed = subscription.next(done, shared.batch, &mut self.batch);
        self.claimed
    }

    /// Begins the next delivery of the batch, if there is one; an async handler is then running.
    pub(super) fn begin_next(&mut self, py: Python<'_>) -> PyResult<bool> {
        let Some(delivery) = self.batch.pop_front() else { return Ok(false) };
        self.begin(py, delivery)?;
        Ok(true)
    }

    fn begin(&mut self, py: Python<'_>, delivery: Delivery) -> PyResult<()> {
        let Ready { subscription, handler, .. } = &self.ready;
        if !subscription.is_active() {
            subscription.abandoned(delivery);
            return Ok(());
        }
        if !handler.is_async() {
            let result = handler.run_sync(py, &delivery);
            let conclusion = handler.conclude(py, subscription, delivery, result);
            return self.concluded(py, conclusion);
        }
        self.start(py, delivery, None)
    }

    fn start(
        &mut self,
        py: Python<'_>,
        delivery: Delivery,
        fallback_for: Option<Failure>,
    ) -> PyResult<()> {
        let handler = &self.ready.handler;
        let opened = handler.open_context(py, &delivery).and_then(|(context, event)| {
            let coroutine = handler.call(&event, &context, fallback_for.is_some())?;
            Ok((context, coroutine.unbind()))
        });
        match opened {
            Ok((context, coroutine)) => {
                self.running = Some(Running {
                    delivery,
                    coroutine,
                    context,
                    fallback_for,
                    time: Arc::default(),
                    limit: None,
                    waited: false,
                });
                Ok(())
            }
            Err(error) => self.finish(py, delivery, fallback_for, Err(error)),
        }
    }

    /// Steps the running coroutine; what it waits for is returned, and its end is settled.
    pub(super) fn resume(
        &mut self,
        py: Python<'_>,
        thrown: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let Some(mut running) = self.running.take() else { return Ok(None) };
        let coroutine = running.coroutine.bind(py);
        let stepped = running.context.run(py, || match thrown {
            None => send(coroutine, py.None().bind(py)),
            Some(thrown) => match throw(coroutine, &thrown) {
                Ok(waits_for) => Ok(Step::Yielded(waits_for)),
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                    Ok(Step::Returned(error.value(py).getattr("value")?))
                }
                Err(error) => Err(error),
            },
        });
        let result = match stepped {
            Ok(Step::Yielded(waits_for)) => {
                let waits_for = waits_for.unbind();
                if !running.waited {
                    running.waited = true;
                    running.limit = self.limit(py, &running.time)?;
                }
                self.running = Some(running);
                return Ok(Some(waits_for));
            }
            Ok(Step::Returned(value)) => Ok(value.unbind()),
            Err(error) => Err(error),
        };
        if let Some(limit) = running.limit.take() {
            self.ready.shared.limits.clear(limit);
        }
        let timed_out = running.time.end();
        match result {
            Err(error) if timed_out && is_cancelled(py, &error) => {
                let Ready { subscription, handler, .. } = &self.ready;
                let limit = self.ready.timeout().unwrap_or_default();
                let conclusion = match running.fallback_for {
                    None => handler.conclude_timeout(
                        subscription,
                        running.delivery,
                        limit,
                        "was cancelled",
                    ),
                    Some(original) => {
                        let result = Err(error);
                        let delivery = running.delivery;
                        handler.conclude_fallback(py, subscription, delivery, original, result);
                        Conclusion::Settled
                    }
                };
                self.concluded(py, conclusion)?;
            }
            Err(error) if is_cancelled(py, &error) && !self.ready.subscription.is_active() => {
                // The subscription ended while its handler ran, and took it along.
                let subscription = &self.ready.subscription;
                if let Some(delivery) = subscription.interrupted(running.delivery) {
                    subscription.abandoned(delivery);
                }
            }
            result => self.finish(py, running.delivery, running.fallback_for, result)?,
        }
        Ok(None)
    }

    /// Sets the handler's time limit, now that it waits; one that never waits has none to fear.
    fn limit(&self, py: Python<'_>, time: &Arc<Time>) -> PyResult<Option<Key>> {
        let Some(timeout) = self.ready.timeout() else { return Ok(None) };
        let shared = &self.ready.shared;
        let Some(event_loop) = Loop::running(py)? else { return Ok(None) };
        let suspended = Suspended {
            task: py.import("asyncio")?.call_method0("current_task")?.unbind(),
            time: time.clone(),
            event_loop,
        };
        let at = shared.clock.now().saturating_add(timeout);
        Ok(Some(shared.limits.set(at, Limited::Task(suspended))))
    }

    fn finish(
        &mut self,
        py: Python<'_>,
        delivery: Delivery,
        fallback_for: Option<Failure>,
        result: PyResult<Py<PyAny>>,
    ) -> PyResult<()> {
        let Ready { subscription, handler, .. } = &self.ready;
        let conclusion = match fallback_for {
            None => handler.conclude(py, subscription, delivery, result),
            Some(original) => {
                let result = result.map(drop);
                handler.conclude_fallback(py, subscription, delivery, original, result);
                Conclusion::Settled
            }
        };
        self.concluded(py, conclusion)
    }

    fn concluded(&mut self, py: Python<'_>, conclusion: Conclusion) -> PyResult<()> {
        match conclusion {
            Conclusion::Delivered => self.done += 1,
            Conclusion::Undecided => {}
            Conclusion::Settled => self.put_back(), // a breaker may have opened: ask again
            Conclusion::Fallback(delivery, failure) if self.ready.handler.fallback_is_async() => {
                self.start(py, delivery, Some(failure))?;
            }
            Conclusion::Fallback(delivery, failure) => {
                let Ready { subscription, handler, .. } = &self.ready;
                handler.run_fallback(py, subscription, delivery, failure);
            }
            Conclusion::Fatal(error) => return Err(error),
        }
        Ok(())
    }

    /// Hands back what was pulled and not begun.
    pub(super) fn put_back(&mut self) {
        let done = std::mem::take(&mut self.done);
        self.ready.subscription.put_back(done, self.batch.drain(..));
    }
}

impl Drop for Work {
    /// The driver ends in the middle of it: nothing that was pulled may be lost.
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            if let Some(limit) = running.limit {
                self.ready.shared.limits.clear(limit);
            }
            if let Some(delivery) = self.ready.subscription.interrupted(running.delivery) {
                self.batch.push_front(delivery);
            }
        }
        if self.claimed {
            self.put_back();
            self.ready.subscription.release();
        }
    }
}

/// What `coroutine.throw(error)` does.
fn throw<'py>(
    coroutine: &Bound<'py, PyAny>,
    error: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    call_one(&coroutine.getattr(pyo3::intern!(coroutine.py(), "throw"))?, error)
}
