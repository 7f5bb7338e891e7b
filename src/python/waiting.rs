//! `wait_for` and `stream`: events that come to the code that waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration};
use pyo3::prelude::*;

use super::args::{filter, one_of, seconds};
use super::blocking::block;
use super::bridge::{Loop, RustAwaitable, check_process};
use super::event::{PyEvent, current, set_current, unset_current};
use super::shared::Shared;
use crate::bus::{Awaited, Options, Overflow, Stream, Subscription};
use crate::error::{Error, Kind};

/// Whose subscription it is, and how it is to be served.
pub(super) struct Wish<'a, 'py> {
    pub component: Option<&'a Arc<str>>,
    pub name: &'a str,
    pub conditions: Option<&'a Bound<'py, PyAny>>,
    pub capacity: usize,
    pub overflow: Overflow,
}

impl Wish<'_, '_> {
    fn options(self) -> PyResult<Options> {
        let name = match self.component {
            Some(component) => format!("{component}.{}", self.name),
            None => self.name.to_owned(),
        };
        Ok(Options {
            component: self.component.cloned(),
            filter: filter(self.conditions)?,
            capacity: self.capacity,
            overflow: self.overflow,
            ..Options::named(name)
        })
    }
}

/// The next matching event, to be awaited or waited for once.
#[pyclass(name = "PendingEvent", module = "tiebeam", frozen, weakref)]
pub(super) struct PyPendingEvent {
    pattern: String,
    subscription: Arc<Subscription>,
    waiting: Mutex<Option<Awaited>>,
    /// Keeps the bus: without it nobody would end the wait.
    _shared: Arc<Shared>,
}

pub(super) fn wait_for(
    shared: &Arc<Shared>,
    component: Option<&Arc<str>>,
    pattern: &str,
    conditions: Option<&Bound<'_, PyAny>>,
    limit: Option<Duration>,
) -> PyResult<PyPendingEvent> {
    check_process()?;
    let overflow = Overflow::DropNewest; // the first is the one; it ends the subscription
    let wish = Wish { component, name: "wait_for", conditions, capacity: 1, overflow };
    let awaited = shared.bus.wait_for(pattern, wish.options()?, limit)?;
    Ok(PyPendingEvent {
        pattern: pattern.to_owned(),
        subscription: awaited.subscription().clone(),
        waiting: Mutex::new(Some(awaited)),
        _shared: shared.clone(),
    })
}

impl PyPendingEvent {
    fn take(&self) -> PyResult<Awaited> {
        self.waiting.lock().take().ok_or_else(|| {
            PyRuntimeError::new_err(format!(
                "the wait for `{}` was awaited already, or cancelled",
                self.pattern
            ))
        })
    }
}

#[pymethods]
impl PyPendingEvent {
    /// The topics it waits for.
    #[getter]
    fn pattern(&self) -> &str {
        &self.pattern
    }

    fn __await__(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let awaited = slf.get().take()?;
        // Kept meanwhile: a component that stops ends what waits on its bus.
        let kept = slf.unbind();
        let future = async move {
            let event = awaited.await?;
            drop(kept);
            Python::attach(|py| Ok(Py::new(py, PyEvent::new(event, 1))?.into_any()))
        };
        Ok(Py::new(py, RustAwaitable::new(future))?.into_any())
    }

    /// Blocks this thread for the event.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<PyEvent> {
        let timeout = seconds("timeout", timeout)?;
        refuse_loop(py, "wait", "`await` the wait here")?;
        let awaited = self.take()?;
        let event = block(py, awaited, timeout, "wait_for")??;
        Ok(PyEvent::new(event, 1))
    }

    /// Waits no longer. Idempotent.
    fn cancel(&self, py: Python<'_>) {
        let waiting = self.waiting.lock().take();
        py.detach(|| {
            drop(waiting);
            self.subscription.cancel();
        });
    }

    fn __repr__(&self) -> String {
        let state = if self.subscription.is_active() { "waiting" } else { "done" };
        format!("<PendingEvent {} {state}>", self.pattern)
    }
}

