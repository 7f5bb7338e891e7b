//! What whoever asked waits for: one reply, or several.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::failure::Failure;
use super::gather::{TooFew, Wanted};
use super::requests::{Answer, Place, Replies, Unanswered};
use crate::error::{Error, Kind, Result};
use crate::event::Payload;
use crate::topic::Topic;

/// The reply to one request. Dropping it forgets the request.
pub struct PendingReply(State);

enum State {
    /// It came before anybody waited.
    Come(Option<Result<Payload>>),
    /// In a box: it is moved about more often than it is made.
    Awaited(Box<Place>),
}

impl PendingReply {
    pub(super) fn come(reply: Result<Payload>) -> PendingReply {
        PendingReply(State::Come(Some(reply)))
    }

    pub(super) fn awaited(place: Place) -> PendingReply {
        PendingReply(State::Awaited(Box::new(place)))
    }

    /// The reply, if it came before anybody waited; otherwise the wait for it.
    ///
    /// # Errors
    /// It is the wait that comes back.
    pub fn early(self) -> std::result::Result<Result<Payload>, PendingReply> {
        match self.0 {
            State::Come(Some(reply)) => Ok(reply),
            other => Err(PendingReply(other)),
        }
    }
}

impl Future for PendingReply {
    type Output = Result<Payload>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Payload>> {
        let place = match &mut self.0 {
            State::Come(reply) => return reply.take().map_or(Poll::Pending, Poll::Ready),
            State::Awaited(place) => place,
        };
        let Poll::Ready(settled) = place.poll(cx) else { return Poll::Pending };
        let Place { request_type, limit, .. } = &**place;
        Poll::Ready(match settled {
            Ok(answer) => outcome(answer, request_type),
            Err(Unanswered::Expired) => {
                let said = format!("no reply to `{request_type}` within {limit:?}");
                Err(timeout(request_type, said))
            }
            Err(Unanswered::Closed) => Err(closed(request_type)),
        })
    }
}

/// What an answer means to whoever asked.
pub(super) fn outcome(answer: Answer, request_type: &Topic) -> Result<Payload> {
    answer.map_err(|failure| fault(request_type.as_str(), failure))
}

/// The error where nobody will answer any more.
pub(super) fn closed(request_type: &Topic) -> Error {
    let said = format!("the bus closed before `{request_type}` was answered");
    Error::new(Kind::Closed, "request", said)
}

fn timeout(request_type: &Topic, said: String) -> Error {
    Error::new(Kind::RequestTimeout, "request", said).with("event_type", request_type.as_str())
}

/// The replies to one request to many. Dropping it forgets the request.
pub struct PendingReplies {
    replies: Replies,
    wanted: Wanted,
    asked: usize,
}

impl Future for PendingReplies {
    type Output = Result<Vec<Payload>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Vec<Payload>>> {
        let Poll::Ready(gathered) = self.replies.poll(cx) else { return Poll::Pending };
        Poll::Ready(match gathered {
            Some(Ok(replies)) => Ok(replies),
            Some(Err(too_few)) => Err(self.too_few(too_few)),
            None => Err(closed(&self.replies.place.request_type)),
        })
    }
}

impl PendingReplies {
    pub(super) fn new(replies: Replies, wanted: Wanted, asked: usize) -> PendingReplies {
        PendingReplies { replies, wanted, asked }
    }

    fn too_few(&self, too_few: TooFew) -> Error {
        let Place { request_type, limit, .. } = &self.replies.place;
        let quorum = self.wanted.quorum;
        let (error, came, failures) = match too_few {
            TooFew::Timeout { came, failures } => {
                let failed = match failures.len() {
                    0 => String::new(),
                    failed => format!(", and {failed} responder(s) failed"),
                };
                let said = format!(
                    "{came} of the {quorum} replies that `{request_type}` needs came within \
                     {limit:?}{failed}"
                );
                (timeout(request_type, said), came, failures)
            }
            TooFew::Failed { came, mut failures } => {
                let (failed, asked) = (failures.len(), self.asked);
                let error = fault(request_type.as_str(), failures.remove(0)).with(
                    "note",
                    format!(
                        "{failed} of {asked} responders failed; {quorum} replies were needed, \
                         and {came} had come"
                    ),
                );
                (error, came, failures)
            }
        };
        let error = error.with("replies", came.to_string());
        failures.into_iter().fold(error, |error, failure| {
            error.with("note", format!("also: {}: {}", failure.error_type, failure.message))
        })
    }
}

fn fault(request_type: &str, failure: Failure) -> Error {
    let mut error = Error::new(
        Kind::RequestFault,
        "request",
        format!(
            "the responder to `{request_type}` failed: {}: {}",
            failure.error_type, failure.message
        ),
    )
    .with_category(failure.category)
    .with("event_type", request_type)
    .with("error_type", failure.error_type)
    .with("error_message", failure.message);
    if let Some(traceback) = failure.traceback {
        error = error.with("traceback", traceback);
    }
    error
}

impl fmt::Debug for PendingReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Come(_) => f.write_str("PendingReply(come)"),
            State::Awaited(place) => {
                write!(f, "PendingReply({} {})", place.request_type, place.number())
            }
        }
    }
}

impl fmt::Debug for PendingReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.replies.place;
        write!(f, "PendingReplies({} {})", place.request_type, place.number())
    }
}
