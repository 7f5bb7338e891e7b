//! Handlers on an asyncio loop: a pool of driver tasks that step coroutines in batches.
//!
//! A *driver* is a coroutine written in Rust. As long as handlers come to their end without
//! waiting, one driver steps one after the other in a single step of its task. When a handler
//! waits, the driver's task waits with it and stays bound to it, so that `current_task`,
//! `asyncio.timeout` and task groups behave as in a task of the handler's own; another driver
//! takes over the rest. What a handler cancels dies with its task: that driver takes no other
//! event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::bridge::ffi::{Context, Step, send};
use super::bridge::{Loop, guarded, runtime, with_python};
use super::handler::{Conclusion, Handler, is_cancelled};
use super::shared::{Limited, Ready, Shared};
use crate::bus::{Delivery, Executor, Failure, Subscription};
use crate::deadlines::Key;

/// Handlers stepped before the loop gets a turn for its other work.
const SLICE: usize = 128;

/// How long a wake-up from another thread may take before we look whether the loop is closed.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs one subscription's handler on one loop.
pub(super) struct LoopExecutor {
    pub pump: Arc<Pump>,
    pub handler: Arc<Handler>,
    pub shared: std::sync::Weak<Shared>,
}

impl std::fmt::Debug for LoopExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoopExecutor")
    }
}

impl Executor for LoopExecutor {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        if let Some(shared) = self.shared.upgrade() {
            self.pump.schedule(Ready {
                subscription: subscription.clone(),
                handler: self.handler.clone(),
                shared,
            });
        }
    }

    fn thread(&self) -> Option<std::thread::ThreadId> {
        Some(self.pump.event_loop.thread())
    }

    fn describe(&self) -> &'static str {
        "loop"
    }
}

/// The ready list of one loop.
pub(super) struct Pump {
    event_loop: Arc<Loop>,
    ready: Mutex<VecDeque<Ready>>,
    /// Whether a driver is under way that will look at the ready list.
    pending: AtomicBool,
    /// Rises with each driver that began: how we see that a loop is alive.
    begun: std::sync::atomic::AtomicU64,
}

impl Pump {
    pub(super) fn of(event_loop: &Arc<Loop>) -> Arc<Pump> {
        event_loop.extension(|| {
            Arc::new(Pump {
                event_loop: event_loop.clone(),
                ready: Mutex::default(),
                pending: AtomicBool::new(false),
                begun: std::sync::atomic::AtomicU64::new(0),
            })
        })
    }

    fn schedule(self: &Arc<Self>, ready: Ready) {
        self.ready.lock().push_back(ready);
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.start_driver();
        }
    }

    /// Starts a task for a new driver that leads; `pending` is already set.
    fn start_driver(self: &Arc<Self>) {
        let pump = self.clone();
        if self.event_loop.is_here() {
            // Asked first: uvloop crashes the process when a closed loop is given a task.
            with_python(|py| match pump.event_loop.open(py) {
                Some(event_loop) => {
                    if let Err(error) = pump.create_task(py, &event_loop, None) {
                        pump.loop_failed(py, error);
                    }
                }
                None => pump.orphan_all(),
            });
            return;
        }
        self.event_loop.call(move |py, event_loop| pump.create_task(py, event_loop, None));
        self.watch_loop();
    }

    fn create_task(
        self: &Arc<Self>,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        work: Option<Work>,
    ) -> PyResult<()> {
        static TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = TASK.get_or_try_init(py, || {
            PyResult::Ok(py.import("tiebeam._driver")?.getattr("DriverTask")?.unbind())
        })?;
        let driver = Driver {
            state: Mutex::new(Some(Box::new(DriverState {
                pump: self.clone(),
                leads: work.is_none(),
                work,
            }))),
            cancelled: AtomicBool::new(false),
        };
        let options = PyDict::new(py);
        options.set_item(pyo3::intern!(py, "loop"), event_loop)?;
        class.bind(py).call((Bound::new(py, driver)?,), Some(&options))?;
        Ok(())
    }

    fn loop_failed(self: &Arc<Self>, py: Python<'_>, error: PyErr) {
        if self.event_loop.is_gone(py) {
            self.orphan_all();
        } else {
            error.write_unraisable(py, None);
            self.pending.store(false, Ordering::Release);
        }
    }

    /// The loop is gone: whoever was served by it must hear of it, and its events be kept.
    fn orphan_all(self: &Arc<Self>) {
        self.pending.store(false, Ordering::Release);
        let left = std::mem::take(&mut *self.ready.lock());
        for ready in left {
            ready.subscription.orphan();
        }
    }

    /// A closed loop swallows wake-ups without a word; look after it a little later.
    fn watch_loop(self: &Arc<Self>) {
        let begun = self.begun.load(Ordering::Acquire);
        let pump = self.clone();
        let Some(Ok(runtime)) = with_python(runtime) else { return };
        let blocking = runtime.handle().clone();
        let timer = runtime.clock().schedule(PATIENCE, move || {
            if pump.begun.load(Ordering::Acquire) == begun && pump.pending.load(Ordering::Acquire) {
                // Off the clock's thread: looking takes the GIL.
                blocking.spawn_blocking(move || {
                    let gone = with_python(|py| pump.event_loop.is_gone(py));
                    match gone {
                        Some(true) => pump.orphan_all(),
                        // Busy, or not running just now: it may still be closed later on.
                        Some(false) => pump.watch_loop(),
                        None => {}
                    }
                });
            }
        });
        timer.detach();
    }
}