/// Events for a loop, `async for` or `for`; it lives as long as that.
#[pyclass(name = "Stream", module = "tiebeam", frozen, weakref)]
pub(super) struct PyStream {
    stream: Arc<Stream>,
    /// Whether somebody waits for the next event.
    asked: Arc<AtomicBool>,
    lineage: Arc<Mutex<Lineage>>,
    _shared: Arc<Shared>,
}

/// The event at hand, in whose handling the body of the loop is, and what was current before.
#[derive(Default)]
struct Lineage {
    at_hand: Option<Py<PyEvent>>,
    before: Option<Py<PyEvent>>,
}

impl Lineage {
    fn enter<'py>(
        lineage: &Mutex<Lineage>,
        py: Python<'py>,
        event: Bound<'py, PyEvent>,
    ) -> PyResult<Bound<'py, PyEvent>> {
        let before = current(py)?.map(Bound::unbind);
        set_current(py, &event)?;
        *lineage.lock() = Lineage { at_hand: Some(event.clone().unbind()), before };
        Ok(event)
    }

    /// Where the loop's body ended: in the same context, what was current before is so again.
    fn leave(lineage: &Mutex<Lineage>, py: Python<'_>) -> PyResult<()> {
        let Lineage { at_hand, before } = std::mem::take(&mut *lineage.lock());
        let (Some(at_hand), Some(now)) = (at_hand, current(py)?) else { return Ok(()) };
        if !now.is(&at_hand) {
            return Ok(());
        }
        match before {
            Some(before) => set_current(py, before.bind(py)),
            None => unset_current(py),
        }
    }
}

/// Waits for the next event; one at a time.
struct Next {
    stream: Arc<Stream>,
    asked: Arc<AtomicBool>,
}

impl Next {
    fn new(stream: &PyStream) -> PyResult<Next> {
        if stream.asked.swap(true, Ordering::AcqRel) {
            return Err(PyRuntimeError::new_err(
                "somebody waits for the next event of this stream already; make one stream for \
                 each loop",
            ));
        }
        Ok(Next { stream: stream.stream.clone(), asked: stream.asked.clone() })
    }

    async fn event(self) -> Option<PyEvent> {
        let event = std::future::poll_fn(|cx| self.stream.poll_next(cx)).await;
        event.map(|event| PyEvent::new(event, 1))
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        self.asked.store(false, Ordering::Release);
    }
}

