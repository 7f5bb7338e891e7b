//! What `request` returns: the reply, or the replies, to be awaited or waited for once.

use std::sync::Arc;

use futures_util::future::{Either, select};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::args::seconds;
use super::blocking::{block, refuse_deadlock};
use super::bridge::ffi::{
    Before, Content, GilCell, OftenPlain, OftenReady, PlainStep, Spare, Vessel, ended_with,
};
use super::bridge::{Polled, RustAwaitable, Sleeper, check_process, guarded, thrown};
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
    fn new(event: Arc<Event>, waiting: Waiting) -> Asked {
        Asked { event, waiting: GilCell::of(waiting) }
    }
}

enum Waiting {
    /// For nothing: the reply is there, for this iterator to hand on.
    Come(Py<Answer>),
    /// For this reply, of this responder, if it is here.
    Reply(PendingReply, Option<Arc<Subscription>>),
    /// For more than that.
    More(Box<Pending>),
    /// It is being awaited.
    Awaited(Await),
    /// This is what its await ends with.
    Over(Box<PyResult<Py<PyAny>>>),
}

/// An await of one reply, of which the object itself is the iterator.
struct Await {
    reply: PendingReply,
    sleeper: Sleeper,
}

impl Await {
    fn step<'py>(&mut self, py: Python<'py>) -> PyResult<Polled<'py, Bound<'py, PyAny>>> {
        guarded("await", || match self.sleeper.poll(py, &mut self.reply)? {
            Polled::Ready(reply) => Ok(Polled::Ready(payload::decode(py, reply?.root())?)),
            Polled::Sleeps(on) => Ok(Polled::Sleeps(on)),
        })
    }
}

enum Pending {
    /// For room, and then for this reply.
    One(PendingReply, Admission, Option<Arc<Subscription>>),
    Many(PendingReplies, Vec<Admission>, Vec<Arc<Subscription>>),
}

impl Waiting {
    /// Who has to answer, as long as nobody has begun to wait.
    fn responders(&self) -> &[Arc<Subscription>] {
        match self {
            Waiting::Reply(_, responder) => responder.as_slice(),
            Waiting::More(pending) => match &**pending {
                Pending::One(.., responder) => responder.as_slice(),
                Pending::Many(.., responders) => responders,
            },
            _ => &[],
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
    fn ready(this: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        let py = this.py();
        let waiting = &this.get().0.get().waiting;
        let (iterator, waits) = match waiting.take(py)? {
            Waiting::Come(answer) => return Some(answer.into_any()),
            Waiting::Reply(reply, _) => {
                let sleeper = Sleeper::default();
                (Some(this.clone().into_any().unbind()), Waiting::Awaited(Await { reply, sleeper }))
            }
            other => (None, other),
        };
        let nothing = waiting.put(py, waits);
        debug_assert!(nothing.is_none());
        iterator
    }

    fn before() -> &'static Before {
        static BEFORE: Before = Before::new();
        &BEFORE
    }
}

impl OftenPlain for PyPendingReply {
    fn step(&self, py: Python<'_>) -> PlainStep {
        if check_process().is_err() {
            return PlainStep::NotPlain; // what would wake it runs in the parent
        }
        let waiting = &self.0.get().waiting;
        let (step, waits) = match waiting.take(py) {
            Some(Waiting::Awaited(mut awaited)) => match awaited.step(py) {
                Ok(Polled::Ready(reply)) => return PlainStep::Ends(reply.unbind()),
                Ok(Polled::Sleeps(on)) => {
                    (PlainStep::Yields(on.unbind()), Some(Waiting::Awaited(awaited)))
                }
                Err(error) => (PlainStep::NotPlain, Some(Waiting::Over(Box::new(Err(error))))),
            },
            other => (PlainStep::NotPlain, other),
        };
        if let Some(waits) = waits {
            drop(waiting.put(py, waits)); // nothing was put there meanwhile
        }
        step
    }

    fn take_back(&self, py: Python<'_>, last: Py<PyAny>) {
        drop(self.0.get().waiting.put(py, Waiting::Over(Box::new(Ok(last)))));
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
        // An iterator is kept while the loop has its turn, by each of those who ask.
        Replies(Spare::new(1), Spare::new(64))
    }

    pub(super) fn of(
        &self,
        py: Python<'_>,
        requested: Requested,
        served: &Served,
    ) -> PyResult<Py<PyPendingReply>> {
        let Requested { published, reply, responder } = requested;
        let event = published.event;
        match reply.early() {
            // Most often it is awaited, and dropped, before the next one is needed.
            Ok(reply) => {
                let pause = served.pause(py, event.timestamp);
                let reply = reply.map_err(PyErr::from);
                let reply = reply.and_then(|reply| payload::decode(py, reply.root()));
                let answer = self.1.make(py, Handed::new(reply, pause))?;
                self.0.make(py, Asked::new(event, Waiting::Come(answer)))
            }
            Err(reply) => {
                let waiting = match published.admission {
                    None => Waiting::Reply(reply, responder),
                    Some(room) => Waiting::More(Box::new(Pending::One(reply, room, responder))),
                };
                let asked = Asked::new(event, waiting);
                Py::new(py, PyPendingReply::from(asked))
            }
        }
    }