/// An async handler that waits, and the task it waits in.
pub(super) struct Suspended {
    task: Py<PyAny>,
    time: Arc<Time>,
    event_loop: Arc<Loop>,
}

/// Whether a handler's time is up. Its task serves other handlers after it: a time limit that
/// comes too late must not hit one of them.
#[derive(Debug, Default)]
struct Time(AtomicU8);

impl Time {
    const UP: u8 = 1;
    const ENDED: u8 = 2;

    /// The time is up; false when the handler has ended before.
    fn up(&self) -> bool {
        self.0.compare_exchange(0, Time::UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The handler has ended; returns whether its time was up before.
    fn end(&self) -> bool {
        self.0.swap(Time::ENDED, Ordering::AcqRel) == Time::UP
    }
}

impl Suspended {
    /// The time is up: cancels the task from inside its loop.
    pub(super) fn expire(self) {
        let Suspended { task, time, event_loop } = self;
        event_loop.call(
            move |py, _| {
                if time.up() { task.call_method0(py, "cancel").map(drop) } else { Ok(()) }
            },
        );
    }
}

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
struct Work {
    ready: Ready,
    batch: VecDeque<Delivery>,
    done: usize,
    running: Option<Running>,
    /// Whether the claim is still to be released.
    claimed: bool,
}

struct DriverState {
    pump: Arc<Pump>,
    work: Option<Work>,
    /// Whether this driver is the one that `pending` speaks of.
    leads: bool,
}

/// The coroutine of a driver task.
#[pyclass(name = "_Driver", module = "tiebeam._core", frozen)]
pub(super) struct Driver {
    /// Taken out while a step runs: Python code never runs under the lock.
    state: Mutex<Option<Box<DriverState>>>,
    cancelled: AtomicBool,
}

#[pymethods]
impl Driver {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.step(py, None)
    }

    fn send(&self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py, None)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        let exception = match value {
            Some(value) if !value.is_none() => value,
            _ if kind.is_instance_of::<pyo3::types::PyType>() => kind.call0()?,
            _ => kind,
        };
        self.step(py, Some(exception))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self) {
        let state = self.state.lock().take();
        drop(state);
    }

