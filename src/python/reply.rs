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
use super::bridge::ffi::{
    Before, Content, GilCell, OftenLast, OftenReady, Spare, Vessel, ended_with,
};
use super::payload;
use super::pump::eager::Served;
use super::pump::pause::Pause;
use crate::bus::{Admission, PendingReplies, PendingReply, Requested, RequestedMany, Subscription};
use crate::event::{Event, Payload};

/// The reply to a request, or the replies, to be awaited or waited for once.
#[pyclass(name = "PendingReply", module = "tiebeam", frozen)]
pub(super) struct PyPendingReply(Content<Asked>);

/// What was asked, and what is still to be waited for.
pub(super) struct Asked {
    event: Arc<Event>,
    waiting: GilCell<Waiting>,
}

impl Asked {
    fn new(py: Python<'_>, event: Arc<Event>, waiting: Waiting) -> Asked {
        let asked = Asked { event, waiting: GilCell::empty() };
        drop(asked.waiting.put(py, waiting));
        asked
    }
}

enum Waiting {
    /// For nothing: the reply is there, for this iterator to hand on.
    Come(Py<Answer>),
    Still(Pending),
}

enum Pending {
    /// For this reply, and perhaps for room, to this responder.
    One(PendingReply, Option<Admission>, Arc<Subscription>),
    Many(PendingReplies, Vec<Admission>, Vec<Arc<Subscription>>),
}

impl Pending {
    /// Who has to answer.
    fn responders(&self) -> &[Arc<Subscription>] {
        match self {
            Pending::One(.., responder) => std::slice::from_ref(responder),
            Pending::Many(.., responders) => responders,
        }
    }
}

impl Vessel for PyPendingReply {
    type Held = Asked;

    fn content(&self) -> &Content<Asked> {
        &self.0
    }
}

impl OftenReady for PyPendingReply {
    fn ready(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let waiting = &self.0.get().waiting;
        match waiting.take(py)? {
            Waiting::Come(answer) => Some(answer.into_any()),
            other => {
                let nothing = waiting.put(py, other);
                debug_assert!(nothing.is_none());
                None
            }
        }
    }

    fn before() -> &'static Before {
        static BEFORE: Before = Before::new();
        &BEFORE
    }
}

impl From<Asked> for PyPendingReply {
    fn from(asked: Asked) -> PyPendingReply {
        PyPendingReply(Content::new(asked))
    }
}

/// Hands out what is to be awaited, and the iterators of those awaits.
pub(super) struct Replies(Spare<PyPendingReply>, Spare<Answer>);

impl Replies {
    pub(super) const fn new() -> Replies {
        Replies(Spare::new(), Spare::new())
    }

    pub(super) fn of(
        &self,
        py: Python<'_>,
        requested: Requested,
        served: &Served,
    ) -> PyResult<Py<PyPendingReply>> {
        let Requested { published, mut reply, responder } = requested;
        let event = published.event;
        match Pin::new(&mut reply).poll(&mut Context::from_waker(Waker::noop())) {
            // Most often it is awaited, and dropped, before the next one is needed.
            Poll::Ready(reply) => {
                let pause = served.pause(py, event.timestamp);
                let reply = reply.map_err(PyErr::from);
                let reply = reply.and_then(|reply| payload::decode(py, reply.root()));
                let answer = self.1.make(py, Handed::new(py, reply, pause))?;
                self.0.make(py, Asked::new(py, event, Waiting::Come(answer)))
            }
            Poll::Pending => {
                let pending = Pending::One(reply, published.admission, responder);
                let asked = Asked::new(py, event, Waiting::Still(pending));
                Py::new(py, PyPendingReply::from(asked))
            }
        }
    }

    pub(super) fn many(py: Python<'_>, requested: RequestedMany) -> PyResult<Py<PyPendingReply>> {
        let RequestedMany { event, replies, responders, admissions } = requested;
        let pending = Pending::Many(replies, admissions, responders);
        Py::new(py, PyPendingReply::from(Asked::new(py, event, Waiting::Still(pending))))
    }
}

/// The iterator of an await whose reply is there.
#[pyclass(name = "_Answer", module = "tiebeam._core", frozen)]
pub(super) struct Answer(Content<Handed>);

/// What an await is given.
pub(super) struct Handed {
    reply: GilCell<Py<PyAny>>,
    /// What it raises instead.
    error: GilCell<PyErr>,
    /// What is to come before it; present until the step after that.
    pause: GilCell<(Pause, Paused)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Paused {
    NotYet,
    /// The loop was given its turn.
    Now,
}

impl Handed {
    fn new(py: Python<'_>, reply: PyResult<Bound<'_, PyAny>>, pause: Option<Pause>) -> Handed {
        let handed =
            Handed { reply: GilCell::empty(), error: GilCell::empty(), pause: GilCell::empty() };
        match reply {
            Ok(reply) => drop(handed.reply.put(py, reply.unbind())),
            Err(error) => drop(handed.error.put(py, error)),
        }
        if let Some(pause) = pause {
            drop(handed.pause.put(py, (pause, Paused::NotYet)));
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
        let Handed { reply, pause, .. } = self.0.get();
        if pause.is_empty(py) { reply.take(py) } else { None }
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
        let pause = &self.0.get().pause;
        match pause.take(py) {
            Some((due, Paused::NotYet)) => {
                drop(pause.put(py, (due, Paused::Now)));
                return Ok(py.None());
            }
            Some((due, Paused::Now)) => due.over(py),
            None => {}
        }
        Err(match self.take(py) {
            Ok(reply) => ended_with(reply.into_bound(py)),
            Err(error) => error,
        })
    }
}

impl Answer {
    fn take(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Handed { reply, error, .. } = self.0.get();
        reply.take(py).ok_or_else(|| error.take(py).unwrap_or_else(awaited_already))
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

async fn reply(pending: Pending) -> crate::error::Result<Answered> {
    // Side by side: the request's own time limit also ends the wait for room.
    let reply = match pending {
        Pending::One(reply, None, _) => reply.await,
        // What came of the admission is told by the reply; room is only the way to it.
        Pending::One(reply, Some(admission), _) => match select(reply, admission).await {
            Either::Left((result, _)) => result,
            Either::Right((_, reply)) => reply.await,
        },
        Pending::Many(replies, places_in_line, _) => {
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
            Waiting::Come(answer) => return Ok(answer.into_any()),
            // Most often there is room.
            Waiting::Still(Pending::One(reply, None, _)) => RustAwaitable::new(async move {
                let answered = Answered::One(reply.await?);
                Python::attach(|py| answered.decode(py).map(Bound::unbind))
            }),
            Waiting::Still(pending) => RustAwaitable::new(async move {
                let answered = reply(pending).await?;
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
        let pending = match self.take(py)? {
            Waiting::Come(answer) => return Ok(answer.get().take(py)?.into_bound(py)),
            Waiting::Still(pending) => pending,
        };
        let refused = pending.responders().iter().try_for_each(|responder| {
            refuse_deadlock(responder.executor().thread(), responder.name(), "wait")
        });
        if let Err(error) = refused {
            drop(self.0.get().waiting.put(py, Waiting::Still(pending)));
            return Err(error.into());
        }
        block(py, reply(pending), limit, "request")??.decode(py)
    }

    fn __repr__(&self) -> String {
        format!("<PendingReply {} {}>", self.event().topic, self.event().id)
    }
}
