//! `EventBus`: publish, subscribe, request, send.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::args::{self, Grace, Seconds, seconds, whole};
use super::blocking::{block, refuse_own_loop};
use super::bridge::{RustAwaitable, check_process, ffi, guarded, runtime};
use super::broker::{self, Broker};
use super::clock::PyClock;
use super::component::LoopSlot;
use super::dead_letters::PyDeadLetters;
use super::dedup;
use super::destinations::Destinations;
use super::payload;
use super::policies::standard_policy;
use super::pump::eager::{Served, asking};
use super::receipt::{Receipt, Receipts};
use super::reply::{PyPendingReply, Replies};
use super::said::Said;
use super::shared::Shared;
use super::subscribing::{self, How};
use super::subscription::{PyPeriodic, PySubscription};
use super::typed::What;
use super::waiting::{self, PyPendingEvent, PyStream};
use super::watching;
use crate::bus::{Admission, Bus, BusSettings, Draft, Published, Role, Wanted};
use crate::registry::Slot;
use crate::transport::open;

/// An event bus, or one component's view of it.
#[pyclass(name = "EventBus", module = "tiebeam._core", subclass, frozen, weakref)]
pub(super) struct PyBus {
    shared: Arc<Shared>,
    /// Stamped on what is published here.
    producer: Arc<str>,
    component: Option<Arc<str>>,
    /// Where a component's figures are kept.
    slot: Option<Arc<Slot>>,
    receipts: Receipts,
    replies: Replies,
    destinations: Destinations,
}

impl PyBus {
    pub(super) fn over(
        shared: Arc<Shared>,
        producer: Arc<str>,
        component: Option<Arc<str>>,
        slot: Option<Arc<Slot>>,
    ) -> PyBus {
        PyBus {
            shared,
            producer,
            component,
            slot,
            receipts: Receipts::new(),
            replies: Replies::new(),
            destinations: Destinations::new(),
        }
    }