pub(super) fn stream(
    shared: &Arc<Shared>,
    component: Option<&Arc<str>>,
    pattern: &str,
    (name, conditions): (Option<&str>, Option<&Bound<'_, PyAny>>),
    (capacity, overflow): (Option<usize>, Option<&str>),
) -> PyResult<PyStream> {
    check_process()?;
    let settings = shared.bus.settings();
    let overflow = match overflow {
        None => settings.overflow,
        Some(given) => Overflow::parse(given)
            .ok_or_else(|| one_of("overflow", given, &Overflow::ALL.map(Overflow::as_str)))?,
    };
    let capacity = capacity.unwrap_or(settings.capacity);
    let wish = Wish { component, name: name.unwrap_or("stream"), conditions, capacity, overflow };
    let stream = shared.bus.stream(pattern, wish.options()?)?;
    Ok(PyStream {
        stream: Arc::new(stream),
        asked: Arc::default(),
        lineage: Arc::default(),
        _shared: shared.clone(),
    })
}

#[pymethods]
impl PyStream {
    /// Its name in books, errors and dead letters.
    #[getter]
    fn name(&self) -> &str {
        self.stream.subscription().name()
    }

    /// The topics it takes.
    #[getter]
    fn pattern(&self) -> &str {
        self.stream.subscription().pattern().as_str()
    }

    /// `active` or `cancelled`.
    #[getter]
    fn status(&self) -> &'static str {
        self.stream.subscription().status()
    }

    /// How many events wait for it.
    #[getter]
    fn queued(&self) -> usize {
        self.stream.subscription().depth()
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> PyResult<RustAwaitable> {
        let next = Next::new(self)?;
        Lineage::leave(&self.lineage, py)?;
        let lineage = self.lineage.clone();
        Ok(RustAwaitable::new(async move {
            match next.event().await {
                None => Err(PyStopAsyncIteration::new_err(())),
                Some(event) => Python::attach(|py| {
                    let event = Bound::new(py, event)?;
                    Ok(Lineage::enter(&lineage, py, event)?.into_any().unbind())
                }),
            }
        }))
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyEvent>>> {
        refuse_loop(py, "iterate", "use `async for` here")?;
        let next = Next::new(self)?;
        Lineage::leave(&self.lineage, py)?;
        match block(py, next.event(), None, "stream")? {
            None => Ok(None),
            Some(event) => Ok(Some(Lineage::enter(&self.lineage, py, Bound::new(py, event)?)?)),
        }
    }

    /// Ends it: what waited is booked as dropped, and the loop ends. Idempotent.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.end(py, false)
    }

    /// Takes no new events; awaits the end of those that wait, and ends.
    fn _retire(&self, py: Python<'_>) -> PyResult<Py<RustAwaitable>> {
        let subscription = self.stream.subscription().clone();
        py.detach(|| subscription.retire());
        let future = async move {
            subscription.drained().await;
            subscription.cancel();
            Python::attach(|py| Ok(py.None()))
        };
        Py::new(py, RustAwaitable::new(future))
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __aenter__(slf: Py<Self>, py: Python<'_>) -> RustAwaitable {
        let slf = slf.clone_ref(py).into_any();
        RustAwaitable::new(async move { Ok(slf) })
    }

    #[pyo3(signature = (kind=None, *_more))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<Bound<'_, PyAny>>,
        _more: &Bound<'_, pyo3::types::PyTuple>,
    ) -> PyResult<()> {
        self.end(py, kind.is_some())
    }

    #[pyo3(signature = (kind=None, *_more))]
    fn __aexit__(
        &self,
        py: Python<'_>,
        kind: Option<Bound<'_, PyAny>>,
        _more: &Bound<'_, pyo3::types::PyTuple>,
    ) -> PyResult<RustAwaitable> {
        self.end(py, kind.is_some())?;
        Ok(RustAwaitable::new(async { Python::attach(|py| Ok(py.None())) }))
    }

    fn __repr__(&self) -> String {
        let subscription = self.stream.subscription();
        format!(
            "<Stream {} <- {} {}, {} queued>",
            subscription.name(),
            subscription.pattern(),
            subscription.status(),
            subscription.depth()
        )
    }
}

impl PyStream {
    fn end(&self, py: Python<'_>, failed: bool) -> PyResult<()> {
        Lineage::leave(&self.lineage, py)?;
        py.detach(|| self.stream.close(failed));
        Ok(())
    }
}

impl Drop for PyStream {
    /// The loop was left by `break`, `return` or an exception.
    fn drop(&mut self) {
        self.stream.close(false);
        if self.lineage.lock().at_hand.is_some() {
            Python::attach(|py| {
                if let Err(error) = Lineage::leave(&self.lineage, py) {
                    error.write_unraisable(py, None);
                }
            });
        }
    }
}

/// Refuses to block a thread whose event loop is at work: what it waits for may need that loop.
fn refuse_loop(py: Python<'_>, operation: &'static str, instead: &str) -> PyResult<()> {
    if Loop::running(py)?.is_none() {
        return Ok(());
    }
    let said = format!("this would block the event loop that runs on this thread; {instead}");
    Err(Error::new(Kind::WouldDeadlock, operation, said).into())
}