    /// Called by the task when somebody cancels it.
    fn note_cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

impl Driver {
    fn step(
        &self,
        py: Python<'_>,
        thrown: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let Some(mut state) = self.state.lock().take() else {
            return match thrown {
                Some(thrown) => Err(PyErr::from_value(thrown)),
                None => Err(PyRuntimeError::new_err("this driver has ended, or runs already")),
            };
        };
        let result = guarded("drive handlers", || state.advance(py, &self.cancelled, thrown));
        if let Ok(Some(_)) = &result {
            *self.state.lock() = Some(state);
        }
        // Otherwise it has ended, and what it still held is handed back as it is dropped.
        result
    }
}

impl DriverState {
    /// Steps handlers until one waits (its future is returned), the slice is used up (None is
    /// yielded), or there is nothing left to do.
    fn advance(
        &mut self,
        py: Python<'_>,
        cancelled: &AtomicBool,
        mut thrown: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        self.pump.begun.fetch_add(1, Ordering::AcqRel);
        let mut slice = SLICE;
        loop {
            let Some(work) = &mut self.work else {
                if let Some(thrown) = thrown.take() {
                    return Err(PyErr::from_value(thrown));
                }
                let next = self.pump.ready.lock().pop_front();
                match next {
                    Some(ready) => {
                        let mut batch = VecDeque::new();
                        if ready.subscription.claim(ready.shared.batch, &mut batch) {
                            self.work =
                                Some(Work { ready, batch, done: 0, running: None, claimed: true });
                        }
                        continue;
                    }
                    None if self.retire() => return Ok(None),
                    None => continue,
                }
            };
            if let Some(running) = work.running.take() {
                let waited = running.waited;
                if let Some(waits_for) = work.resume(py, running, thrown.take())? {
                    if !waited {
                        self.hand_over();
                    }
                    return Ok(Some(waits_for));
                }
                if cancelled.load(Ordering::Acquire) {
                    return self.leave_task(py);
                }
                continue;
            }
            if let Some(thrown) = thrown.take() {
                return Err(PyErr::from_value(thrown));
            }
            if slice == 0 {
                return Ok(Some(py.None()));
            }
            if let Some(delivery) = work.batch.pop_front() {
                slice -= 1;
                work.begin(py, delivery)?;
                if cancelled.load(Ordering::Acquire) {
                    return self.leave_task(py);
                }
                continue;
            }
            let done = std::mem::take(&mut work.done);
            let (ready, batch) = (&work.ready, &mut work.batch);
            if !ready.subscription.next(done, ready.shared.batch, batch) {
                work.claimed = false;
                self.work = None;
            }
        }
    }

    /// This task's cancellation was one handler's affair. Its fallback, if it is to run, and
    /// the next events get other tasks; dropping the state hands over what is left.
    fn leave_task(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if let Some(mut work) = self.work.take_if(|work| work.running.is_some()) {
            work.put_back();
            if let Some(event_loop) = self.pump.event_loop.get(py) {
                self.pump.create_task(py, &event_loop, Some(work))?;
            }
        }
        Ok(None)
    }

    /// A handler waits: another driver takes the rest.
    fn hand_over(&mut self) {
        if let Some(work) = &mut self.work {
            work.put_back();
        }
        self.stop_leading();
    }

    fn stop_leading(&mut self) {
        if !std::mem::take(&mut self.leads) {
            return;
        }
        self.pump.pending.store(false, Ordering::Release);
        let waiting = !self.pump.ready.lock().is_empty();
        if waiting && !self.pump.pending.swap(true, Ordering::AcqRel) {
            self.pump.start_driver();
        }
    }

    /// Ends this driver's turn, unless work came at the last moment.
    fn retire(&mut self) -> bool {
        if !self.leads {
            return true;
        }
        self.pump.pending.store(false, Ordering::Release);
        let waiting = !self.pump.ready.lock().is_empty();
        if waiting && !self.pump.pending.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.leads = false;
        true
    }
}

impl Drop for DriverState {
    fn drop(&mut self) {
        drop(self.work.take());
        self.stop_leading();
    }
}

impl Work {
    /// Begins one delivery; an async handler is left in `running`.
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

    /// Steps a coroutine; what it waits for is returned, and its end is settled.
    fn resume(
        &mut self,
        py: Python<'_>,
        mut running: Running,
        thrown: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let coroutine = running.coroutine.bind(py);
        let stepped = running.context.run(py, || match thrown {
            None => send(coroutine, py.None().bind(py)),
            Some(thrown) => match coroutine.call_method1("throw", (thrown,)) {
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
                self.ready.subscription.abandoned(running.delivery);
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

    fn put_back(&mut self) {
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
            self.batch.push_front(running.delivery);
        }
        if self.claimed {
            self.put_back();
            self.ready.subscription.release();
        }
    }
}