    /// Hands the draft of what was said to `act`.
    fn with_draft<T>(
        &self,
        py: Python<'_>,
        event_type: &str,
        said: &Said<'_, '_>,
        act: impl FnOnce(Draft<'_>) -> crate::error::Result<T>,
    ) -> PyResult<T> {
        check_process()?;
        let from = (&*self.shared, &self.producer);
        // A panic is an error of the caller, not the end of what it does.
        guarded("publish", || said.with_draft(py, event_type, from, act))
    }

    /// [`PyBus::with_draft`] for what is published at once, and counts for the component.
    fn publish_draft<T>(
        &self,
        py: Python<'_>,
        event_type: &str,
        said: &Said<'_, '_>,
        act: impl FnOnce(Draft<'_>) -> crate::error::Result<T>,
    ) -> PyResult<T> {
        let acted = self.with_draft(py, event_type, said, act)?;
        if let Some(slot) = &self.slot {
            slot.meters().published(1);
        }
        Ok(acted)
    }

    fn add(
        &self,
        py: Python<'_>,
        pattern: &str,
        handler: Bound<'_, PyAny>,
        role: Role,
        how: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PySubscription> {
        let how = How::read(how)?;
        subscribing::add(py, &self.shared, self.component.as_ref(), pattern, handler, role, how)
    }

    /// Resolves when the broker is there, and all that was subscribed to is read.
    fn ready_within(
        &self,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<impl Future<Output = crate::error::Result<()>> + Send + use<>> {
        check_process()?;
        let limit =
            seconds("timeout", timeout)?.unwrap_or(self.shared.bus.settings().connect_timeout);
        let bus = self.shared.bus.clone();
        Ok(async move { broker::ready(bus, limit).await })
    }

    /// A receipt for what waits for room; an error at once where nobody can wait for it.
    fn receipt(&self, py: Python<'_>, mut published: Published) -> PyResult<Py<Receipt>> {
        if published.admission.as_ref().is_some_and(Admission::waits_for_room)
            && result_is_discarded(py)
            && let Some(admission) = published.admission.take()
        {
            admission.give_up()?;
        }
        self.receipts.of(py, published)
    }
}

#[pymethods]
impl PyBus {
    #[new]
    #[pyo3(signature = (
        name="bus", *, capacity=None, overflow=None, batch_size=None, handler_timeout=None,
        request_timeout=None, max_payload=None, dedup=None, url=None, prefix=None, outbox=None,
        claim_idle=None, partitions=None, tls=None, heartbeat=None, mandatory=None,
        connect_timeout=None, max_retry=None, retry_delay=None, watchdog=None,
        clock=None, seed=None, _view=None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments with defaults
    fn new(
        py: Python<'_>,
        name: &str,
        capacity: Option<usize>,
        overflow: Option<&str>,
        batch_size: Option<usize>,
        handler_timeout: Option<Seconds>,
        request_timeout: Option<Seconds>,
        max_payload: Option<usize>,
        dedup: Option<&Bound<'_, PyAny>>,
        url: Option<&str>,
        prefix: Option<String>,
        outbox: Option<&Bound<'_, PyAny>>,
        claim_idle: Option<Seconds>,
        partitions: Option<usize>,
        tls: Option<&Bound<'_, PyAny>>,
        heartbeat: Option<Seconds>,
        mandatory: Option<bool>,
        connect_timeout: Option<Seconds>,
        max_retry: Option<u32>,
        retry_delay: Option<Seconds>,
        watchdog: Option<&Bound<'_, PyAny>>,
        clock: Option<&PyClock>,
        seed: Option<&Bound<'_, PyAny>>,
        _view: Option<&PyBus>,
    ) -> PyResult<PyBus> {
        if let Some(view) = _view {
            // A framework's bus, in the class that users know.
            return Ok(PyBus::over(
                view.shared.clone(),
                view.producer.clone(),
                view.component.clone(),
                view.slot.clone(),
            ));
        }
        let seed = whole("seed", seed)?;
        let mut settings = BusSettings { name: name.to_owned(), seed, ..BusSettings::default() };
        let remembered = dedup::dedup(dedup)?;
        settings.dedup = remembered;
        settings.watchdog = watching::watchdog(watchdog)?;
        if let Some(overflow) = overflow {
            settings.overflow = subscribing::default_overflow(overflow)?;
        }
        for (name, given, target) in [
            ("capacity", capacity, &mut settings.capacity),
            ("batch_size", batch_size, &mut settings.batch_size),
            ("max_payload", max_payload, &mut settings.max_payload),
        ] {
            match given {
                None => {}
                Some(0) => {
                    return Err(PyValueError::new_err(format!("{name} must be at least 1, got 0")));
                }
                Some(given) => *target = given,
            }
        }
        if let Some(timeout) = handler_timeout {
            settings.handler_timeout = timeout.0;
        }
        if let Some(tries) = max_retry {
            settings.max_deliveries = u64::from(tries) + 1;
        }
        if let Some(timeout) = connect_timeout {
            if timeout.0.is_zero() {
                return Err(PyValueError::new_err("connect_timeout must be above zero"));
            }
            settings.connect_timeout = timeout.0;
        }
        if let Some(timeout) = request_timeout {
            settings.request_timeout = timeout.0;
        }
        let clock = match clock {
            Some(clock) => clock.inner().clone(),
            None => runtime(py)?.clock().clone(),
        };
        let default_policy = standard_policy(clock.clone(), seed);
        let broker = Broker {
            url,
            prefix,
            outbox,
            claim_idle: claim_idle.map(|s| s.0),
            partitions,
            tls,
            heartbeat: heartbeat.map(|s| s.0),
            mandatory,
            connect_timeout_given: connect_timeout.is_some(),
            max_retry,
            retry_delay: retry_delay.map(|s| s.0),
        };
        let broker = broker.options(&settings, dedup.is_some().then_some(remembered))?;
        let bus = Bus::new(settings, clock.clone());
        if let Some(options) = broker {
            let handle = runtime(py)?.handle().clone();
            bus.reach_out(|news| open::open(&options, clock, handle, news))?;
        }
        let home = LoopSlot::default();
        let shared = Shared::new(bus, Box::new(default_policy), home, &runtime(py)?);
        Ok(PyBus::over(shared, Arc::from(name), None, None))
    }

    /// Its name, and the producer of what is published here.
    #[getter]
    fn name(&self) -> &str {
        &self.producer
    }

    /// Whether it takes no more events.
    #[getter]
    fn closed(&self) -> bool {
        self.shared.bus.is_closed()
    }

    /// Publishes an event: its type and its payload, or a typed event.
    ///
    /// Returns a receipt: `await` it, or call its `wait()` in a thread, to wait for room in full
    /// mailboxes. Raises `TopicError`, `PayloadError`, `ClosedError`, and `MailboxFull` where nobody
    /// can wait.
    #[pyo3(signature = (
        event_type, payload=None, /, *, key=None, priority=None, correlation_id=None,
        deadline=None, delay=None, version=None, metadata=None, event_id=None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments with defaults
    fn publish<'py>(
        &self,
        py: Python<'py>,
        event_type: What<'py>,
        payload: Option<&Bound<'py, PyAny>>,
        key: Option<&Bound<'py, PyAny>>,
        priority: Option<&Bound<'py, PyAny>>,
        correlation_id: Option<&Bound<'py, PyAny>>,
        deadline: Option<&Bound<'py, PyAny>>,
        delay: Option<&Bound<'py, PyAny>>,
        version: Option<&Bound<'py, PyAny>>,
        metadata: Option<&Bound<'py, PyAny>>,
        event_id: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Py<Receipt>> {
        let said = Said {
            event_id,
            key,
            priority,
            correlation_id,
            deadline,
            metadata,
            ..Said::about(&event_type, payload, version)?
        };
        if let Some(delay) = seconds("delay", delay)? {
            let bus = &self.shared.bus;
            let name = event_type.topic().to_str()?;
            let later =
                self.publish_draft(py, name, &said, |draft| bus.publish_later(draft, delay))?;
            return self.receipts.of(py, later);
        }
        let bus = &self.shared.bus;
        let destination = self.destinations.find(bus, event_type.topic())?;
        let published = self.publish_draft(py, destination.event_type(), &said, |draft| {
            bus.publish_to(&destination, draft)
        })?;
        self.receipt(py, published)
    }

    /// Sends a request to one of its responders, or to all with `n`; returns what to await for the
    /// reply, or to `wait()` for in a thread.
    ///
    /// Raises `NoResponder` at once; the reply `RequestTimeout` or `RequestFault`.
    #[pyo3(signature = (
        event_type, payload=None, /, *, timeout=None, n=None, quorum=None, key=None,
        priority=None, correlation_id=None, version=None, metadata=None, event_id=None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments with defaults
    fn request<'py>(
        &self,
        py: Python<'py>,
        event_type: What<'py>,
        payload: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
        n: Option<&Bound<'py, PyAny>>,
        quorum: Option<&Bound<'py, PyAny>>,
        key: Option<&Bound<'py, PyAny>>,
        priority: Option<&Bound<'py, PyAny>>,
        correlation_id: Option<&Bound<'py, PyAny>>,
        version: Option<&Bound<'py, PyAny>>,
        metadata: Option<&Bound<'py, PyAny>>,
        event_id: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Py<PyPendingReply>> {
        let said = Said {
            event_id,
            key,
            priority,
            correlation_id,
            metadata,
            ..Said::about(&event_type, payload, version)?
        };
        let (n, quorum) = (whole("n", n)?, whole("quorum", quorum)?);
        let timeout = seconds("timeout", timeout)?;
        let timeout = timeout.unwrap_or(self.shared.bus.settings().request_timeout);
        let bus = &self.shared.bus;
        let name = event_type.topic().to_str()?;
        let Some(n) = n else {
            if quorum.is_some() {
                return Err(PyValueError::new_err(
                    "quorum is a part of n: give `n=` too, the number of replies to wait for",
                ));
            }
            let mut served = Served::default();
            let asked = self.publish_draft(py, name, &said, |draft| {
                let asked;
                (asked, served) = asking(py, |serve| bus.request_meanwhile(draft, timeout, serve));
                asked
            });
            if let Some(fatal) = served.fatal {
                return Err(*fatal);
            }
            return self.replies.of(py, asked?, &served);
        };
        let wanted = Wanted::new(n, quorum)?;
        let ask = |draft: Draft<'_>| bus.request_many(draft, timeout, wanted);
        Replies::many(py, self.publish_draft(py, name, &said, ask)?)
    }

    /// Sends a command to its one handler; returns a receipt, as `publish` does.
    ///
    /// Raises `NoHandler` when it has none.
    #[pyo3(signature = (
        event_type, payload=None, /, *, key=None, priority=None, correlation_id=None,
        deadline=None, version=None, metadata=None, event_id=None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments with defaults
    fn send<'py>(
        &self,
        py: Python<'py>,
        event_type: What<'py>,
        payload: Option<&Bound<'py, PyAny>>,
        key: Option<&Bound<'py, PyAny>>,
        priority: Option<&Bound<'py, PyAny>>,
        correlation_id: Option<&Bound<'py, PyAny>>,
        deadline: Option<&Bound<'py, PyAny>>,
        version: Option<&Bound<'py, PyAny>>,
        metadata: Option<&Bound<'py, PyAny>>,
        event_id: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Py<Receipt>> {
        let said = Said {
            event_id,
            key,
            priority,
            correlation_id,
            deadline,
            metadata,
            ..Said::about(&event_type, payload, version)?
        };
        let name = event_type.topic().to_str()?;
        let published = self.publish_draft(py, name, &said, |draft| self.shared.bus.send(draft))?;
        self.receipt(py, published)
    }

    #[pyo3(signature = (pattern, handler, /, **how))]
    fn _subscribe(
        &self,
        py: Python<'_>,
        pattern: &str,
        handler: Bound<'_, PyAny>,
        how: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PySubscription> {
        self.add(py, pattern, handler, Role::Subscriber, how)
    }

    #[pyo3(signature = (event_type, handler, /, **how))]
    fn _respond(
        &self,
        py: Python<'_>,
        event_type: &str,
        handler: Bound<'_, PyAny>,
        how: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PySubscription> {
        self.add(py, event_type, handler, Role::Responder, how)
    }

    #[pyo3(signature = (event_type, handler, /, **how))]
    fn _handle(
        &self,
        py: Python<'_>,
        event_type: &str,
        handler: Bound<'_, PyAny>,
        how: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PySubscription> {
        self.add(py, event_type, handler, Role::CommandHandler, how)
    }

    /// Publishes an event again and again, the first time after `seconds`; ends with `cancel()` on
    /// what is returned.
    #[pyo3(signature = (seconds, event_type, payload=None, /))]
    fn every<'py>(
        &self,
        py: Python<'py>,
        seconds: &Bound<'py, PyAny>,
        event_type: What<'py>,
        payload: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<PyPeriodic> {
        let between = args::seconds("seconds", Some(seconds))?.unwrap_or_default();
        let said = Said::about(&event_type, payload, None)?;
        let bus = &self.shared.bus;
        let slot = self.slot.clone();
        let told = move || {
            if let Some(slot) = &slot {
                slot.meters().published(1);
            }
        };
        let name = event_type.topic().to_str()?;
        let periodic =
            self.with_draft(py, name, &said, |draft| bus.every_told(between, draft, told))?;
        Ok(PyPeriodic::new(periodic))
    }

    #[pyo3(signature = (pattern, /, *, r#where=None, timeout=None))]
    fn _wait_for(
        &self,
        pattern: &str,
        r#where: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyPendingEvent> {
        let timeout = seconds("timeout", timeout)?;
        waiting::wait_for(&self.shared, self.component.as_ref(), pattern, r#where, timeout)
    }

    #[pyo3(signature = (pattern, /, *, name=None, r#where=None, capacity=None, overflow=None))]
    fn _stream(
        &self,
        pattern: &str,
        name: Option<&str>,
        r#where: Option<&Bound<'_, PyAny>>,
        capacity: Option<usize>,
        overflow: Option<&str>,
    ) -> PyResult<PyStream> {
        let (who, room) = ((name, r#where), (capacity, overflow));
        waiting::stream(&self.shared, self.component.as_ref(), pattern, who, room)
    }

    /// The deliveries that were given up on.
    #[getter]
    fn dead_letters(&self) -> PyDeadLetters {
        PyDeadLetters::new(self.shared.bus.clone())
    }

    /// What became of every event, as plain figures.
    fn _books<'py>(&self, py: Python<'py>, internal: bool) -> PyResult<Bound<'py, PyAny>> {
        check_process()?;
        let bus = &self.shared.bus;
        let books = payload::to_python(py, &if internal { bus.all_books() } else { bus.books() })?;
        books.set_item("abandoned_threads", self.shared.workers.abandoned())?;
        let lag = bus.lag().unwrap_or_default();
        books.set_item("loop_lag", lag.last.as_secs_f64())?;
        books.set_item("longest_loop_lag", lag.longest.as_secs_f64())?;
        Ok(books)
    }

    fn _explain<'py>(
        &self,
        py: Python<'py>,
        event_type: &str,
        internal: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        check_process()?;
        payload::to_python(py, &self.shared.bus.explain(event_type, internal)?)
    }

    /// One line for each: its name and its pattern; without the framework's own.
    #[getter]
    fn subscriptions(&self) -> Vec<String> {
        let subscriptions = self.shared.bus.subscriptions();
        let shown = subscriptions.iter().filter(|s| !s.options().internal);
        shown.map(|s| format!("{} <- {}", s.name(), s.pattern())).collect()
    }

    /// What can be asked of its subscriptions and publishers, by the transport that it is on.
    #[getter]
    fn capabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        payload::to_python(py, &self.shared.bus.capabilities())
    }

    /// Why the broker is not there just now; `None` if it is, or there is none.
    #[getter]
    fn trouble(&self) -> Option<String> {
        self.shared.bus.trouble()
    }

    /// How many events wait to be sent to the broker.
    #[getter]
    fn unsent(&self) -> usize {
        self.shared.bus.unsent()
    }

    /// Waits until the broker answers, and all that was subscribed to by now is read; at once in
    /// memory.
    #[pyo3(signature = (timeout=None))]
    fn ready(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<RustAwaitable>> {
        let ready = self.ready_within(timeout)?;
        let future = async move {
            ready.await?;
            Python::attach(|py| Ok(py.None()))
        };
        Py::new(py, RustAwaitable::new(future))
    }

    /// Takes everything of this bus off the broker.
    fn _wipe(&self, py: Python<'_>) -> PyResult<Py<RustAwaitable>> {
        check_process()?;
        let bus = self.shared.bus.clone();
        let future = async move {
            bus.wipe().await?;
            Python::attach(|py| Ok(py.None()))
        };
        Py::new(py, RustAwaitable::new(future))
    }

    /// `ready` for a plain thread.
    #[pyo3(signature = (timeout=None))]
    fn ready_sync(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let ready = self.ready_within(timeout)?;
        Ok(block(py, ready, None, "ready")??)
    }

    /// Waits until nothing is queued, handled or waiting for a retry.
    fn drain(&self, py: Python<'_>) -> PyResult<Py<RustAwaitable>> {
        let bus = self.shared.bus.clone();
        let future = async move {
            bus.drained().await;
            Python::attach(|py| Ok(py.None()))
        };
        Py::new(py, RustAwaitable::new(future))
    }

    /// `drain` for a plain thread.
    #[pyo3(signature = (timeout=None))]
    fn drain_sync(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let timeout = seconds("timeout", timeout)?;
        refuse_own_loop(py, &self.shared.bus, "drain_sync", "`await bus.drain()`")?;
        block(py, self.shared.bus.drained(), timeout, "drain")
    }

    /// Refuses new events, waits at most `grace` for those in flight, and ends every
    /// subscription; returns what was left, by subscription.
    #[pyo3(signature = (grace=Grace(Duration::from_secs(15))))]
    fn close(&self, py: Python<'_>, grace: Grace) -> PyResult<Py<RustAwaitable>> {
        let shared = self.shared.clone();
        let future = async move {
            let left = shared.bus.close(grace.0).await;
            Python::attach(|py| {
                shared.end(py)?;
                payload::to_python(py, &left).map(Bound::unbind)
            })
        };
        Py::new(py, RustAwaitable::new(future))
    }

    /// `close` for a plain thread.
    #[pyo3(signature = (grace=Grace(Duration::from_secs(15))))]
    fn close_sync(&self, py: Python<'_>, grace: Grace) -> PyResult<Vec<(String, u64)>> {
        if !grace.0.is_zero() {
            let instead = "`async with`, or `await bus.close()`,";
            refuse_own_loop(py, &self.shared.bus, "close_sync", instead)?;
        }
        let left = block(py, self.shared.bus.close(grace.0), None, "close")?;
        self.shared.end(py)?;
        Ok(left)
    }

    fn __repr__(&self) -> String {
        let bus = &self.shared.bus;
        if check_process().is_err() {
            return format!("<EventBus {:?} of the parent process>", &*self.producer);
        }
        let state = if bus.is_closed() { "closed" } else { "open" };
        format!(
            "<EventBus {:?} {state}, {} subscriptions, {} dead letters>",
            &*self.producer,
            self.subscriptions().len(),
            bus.dead_letters().len()
        )
    }
}

/// Whether the caller's next instruction throws the receipt away, so that nobody can wait.
fn result_is_discarded(py: Python<'_>) -> bool {
    py.import("tiebeam._discarded")
        .and_then(|module| module.getattr("result_is_discarded"))
        .and_then(|ask| ffi::call(&ask, &PyTuple::empty(py), None))
        .and_then(|discarded| discarded.is_truthy())
        .unwrap_or(false)
}
