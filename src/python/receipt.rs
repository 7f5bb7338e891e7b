//! What `publish`, `send` and `request` return: awaited in a coroutine, waited for in a thread.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::args::Seconds;
use super::bridge::ffi::{
    Before, Content, GilCell, OftenReady, Vessel, exchange, nothing_to_wait_for,
};
use super::bridge::{Loop, RustAwaitable, WaitError, block_on, ended_with};
use super::payload;
use crate::bus::{
    Admission, Bus, PendingReplies, PendingReply, Published, Requested, RequestedMany, Subscription,
};
use crate::error::{Error, Kind};
use crate::event::{Event, Payload};

/// Accepted, or waiting for room.
#[pyclass(name = "Receipt", module = "tiebeam", frozen)]
pub(super) struct Receipt(Content<Accepted>);

/// What was published, and what is still to be waited for.
pub(super) struct Accepted {
    event: Arc<Event>,
    /// Absent where there was room at once: nobody has to look into it.
    admission: Option<Mutex<Option<Admission>>>,
    duplicate: bool,
}

impl Vessel for Receipt {
    type Held = Accepted;

    fn content(&self) -> &Content<Accepted> {
        &self.0
    }
}

impl Receipt {
    fn event(&self) -> &Arc<Event> {
        &self.0.get().event
    }

    /// What is still to be waited for, for the first who asks.
    fn take(&self) -> Option<Admission> {
        self.0.get().admission.as_ref().and_then(|admission| admission.lock().take())
    }
}

/// Hands out receipts. Most are of what was accepted at once, and are dropped before the next one
/// is needed, which is then the same object with another content.
pub(super) struct Receipts(GilCell<Py<Receipt>>);

impl Receipts {
    pub(super) const fn new() -> Receipts {
        Receipts(GilCell::empty())
    }

    pub(super) fn of(&self, py: Python<'_>, published: Published) -> PyResult<Py<Receipt>> {
        let Published { event, admission, duplicate } = published;
        if let Some(admission) = admission {
            let admission = Some(Mutex::new(Some(admission)));
            return Py::new(py, Receipt(Content::new(Accepted { event, admission, duplicate })));
        }
        let mut accepted = Accepted { event, admission: None, duplicate };
        if let Some(last) = self.0.take(py) {
            match exchange(last.bind(py), 1, accepted) {
                Ok(before) => {
                    drop(before);
                    drop(self.0.put(py, last.clone_ref(py)));
                    return Ok(last);
                }
                Err(back) => accepted = back,
            }
        }
        let receipt = Py::new(py, Receipt(Content::new(accepted)))?;
        drop(self.0.put(py, receipt.clone_ref(py)));
        Ok(receipt)
    }
}

impl OftenReady for Receipt {
    fn is_ready(&self) -> bool {
        self.0.get().admission.is_none()
    }

    fn before() -> &'static Before {
        static BEFORE: Before = Before::new();
        &BEFORE
    }
}

#[pymethods]
impl Receipt {
    /// The id the event was given.
    #[getter]
    fn event_id(&self) -> String {
        self.event().id.to_string()
    }

    /// Whether every mailbox has taken the event.
    #[getter]
    fn accepted(&self) -> bool {
        let admission = self.0.get().admission.as_ref().map(|admission| admission.lock());
        admission.is_none_or(|a| a.as_ref().is_none_or(Admission::is_complete))
    }

    /// Whether an event of this id was published before; this one then went nowhere.
    #[getter]
    fn duplicate(&self) -> bool {
        self.0.get().duplicate
    }

    fn __await__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(admission) = self.take() else {
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
        let Some(admission) = self.take() else { return Ok(()) };
        for subscription in admission.waiting_for() {
            refuse_deadlock(subscription.executor().thread(), subscription.name(), "wait")?;
        }
        block(py, admission, timeout.map(|timeout| timeout.0), "publish")??;
        Ok(())
    }

    fn __repr__(&self) -> String {
        let state = if self.duplicate() {
            "duplicate"
        } else if self.accepted() {
            "accepted"
        } else {
            "waiting for room"
        };
        format!("<Receipt {} {} {state}>", self.event().topic, self.event().id)
    }
}

impl Drop for Receipt {
    /// Nobody waited: the event is dropped where there was no room, and that is said aloud.
    fn drop(&mut self) {
        let Some(admission) = &mut self.0.get_mut().admission else { return };
        let Some(admission) = admission.get_mut().take() else { return };
        if admission.is_complete() {
            return;
        }
        let error = PyErr::from(admission.full_error());
        drop(admission);
        Python::attach(|py| error.write_unraisable(py, None));
    }
}

/// The reply to a request, or the replies, to be awaited or waited for once.
#[pyclass(name = "PendingReply", module = "tiebeam", frozen)]
pub(super) struct RequestReceipt {
    event: Arc<Event>,
    responders: Responders,
    waiting: Mutex<Option<Waiting>>,
    /// Whether the loop is to have its turn before the reply is handed on, if that is there.
    turn: bool,
}

/// Who has to answer.
enum Responders {
    One(Arc<Subscription>),
    Many(Vec<Arc<Subscription>>),
}

impl Responders {
    fn all(&self) -> &[Arc<Subscription>] {
        match self {
            Responders::One(responder) => std::slice::from_ref(responder),
            Responders::Many(responders) => responders,
        }
    }
}

