//! One claim on a subscription: its batch, and the handler that is being stepped.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

use crate::bus::{Delivery, Failure, Subscription};
use crate::clock::Instant;
use crate::deadlines::Key;
use crate::event::Event;
use crate::python::bridge::ffi::{Step, call_one, send};
use crate::python::bridge::{Loop, Tasks, guarded};
use crate::python::handler::{Conclusion, is_cancelled};
use crate::python::limits::{Limited, Suspended, Time};
use crate::python::shared::Ready;
use crate::python::stage::{self, Stage};
use crate::python::watchdog::{Part, traced};

thread_local! {
    /// The room of the last batch, for the next one.
    static SPARE: Cell<VecDeque<Delivery>> = const { Cell::new(VecDeque::new()) };
}

/// A handler's coroutine that waits for something.
struct Waiting {
    delivery: Delivery,
    coroutine: Py<PyAny>,
    stage: Stage,
    /// The failure before, when this is the fallback.
    fallback_for: Option<Failure>,
    limit: Option<Limit>,
}

/// The time limit of a handler that waits.
struct Limit {
    key: Key,
    time: Arc<Time>,
}

/// One claim on a subscription.
pub(super) struct Work {
    ready: Ready,
    batch: VecDeque<Delivery>,
    done: usize,
    /// Whether it was pulled just now.
    fresh: bool,
    /// What is known of how long the handler of its first event takes, until that ends.
    first: First,
    /// Whether a handler of this batch had to wait.
    waited: bool,
    /// Where the next handler runs, if the one before left it as it was.
    stage: Option<Stage>,
    /// The handler that waits, in room that the next one uses again.
    waiting: Option<Box<Option<Waiting>>>,
    /// For the time limit of the next one that waits, if the one before kept its own.
    time: Option<Arc<Time>>,
    /// What the async fallback is to be called for, before anything else.
    fallback: Option<(Delivery, Failure)>,
    /// Whether the claim is still to be released.
    claimed: bool,
}

/// The first event of a batch, by which it is told how long handlers take.
enum First {
    /// Its handler began then, as far as anybody has looked.
    Began(Instant),
    /// Nobody has looked at the clock, for it is not expected to wait.
    PassedOver,
    /// It has ended, or does not begin.
    Over,
}

/// What a step of a handler came to.
pub(super) enum Progress {
    /// It waits for this, for the first time or again.
    Waits { on: Py<PyAny>, first: bool },
    /// It came to its end, and was settled.
    Settled,
    /// There was nothing to begin.
    Idle,
}

impl Work {
    /// Claims a subscription, if there is work for it.
    pub(super) fn claim(ready: Ready) -> Option<Work> {
        let mut batch = SPARE.take();
        let claimed = ready.subscription.claim(ready.pull(), &mut batch);
        if !claimed {
            SPARE.set(batch);
            return None;
        }
        // Made only where there is a claim: dropping it releases one.
        Some(Work {
            ready,
            batch,
            done: 0,
            fresh: true,
            first: First::Over,
            waited: false,
            stage: None,
            waiting: None,
            time: None,
            fallback: None,
            claimed,
        })
    }

    /// Whose events these are.
    pub(super) fn subscription(&self) -> &Arc<Subscription> {
        &self.ready.subscription
    }

