//! Handles: what `subscribe` and `every` return.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyAny;

use super::bridge::RustAwaitable;
use super::handler::Handler;
use super::payload;
use crate::bus::{Periodic, Subscription};

/// A subscription; `cancel()` ends it, and so does leaving its `with` block.
#[pyclass(name = "Subscription", module = "tiebeam", frozen, weakref)]
pub(super) struct PySubscription {
    subscription: Arc<Subscription>,
    handler: Arc<Handler>,
}

impl PySubscription {
    pub(super) fn new(subscription: Arc<Subscription>, handler: Arc<Handler>) -> PySubscription {
        PySubscription { subscription, handler }
    }
}

#[pymethods]
impl PySubscription {
    /// Its name in books, errors and dead letters.
    #[getter]
    fn name(&self) -> &str {
        self.subscription.name()
    }

    /// The topics it takes.
    #[getter]
    fn pattern(&self) -> &str {
        self.subscription.pattern().as_str()
    }

    /// The function that was subscribed.
    #[getter]
    fn handler(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        // Typed events and middleware stand around it.
        let called = self.handler.callable().bind(py);
        let written = called.getattr_opt("__tiebeam_handler__")?;
        Ok(written.unwrap_or_else(|| called.clone()).unbind())
    }

    /// `active`, `cancelled` or `orphaned`.
    #[getter]
    fn status(&self) -> &'static str {
        self.subscription.status()
    }

    /// How many events wait for it.
    #[getter]
    fn queued(&self) -> usize {
        self.subscription.depth()
    }

    /// What became of its events.
    fn books<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let figures = payload::to_python(py, &self.subscription.tally())?;
        py.import("tiebeam.books")?.getattr("Tally")?.call1((figures,))
    }

    /// Ends it. No handler starts after this returns; events that waited are booked as dropped,
    /// and their number is returned. Idempotent.
    fn cancel(&self, py: Python<'_>) -> usize {
        py.detach(|| self.subscription.cancel())
    }

    /// Takes no new events; awaits the end of those that wait.
    fn _retire(&self, py: Python<'_>) -> PyResult<Py<RustAwaitable>> {
        let subscription = self.subscription.clone();
        py.detach(|| subscription.retire());
        let future = async move {
            subscription.drained().await;
            Python::attach(|py| Ok(py.None()))
        };
        Py::new(py, RustAwaitable::new(future))
    }

    /// Holds its events back, or lets them through.
    fn _hold(&self, py: Python<'_>, held: bool) {
        py.detach(|| self.subscription.hold(held));
    }

    /// Awaits the end of what is under way, and, unless it is suspended, of what waits.
    fn _drained(&self, py: Python<'_>) -> PyResult<Py<RustAwaitable>> {
        let subscription = self.subscription.clone();
        let future = async move {
            subscription.drained().await;
            Python::attach(|py| Ok(py.None()))
        };
        Py::new(py, RustAwaitable::new(future))
    }

    /// Whether its events wait because its component has failed.
    #[getter]
    fn _suspended(&self) -> bool {
        self.subscription.is_suspended()
    }

    /// While it is active the bus holds the handler, and nothing may be collected; later only
    /// we do, and whoever keeps its own subscriptions is a circle.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.subscription.status() {
            "cancelled" => self.handler.traverse(&visit),
            _ => Ok(()),
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.cancel(py);
    }

    fn __repr__(&self) -> String {
        format!(
            "<Subscription {} <- {} {}, {} queued>",
            self.subscription.name(),
            self.subscription.pattern(),
            self.subscription.status(),
            self.subscription.depth()
        )
    }
}

/// A periodic publish; `cancel()` ends it, and so does leaving its `with` block.
#[pyclass(name = "Periodic", module = "tiebeam", frozen)]
pub(super) struct PyPeriodic(Mutex<Option<Periodic>>);

impl PyPeriodic {
    pub(super) fn new(periodic: Periodic) -> PyPeriodic {
        PyPeriodic(Mutex::new(Some(periodic)))
    }
}

impl Drop for PyPeriodic {
    /// As with a subscription, throwing the handle away changes nothing.
    fn drop(&mut self) {
        if let Some(periodic) = self.0.get_mut().take() {
            periodic.detach();
        }
    }
}

#[pymethods]
impl PyPeriodic {
    /// `active` or `cancelled`.
    #[getter]
    fn status(&self) -> &'static str {
        if self.0.lock().is_some() { "active" } else { "cancelled" }
    }

    /// Ends it. Idempotent.
    fn cancel(&self) {
        let periodic = self.0.lock().take();
        drop(periodic);
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.cancel();
    }

    fn __repr__(&self) -> String {
        match &*self.0.lock() {
            Some(periodic) => format!("<{periodic:?}>"),
            None => "<Periodic cancelled>".into(),
        }
    }
}
