//! What `request` returns: the reply, or the replies, to be awaited or waited for once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::future::{Either, select};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::args::seconds;
use super::blocking::{block, refuse_deadlock};
use super::bridge::RustAwaitable;
use super::bridge::ffi::{Before, Content, GilCell, OftenLast, Spare, Vessel, ended_with};
use super::payload;
use crate::bus::{Admission, PendingReplies, PendingReply, Requested, RequestedMany, Subscription};
use crate::event::{Event, Payload};

/// The reply to a request, or the replies, to be awaited or waited for once.
#[pyclass(name = "PendingReply", module = "tiebeam", frozen)]
pub(super) struct PyPendingReply(Content<Asked>);

/// What was asked, and what is still to be waited for.
pub(super) struct Asked {
    event: Arc<Event>,
    waiting: GilCell<Waiting>,
    /// Whether the loop is to have its turn before a reply that is there is handed on.
    turn: bool,
}

impl Asked {
    fn new(py: Python<'_>, event: Arc<Event>, waiting: Waiting, turn: bool) -> Asked {
        let asked = Asked { event, waiting: GilCell::empty(), turn };
        drop(asked.waiting.put(py, waiting));
        asked
    }
}

enum Waiting {
    /// For nothing: the reply is there.
    Come(crate::error::Result<Answered>),
    /// For this reply, and perhaps for room, to this responder.
    One(PendingReply, Option<Admission>, Arc<Subscription>),
    Many(PendingReplies, Vec<Admission>, Vec<Arc<Subscription>>),
}

impl Waiting {
    /// Who has to answer.
    fn responders(&self) -> &[Arc<Subscription>] {
        match self {
            Waiting::Come(_) => &[],
            Waiting::One(.., responder) => std::slice::from_ref(responder),
            Waiting::Many(.., responders) => responders,
        }
    }
}

impl Vessel for PyPendingReply {
    type Held = Asked;

    fn content(&self) -> &Content<Asked> {
        &self.0
    }
}

impl From<Asked> for PyPendingReply {
    fn from(asked: Asked) -> PyPendingReply {
        PyPendingReply(Content::new(asked))
    }
}

/// Hands out what is to be awaited, and the iterators of those awaits.
pub(super) struct Replies(Spare<PyPendingReply>);

static ANSWERS: Spare<Answer> = Spare::new();

impl Replies {
    pub(super) const fn new() -> Replies {
        Replies(Spare::new())
    }

    pub(super) fn of(
        &self,
        py: Python<'_>,
        requested: Requested,
        turn: bool,
    ) -> PyResult<Py<PyPendingReply>> {
        let Requested { published, mut reply, responder } = requested;
        let event = published.event;
        match Pin::new(&mut reply).poll(&mut Context::from_waker(Waker::noop())) {
            // Most often it is awaited, and dropped, before the next one is needed.
            Poll::Ready(reply) => {
                let come = Waiting::Come(reply.map(Answered::One));
                self.0.make(py, Asked::new(py, event, come, turn))
            }
            Poll::Pending => {
                let waiting = Waiting::One(reply, published.admission, responder);
                Py::new(py, PyPendingReply::from(Asked::new(py, event, waiting, turn)))
            }
        }
    }

    pub(super) fn many(py: Python<'_>, requested: RequestedMany) -> PyResult<Py<PyPendingReply>> {
        let RequestedMany { event, replies, responders, admissions } = requested;
        let waiting = Waiting::Many(replies, admissions, responders);
        Py::new(py, PyPendingReply::from(Asked::new(py, event, waiting, false)))
    }
}

/// The iterator of an await whose reply is there.
#[pyclass(name = "_Answer", module = "tiebeam._core", frozen)]
pub(super) struct Answer(Content<Handed>);

/// What an await is given.
pub(super) struct Handed {
    reply: GilCell<Py<PyAny>>,
    /// Present as long as the loop is to have a turn.
    turn: GilCell<()>,
}