    /// The coroutine of the handler that waits, and its event.
    pub(super) fn waits<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyAny>, Arc<Event>)> {
        let waiting = (**self.waiting.as_ref()?).as_ref()?;
        Some((waiting.coroutine.bind(py).clone(), waiting.delivery.event.clone()))
    }

    /// Whether a handler waits for something.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.as_ref().is_some_and(|room| room.is_some())
    }

    /// Reports what is done and pulls more; false ends the claim.
    pub(super) fn next_batch(&mut self, py: Python<'_>) -> bool {
        let done = std::mem::take(&mut self.done);
        if !std::mem::take(&mut self.waited) {
            self.ready.handler.flows();
        }
        let most = self.ready.pull();
        let Ready { subscription, handler, .. } = &self.ready;
        self.claimed = subscription.next(done, most, &mut self.batch);
        self.fresh = true;
        if !self.claimed
            && let Some(stage) = self.stage.take()
        {
            handler.keep(py, stage);
        }
        self.claimed
    }

    /// Whether an async fallback is to be called next.
    pub(super) fn has_fallback(&self) -> bool {
        self.fallback.is_some()
    }

    /// Runs the handler for the next delivery of the batch, or its fallback for the one that
    /// just failed, until it waits or ends. `opens` says that nothing ran before it in this turn
    /// of the loop.
    pub(super) fn begin_next(
        &mut self,
        py: Python<'_>,
        event_loop: &Arc<Loop>,
        opens: bool,
    ) -> PyResult<Progress> {
        if let Some((delivery, failure)) = self.fallback.take() {
            return self.start(py, event_loop, delivery, Some(failure));
        }
        let Some(delivery) = self.batch.pop_front() else { return Ok(Progress::Idle) };
        let Ready { subscription, handler, .. } = &self.ready;
        let first = std::mem::take(&mut self.fresh);
        let Some(delivery) = subscription.begin(delivery, first) else {
            return Ok(Progress::Settled);
        };
        if first {
            let measured = opens || subscription.is_to_be_measured();
            let clock = &self.ready.shared.clock;
            self.first = if measured { First::Began(clock.now()) } else { First::PassedOver };
        } else if self.batch.is_empty() {
            subscription.last_begins(&delivery.event);
        }
        let progress = if handler.is_async() {
            self.start(py, event_loop, delivery, None)
        } else {
            let result = traced(py, subscription, &delivery.event, Part::Watched, || {
                handler.run_sync(py, &delivery)
            });
            self.finish(py, delivery, None, result)
        };
        self.note_duration(&progress);
        progress
    }

    /// Books how long the first of a batch took, once it has ended.
    #[inline]
    fn note_duration(&mut self, progress: &PyResult<Progress>) {
        if !matches!(self.first, First::Over) {
            self.note_first(matches!(progress, Ok(Progress::Waits { .. })));
        }
    }

    fn note_first(&mut self, waits: bool) {
        let Ready { subscription, shared, .. } = &self.ready;
        match self.first {
            // It was fast so far.
            First::PassedOver if waits => self.first = First::Began(shared.clock.now()),
            _ if waits => {}
            First::PassedOver => {
                subscription.note_unmeasured();
                self.first = First::Over;
            }
            First::Began(began) => {
                let took = shared.clock.now().saturating_since(began);
                subscription.note_duration(took, self.waited);
                self.first = First::Over;
            }
            First::Over => {}
        }
    }

    /// Calls an async handler, or its fallback, and takes the first step of its coroutine.
    fn start(
        &mut self,
        py: Python<'_>,
        event_loop: &Arc<Loop>,
        delivery: Delivery,
        fallback_for: Option<Failure>,
    ) -> PyResult<Progress> {
        let Ready { handler, subscription, .. } = &self.ready;
        let (stage, attempt) = match handler.stage_for(py, self.stage.take(), delivery) {
            Ok(set) => set,
            Err((error, delivery)) => return self.finish(py, delivery, fallback_for, Err(error)),
        };
        let mut coroutine = None;
        let event = stage.object(py).get().inner();
        let stepped = traced(py, subscription, event, Part::Watched, || {
            handler.call(py, &stage, fallback_for.is_some(), |called| {
                send(coroutine.insert(called), py.None().bind(py))
            })
        });
        let delivery = |stage: &Stage| attempt.of(stage.object(py).get().inner().clone());
        match stepped {
            Ok(Step::Yielded(on)) => {
                let Some(coroutine) = coroutine else { return Ok(Progress::Settled) };
                let waiting = self.waiting.get_or_insert_default().insert(Waiting {
                    delivery: delivery(&stage),
                    coroutine: coroutine.unbind(),
                    stage,
                    fallback_for,
                    limit: None,
                });
                self.waited = true;
                handler.waits();
                waiting.limit = self.ready.limit(py, event_loop, &mut self.time)?;
                Ok(Progress::Waits { on: on.unbind(), first: true })
            }
            Ok(Step::Returned(value)) => {
                drop(coroutine);
                if fallback_for.is_none() && handler.is_plain(subscription, attempt) {
                    self.stage = stage::cleared(py, stage);
                    self.done += 1;
                    return Ok(Progress::Settled);
                }
                let delivery = delivery(&stage);
                self.stage = stage::cleared(py, stage);
                self.finish(py, delivery, fallback_for, Ok(value.unbind()))
            }
            Err(error) => {
                let delivery = delivery(&stage);
                drop(stage); // the traceback has its event
                self.finish(py, delivery, fallback_for, Err(error))
            }
        }
    }

    /// Steps the handler that waits; its end is settled.
    pub(super) fn resume(
        &mut self,
        py: Python<'_>,
        thrown: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Progress> {
        let progress = self.step(py, thrown);
        self.note_duration(&progress);
        progress
    }

    fn step(&mut self, py: Python<'_>, thrown: Option<Bound<'_, PyAny>>) -> PyResult<Progress> {
        let Some(room) = &mut self.waiting else { return Ok(Progress::Idle) };
        let Some(waiting) = &**room else { return Ok(Progress::Idle) };
        let coroutine = waiting.coroutine.bind(py);
        let step = || match thrown {
            None => send(coroutine, py.None().bind(py)),
            Some(thrown) => match throw(coroutine, &thrown) {
                Ok(waits_for) => Ok(Step::Yielded(waits_for)),
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                    Ok(Step::Returned(error.value(py).getattr("value")?))
                }
                Err(error) => Err(error),
            },
        };
        let subscription = &self.ready.subscription;
        let stepped = traced(py, subscription, &waiting.delivery.event, Part::Watched, || {
            waiting.stage.context().run(py, || guarded("run a handler", step))
        });
        let result = match stepped {
            Ok(Step::Yielded(on)) => {
                return Ok(Progress::Waits { on: on.unbind(), first: false });
            }
            Ok(Step::Returned(value)) => Ok(value.unbind()),
            Err(error) => Err(error),
        };
        let Some(ended) = room.take() else { return Ok(Progress::Idle) };
        let Waiting { delivery, coroutine, stage, fallback_for, limit } = ended;
        drop(coroutine);
        self.stage = stage::cleared(py, stage);
        let timed_out = limit.is_some_and(|limit| self.end_limit(limit));
        match result {
            Err(error) if timed_out && is_cancelled(py, &error) => {
                let Ready { subscription, handler, .. } = &self.ready;
                let limit = self.ready.timeout().unwrap_or_default();
                let conclusion = match fallback_for {
                    None => {
                        handler.conclude_timeout(subscription, delivery, limit, "was cancelled")
                    }
                    Some(original) => {
                        let result = Err(error);
                        handler.conclude_fallback(py, subscription, delivery, original, result);
                        Conclusion::Settled
                    }
                };
                self.concluded(py, conclusion)
            }
            Err(error) if is_cancelled(py, &error) && !self.ready.subscription.is_active() => {
                // The subscription ended while its handler ran, and took it along.
                let subscription = &self.ready.subscription;
                if let Some(delivery) = subscription.interrupted(delivery) {
                    subscription.abandoned(delivery);
                }
                Ok(Progress::Settled)
            }
            result => self.finish(py, delivery, fallback_for, result),
        }
    }

    /// The handler has ended; returns whether its time was up before.
    fn end_limit(&mut self, Limit { key, time }: Limit) -> bool {
        let kept = self.ready.shared.limits.clear(key).is_some();
        if kept {
            self.time = Some(time); // nobody else has it
            return false;
        }
        time.end()
    }

    fn finish(
        &mut self,
        py: Python<'_>,
        delivery: Delivery,
        fallback_for: Option<Failure>,
        result: PyResult<Py<PyAny>>,
    ) -> PyResult<Progress> {
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

    fn concluded(&mut self, py: Python<'_>, conclusion: Conclusion) -> PyResult<Progress> {
        match conclusion {
            Conclusion::Delivered => self.done += 1,
            Conclusion::Undecided => {}
            Conclusion::Settled => self.put_back(), // a breaker may have opened: ask again
            Conclusion::Fallback(delivery, failure) if self.ready.handler.fallback_is_async() => {
                self.fallback = Some((delivery, failure));
            }
            Conclusion::Fallback(delivery, failure) => {
                let Ready { subscription, handler, .. } = &self.ready;
                handler.run_fallback(py, subscription, delivery, failure, Part::Watched);
            }
            Conclusion::Fatal(error) => return Err(error),
        }
        Ok(Progress::Settled)
    }

    /// Hands back what was pulled and not begun.
    pub(super) fn put_back(&mut self) {
        let done = std::mem::take(&mut self.done);
        if done > 0 || !self.batch.is_empty() {
            self.ready.subscription.put_back(done, self.batch.drain(..));
        }
    }
}