enum Waiting {
    One(Option<Admission>, PendingReply),
    Many(Vec<Admission>, PendingReplies),
}

impl Waiting {
    /// The reply, if it has come.
    fn answered(&mut self) -> Option<crate::error::Result<Answered>> {
        let Waiting::One(_, reply) = self else { return None };
        match Pin::new(reply).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => Some(reply.map(Answered::One)),
            Poll::Pending => None,
        }
    }
}

/// The iterator of an await whose reply is there.
#[pyclass(name = "_Answer", module = "tiebeam._core", frozen)]
pub(super) struct Answer {
    reply: GilCell<Py<PyAny>>,
    /// Present as long as the loop is to have a turn.
    turn: GilCell<()>,
}

impl Answer {
    fn new(reply: Bound<'_, PyAny>, turn: bool) -> Answer {
        let answer = Answer { reply: GilCell::empty(), turn: GilCell::empty() };
        let py = reply.py();
        drop(answer.reply.put(py, reply.unbind()));
        if turn {
            let _ = answer.turn.put(py, ());
        }
        answer
    }
}

#[pymethods]
impl Answer {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.turn.take(py).is_some() {
            return Ok(py.None());
        }
        Err(match self.reply.take(py) {
            Some(reply) => ended_with(reply.into_bound(py)),
            None => PyRuntimeError::new_err("this request was awaited already"),
        })
    }
}

enum Answered {
    One(Payload),
    Many(Vec<Payload>),
}

impl Answered {
    fn decode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let decode = |payload: &Payload| payload::decode(py, payload.root());
        match self {
            Answered::One(reply) => decode(reply),
            Answered::Many(replies) => {
                let replies: Vec<_> = replies.iter().map(decode).collect::<PyResult<_>>()?;
                Ok(PyList::new(py, replies)?.into_any())
            }
        }
    }
}

impl RequestReceipt {
    pub(super) fn new(requested: Requested, turn: bool) -> RequestReceipt {
        let Requested { published, reply, responder } = requested;
        RequestReceipt {
            event: published.event,
            responders: Responders::One(responder),
            waiting: Mutex::new(Some(Waiting::One(published.admission, reply))),
            turn,
        }
    }

    pub(super) fn many(requested: RequestedMany) -> RequestReceipt {
        let RequestedMany { event, replies, responders, admissions } = requested;
        RequestReceipt {
            event,
            responders: Responders::Many(responders),
            waiting: Mutex::new(Some(Waiting::Many(admissions, replies))),
            turn: false,
        }
    }

    fn take(&self) -> PyResult<Waiting> {
        self.waiting
            .lock()
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("this request was awaited already"))
    }
}

async fn reply(waiting: Waiting) -> crate::error::Result<Answered> {
    // Side by side: the request's own time limit also ends the wait for room.
    let reply = match waiting {
        Waiting::One(None, reply) => reply.await,
        // What came of the admission is told by the reply; room is only the way to it.
        Waiting::One(Some(admission), reply) => match select(reply, admission).await {
            Either::Left((result, _)) => result,
            Either::Right((_, reply)) => reply.await,
        },
        Waiting::Many(places_in_line, replies) => {
            let replies = replies.await;
            drop(places_in_line);
            return replies.map(Answered::Many);
        }
    };
    reply.map(Answered::One)
}

#[pymethods]
impl RequestReceipt {
    /// The id of the request.
    #[getter]
    fn event_id(&self) -> String {
        self.event.id.to_string()
    }

    fn __await__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut waiting = self.take()?;
        if let Some(answered) = waiting.answered() {
            let answer = Answer::new(answered?.decode(py)?, self.turn);
            return Ok(Py::new(py, answer)?.into_any());
        }
        let future = async move {
            let answered = reply(waiting).await?;
            Python::attach(|py| answered.decode(py).map(Bound::unbind))
        };
        Ok(Py::new(py, RustAwaitable::new(future))?.into_any())
    }

    /// Blocks this thread for the reply.
    ///
    /// Raises as awaiting does, and `WouldDeadlock` on the thread whose loop must answer.
    #[pyo3(signature = (timeout=None))]
    fn wait<'py>(&self, py: Python<'py>, timeout: Option<Seconds>) -> PyResult<Bound<'py, PyAny>> {
        let mut waiting = self.take()?;
        if let Some(answered) = waiting.answered() {
            return answered?.decode(py);
        }
        for responder in self.responders.all() {
            let refused = refuse_deadlock(responder.executor().thread(), responder.name(), "wait");
            if let Err(error) = refused {
                *self.waiting.lock() = Some(waiting);
                return Err(error.into());
            }
        }
        let limit = timeout.map(|timeout| timeout.0);
        block(py, reply(waiting), limit, "request")??.decode(py)
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

/// Refuses to block the thread whose running loop has to handle what is in flight on `bus`.
pub(super) fn refuse_own_loop(
    py: Python<'_>,
    bus: &Bus,
    operation: &'static str,
    instead: &str,
) -> PyResult<()> {
    if Loop::running(py)?.is_some()
        && let Some(subscription) = bus.needs(std::thread::current().id())
    {
        let who = subscription.name();
        let said = format!(
            "`{operation}()` would block the event loop that runs {who}; use {instead} here"
        );
        return Err(Error::new(Kind::WouldDeadlock, operation, said)
            .with("subscription", who)
            .into());
    }
    Ok(())
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