impl Handed {
    fn new(reply: Bound<'_, PyAny>, turn: bool) -> Handed {
        let handed = Handed { reply: GilCell::empty(), turn: GilCell::empty() };
        let py = reply.py();
        drop(handed.reply.put(py, reply.unbind()));
        if turn {
            let _ = handed.turn.put(py, ());
        }
        handed
    }
}

impl Vessel for Answer {
    type Held = Handed;

    fn content(&self) -> &Content<Handed> {
        &self.0
    }
}

impl From<Handed> for Answer {
    fn from(handed: Handed) -> Answer {
        Answer(Content::new(handed))
    }
}

impl OftenLast for Answer {
    fn last(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let Handed { reply, turn } = self.0.get();
        if turn.is_empty(py) { reply.take(py) } else { None }
    }

    fn take_back(&self, py: Python<'_>, last: Py<PyAny>) {
        drop(self.0.get().reply.put(py, last));
    }

    fn before() -> &'static Before {
        static BEFORE: Before = Before::new();
        &BEFORE
    }
}

#[pymethods]
impl Answer {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Handed { reply, turn } = self.0.get();
        if turn.take(py).is_some() {
            return Ok(py.None());
        }
        Err(match reply.take(py) {
            Some(reply) => ended_with(reply.into_bound(py)),
            None => awaited_already(),
        })
    }
}

fn awaited_already() -> PyErr {
    PyRuntimeError::new_err("this request was awaited already")
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

impl PyPendingReply {
    fn event(&self) -> &Arc<Event> {
        &self.0.get().event
    }

    fn take(&self, py: Python<'_>) -> PyResult<Waiting> {
        self.0.get().waiting.take(py).ok_or_else(awaited_already)
    }
}

async fn reply(waiting: Waiting) -> crate::error::Result<Answered> {
    // Side by side: the request's own time limit also ends the wait for room.
    let reply = match waiting {
        Waiting::Come(answered) => return answered,
        Waiting::One(reply, None, _) => reply.await,
        // What came of the admission is told by the reply; room is only the way to it.
        Waiting::One(reply, Some(admission), _) => match select(reply, admission).await {
            Either::Left((result, _)) => result,
            Either::Right((_, reply)) => reply.await,
        },
        Waiting::Many(replies, places_in_line, _) => {
            let replies = replies.await;
            drop(places_in_line);
            return replies.map(Answered::Many);
        }
    };
    reply.map(Answered::One)
}

#[pymethods]
impl PyPendingReply {
    /// The id of the request.
    #[getter]
    fn event_id(&self) -> String {
        self.event().id.to_string()
    }

    fn __await__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let waiting = match self.take(py)? {
            Waiting::Come(answered) => {
                let handed = Handed::new(answered?.decode(py)?, self.0.get().turn);
                return Ok(ANSWERS.make(py, handed)?.into_any());
            }
            // Most often there is room.
            Waiting::One(reply, None, _) => RustAwaitable::new(async move {
                let answered = Answered::One(reply.await?);
                Python::attach(|py| answered.decode(py).map(Bound::unbind))
            }),
            waiting => RustAwaitable::new(async move {
                let answered = reply(waiting).await?;
                Python::attach(|py| answered.decode(py).map(Bound::unbind))
            }),
        };
        Ok(Py::new(py, waiting)?.into_any())
    }

    /// Blocks this thread for the reply.
    ///
    /// Raises as awaiting does, and `WouldDeadlock` on the thread whose loop must answer.
    #[pyo3(signature = (timeout=None))]
    fn wait<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let limit = seconds("timeout", timeout)?;
        let waiting = self.take(py)?;
        let refused = waiting.responders().iter().try_for_each(|responder| {
            refuse_deadlock(responder.executor().thread(), responder.name(), "wait")
        });
        match (waiting, refused) {
            (Waiting::Come(answered), _) => answered?.decode(py),
            (waiting, Err(error)) => {
                drop(self.0.get().waiting.put(py, waiting));
                Err(error.into())
            }
            (waiting, Ok(())) => block(py, reply(waiting), limit, "request")??.decode(py),
        }
    }

    fn __repr__(&self) -> String {
        format!("<PendingReply {} {}>", self.event().topic, self.event().id)
    }
}