impl Drop for Work {
    /// The driver ends in the middle of it: nothing that was pulled may be lost.
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take().and_then(|room| *room) {
            if let Some(limit) = waiting.limit {
                self.end_limit(limit);
            }
            if let Some(delivery) = self.ready.subscription.interrupted(waiting.delivery) {
                self.batch.push_front(delivery);
            }
        }
        if let Some((delivery, _)) = self.fallback.take() {
            self.batch.push_front(delivery);
        }
        if self.claimed {
            self.put_back();
            self.ready.subscription.release();
        }
        // Gone with its thread, at the end of that.
        let _ = SPARE.try_with(|spare| spare.set(std::mem::take(&mut self.batch)));
    }
}

impl Ready {
    /// How many events are to be pulled at once.
    fn pull(&self) -> usize {
        self.handler.pull(self.shared.batch)
    }

    /// Sets the handler's time limit, now that it waits.
    fn limit(
        &self,
        py: Python<'_>,
        event_loop: &Arc<Loop>,
        spare: &mut Option<Arc<Time>>,
    ) -> PyResult<Option<Limit>> {
        let Some(timeout) = self.timeout() else { return Ok(None) };
        let Some(running) = event_loop.get(py) else { return Ok(None) };
        let Some(task) = Tasks::get(py)?.current(&running)? else { return Ok(None) };
        let time = spare.take().unwrap_or_else(|| Arc::new(Time::new(event_loop.clone())));
        let subscription = Arc::as_ptr(&self.subscription) as usize;
        let suspended = Suspended { task: task.unbind(), time: time.clone(), subscription };
        let key = self.shared.limits.set(timeout, Limited::Task(suspended));
        Ok(Some(Limit { key, time }))
    }
}

/// What `coroutine.throw(error)` does.
fn throw<'py>(
    coroutine: &Bound<'py, PyAny>,
    error: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    call_one(&coroutine.getattr(pyo3::intern!(coroutine.py(), "throw"))?, error)
}