    pub(super) fn many(py: Python<'_>, requested: RequestedMany) -> PyResult<Py<PyPendingReply>> {
        let RequestedMany { event, replies, responders, admissions } = requested;
        let pending = Box::new(Pending::Many(replies, admissions, responders));
        Py::new(py, PyPendingReply::from(Asked::new(event, Waiting::More(pending))))
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
    fn new(reply: PyResult<Bound<'_, PyAny>>, pause: Option<Pause>) -> Handed {
        let pause = pause.map_or(GilCell::empty(), |pause| GilCell::of((pause, Paused::NotYet)));
        match reply {
            Ok(reply) => {
                Handed { reply: GilCell::of(reply.unbind()), error: GilCell::empty(), pause }
            }
            Err(error) => Handed { reply: GilCell::empty(), error: GilCell::of(error), pause },
        }
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

impl OftenPlain for Answer {
    fn step(&self, py: Python<'_>) -> PlainStep {
        let Handed { reply, pause, .. } = self.0.get();
        match pause.take(py) {
            Some((due, Paused::NotYet)) => {
                drop(pause.put(py, (due, Paused::Now)));
                return PlainStep::Yields(py.None());
            }
            Some((due, Paused::Now)) => due.over(py),
            None => {}
        }
        reply.take(py).map_or(PlainStep::NotPlain, PlainStep::Ends)
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
        match self.step(py) {
            PlainStep::Yields(pause) => Ok(pause),
            PlainStep::Ends(reply) => Err(ended_with(reply.into_bound(py))),
            PlainStep::NotPlain => Err(match self.take(py) {
                Ok(reply) => ended_with(reply.into_bound(py)),
                Err(error) => error,
            }),
        }
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

    fn put_back(&self, py: Python<'_>, waiting: Waiting) {
        drop(self.0.get().waiting.put(py, waiting)); // nothing was put there meanwhile
    }
}

async fn reply(pending: Pending) -> crate::error::Result<Answered> {
    let reply = match pending {
        // Side by side: the request's own time limit also ends the wait for room. What came of
        // the admission is told by the reply; room is only the way to it. A request that never
        // reached another process will have none.
        Pending::One(reply, room, _) => {
            let sent = room.fate().is_some();
            match select(reply, room).await {
                Either::Left((result, _)) => result,
                Either::Right((Err(error), _)) if sent => Err(error),
                Either::Right((_, reply)) => reply.await,
            }
        }
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

    fn __await__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        if let Some(iterator) = PyPendingReply::ready(slf) {
            return Ok(iterator);
        }
        let py = slf.py();
        match slf.get().take(py)? {
            Waiting::More(pending) => {
                let waiting = RustAwaitable::new(async move {
                    let answered = reply(*pending).await?;
                    Python::attach(|py| answered.decode(py).map(Bound::unbind))
                });
                Ok(Py::new(py, waiting)?.into_any())
            }
            begun => {
                slf.get().put_back(py, begun);
                Err(awaited_already())
            }
        }
    }

    /// `yield from` asks the iterator of its await for its iterator.
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// A step of its await.
    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        check_process()?;
        match self.step(py) {
            PlainStep::Yields(on) => return Ok(on),
            PlainStep::Ends(reply) => return Err(ended_with(reply.into_bound(py))),
            PlainStep::NotPlain => {}
        }
        match self.take(py)? {
            Waiting::Over(came_to) => Err(match *came_to {
                Ok(reply) => ended_with(reply.into_bound(py)),
                Err(error) => error,
            }),
            other => {
                self.put_back(py, other);
                Err(PyTypeError::new_err("a reply is to be awaited, not iterated over"))
            }
        }
    }

    /// Cancellation, or any other exception thrown into its await: the request is forgotten.
    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        self.close(kind.py());
        Err(PyErr::from_value(thrown(kind, value)?))
    }

    /// Forgets the request.
    fn close(&self, py: Python<'_>) {
        drop(self.0.get().waiting.take(py));
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
        if let Err(error) = refused {
            self.put_back(py, waiting);
            return Err(error.into());
        }
        match waiting {
            Waiting::Come(answer) => Ok(answer.get().take(py)?.into_bound(py)),
            Waiting::Reply(reply, _) => {
                let reply = block(py, reply, limit, "request")??;
                payload::decode(py, reply.root())
            }
            Waiting::More(pending) => block(py, reply(*pending), limit, "request")??.decode(py),
            begun => {
                self.put_back(py, begun);
                Err(awaited_already())
            }
        }
    }

    fn __repr__(&self) -> String {
        format!("<PendingReply {} {}>", self.event().topic, self.event().id)
    }
}
