//! What `publish`, `send` and `request` return: awaited in a coroutine, waited for in a thread.

use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use super::args::Seconds;
use super::bridge::{RustAwaitable, WaitError, block_on};
use super::payload;
use crate::bus::{Admission, PendingReply, Published, Requested};
use crate::error::{Error, Kind};
use crate::event::Event;

/// Accepted, or waiting for room.
#[pyclass(name = "Receipt", module = "tiebeam", frozen)]
pub(super) struct Receipt {
    event: Arc<Event>,
    admission: Mutex<Option<Admission>>,
    duplicate: bool,
}

impl Receipt {
    pub(super) fn new(published: Published) -> Receipt {
        let Published { event, admission, duplicate } = published;
        Receipt { event, admission: Mutex::new(admission), duplicate }
    }
}

/// The iterator of an await that has nothing to wait for; one serves all.
fn nothing_to_wait_for(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static EXHAUSTED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let iterator = EXHAUSTED
        .get_or_try_init(py, || PyResult::Ok(PyTuple::empty(py).try_iter()?.into_any().unbind()))?;
    Ok(iterator.clone_ref(py))
}

#[pymethods]
impl Receipt {
    /// The id the event was given.
    #[getter]
    fn event_id(&self) -> String {
        self.event.id.to_string()
    }

    /// Whether every mailbox has taken the event.
    #[getter]
    fn accepted(&self) -> bool {
        self.admission.lock().as_ref().is_none_or(Admission::is_complete)
    }

    /// Whether an event of this id was published before; this one then went nowhere.
    #[getter]
    fn duplicate(&self) -> bool {
        self.duplicate
    }

    fn __await__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(admission) = self.admission.lock().take() else {
            return nothing_to_wait_for(py);
        };
        let future = async move {
            admission.await?;
            Python::attach(|py| Ok(py.None()))
        };
        Ok(Py::new(py, RustAwaitable::new(future))?.into_any())
    }

    /// Blocks this thread until every mailbox has taken the event.
    ///
    /// Raises `TimeoutExceeded` after `timeout` seconds; the event is then dropped where there
    /// was no room.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<()> {
        let Some(admission) = self.admission.lock().take() else { return Ok(()) };
        for subscription in admission.waiting_for() {
            refuse_deadlock(subscription.executor().thread(), subscription.name(), "wait")?;
        }
        block(py, admission, timeout.map(|timeout| timeout.0), "publish")??;
        Ok(())
    }

    fn __repr__(&self) -> String {
        let state = if self.duplicate {
            "duplicate"
        } else if self.accepted() {
            "accepted"
        } else {
            "waiting for room"
        };
        format!("<Receipt {} {} {state}>", self.event.topic, self.event.id)
    }
}

impl Drop for Receipt {
    /// Nobody waited: the event is dropped where there was no room, and that is said aloud.
    fn drop(&mut self) {
        let Some(admission) = self.admission.get_mut().take() else { return };
        if admission.is_complete() {
            return;
        }
        let error = PyErr::from(admission.full_error());
        drop(admission);
        Python::attach(|py| error.write_unraisable(py, None));
    }
}

/// The reply to a request, to be awaited or waited for once.
#[pyclass(name = "PendingReply", module = "tiebeam", frozen)]
pub(super) struct RequestReceipt {
    event: Arc<Event>,
    responder: (Option<ThreadId>, String),
    waiting: Mutex<Option<(Option<Admission>, PendingReply)>>,
}

impl RequestReceipt {
    pub(super) fn new(requested: Requested) -> RequestReceipt {
        let Requested { published, reply, responder } = requested;
        RequestReceipt {
            event: published.event,
            responder: (responder.executor().thread(), responder.name().to_owned()),
            waiting: Mutex::new(Some((published.admission, reply))),
        }
    }

    fn take(&self) -> PyResult<(Option<Admission>, PendingReply)> {
        self.waiting
            .lock()
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("this request was awaited already"))
    }
}

async fn reply(
    (admission, reply): (Option<Admission>, PendingReply),
) -> crate::error::Result<crate::event::Payload> {
    // Side by side: the request's own time limit also ends the wait for room.
    match admission {
        None => reply.await,
        // What came of the admission is told by the reply; room is only the way to it.
        Some(admission) => match select(reply, admission).await {
            Either::Left((result, _)) => result,
            Either::Right((_, reply)) => reply.await,
        },
    }
}

#[pymethods]
impl RequestReceipt {
    /// The id of the request.
    #[getter]
    fn event_id(&self) -> String {
        self.event.id.to_string()
    }

    fn __await__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let waiting = self.take()?;
        let future = async move {
            let payload = reply(waiting).await?;
            Python::attach(|py| payload::decode(py, payload.root()).map(Bound::unbind))
        };
        Ok(Py::new(py, RustAwaitable::new(future))?.into_any())
    }

    /// Blocks this thread for the reply.
    ///
    /// Raises as awaiting does, and `WouldDeadlock` on the thread whose loop must answer.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        refuse_deadlock(self.responder.0, &self.responder.1, "wait")?;
        let waiting = self.take()?;
        let payload = block(py, reply(waiting), timeout.map(|timeout| timeout.0), "request")??;
        payload::decode(py, payload.root()).map(Bound::unbind)
    }

    fn __repr__(&self) -> String {
        format!("<PendingReply {} {}>", self.event.topic, self.event.id)
    }
}

/// Refuses to block the thread whose loop has to do what is waited for.
fn refuse_deadlock(
    needed: Option<ThreadId>,
    who: &str,
    operation: &'static str,
) -> Result<(), Error> {
    if needed != Some(std::thread::current().id()) {
        return Ok(());
    }
    Err(Error::new(
        Kind::WouldDeadlock,
        operation,
        format!("`.wait()` would block the event loop that runs {who}; use `await` here"),
    )
    .with("subscription", who))
}

/// Blocks until `future` is ready; a time limit becomes `TimeoutExceeded`.
pub(super) fn block<F>(
    py: Python<'_>,
    future: F,
    limit: Option<Duration>,
    operation: &'static str,
) -> PyResult<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    block_on(py, future, limit).map_err(|error| match error {
        WaitError::Interrupted(error) => error,
        WaitError::Elapsed => {
            let limit = limit.unwrap_or_default().as_secs_f64();
            Error::new(Kind::Timeout, operation, format!("{operation}: not done within {limit} s"))
                .into()
        }
    })
}
