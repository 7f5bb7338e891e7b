//! Request and response: who waits for which reply, or for several.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::failure::Failure;
use super::gather::{Gather, Gathered, TooFew, Wanted};
use crate::clock::Clock;
use crate::deadlines::{Deadlines, Key};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Payload};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::topic::Topic;

/// What a responder answers.
pub type Answer = std::result::Result<Payload, Failure>;

type Reply = std::result::Result<Answer, Timeout>;

#[derive(Debug)]
struct Timeout;

/// Who waits.
#[derive(Debug)]
enum Waiting {
    One(oneshot::Sender<Reply>),
    Many(Gather, oneshot::Sender<Gathered>),
}

/// The requests that wait for their reply.
#[derive(Debug)]
pub(super) struct Requests {
    waiting: Mutex<HashMap<u64, Waiting, foldhash::fast::RandomState>>,
    last: AtomicU64,
    late: AtomicU64,
    clock: Clock,
    /// One timer for all of them: a request is hardly ever the one that runs out of time.
    limits: Deadlines<u64>,
}

impl Requests {
    pub fn new(clock: &Clock) -> Arc<Requests> {
        Arc::new_cyclic(|requests: &Weak<Requests>| {
            let requests = requests.clone();
            let expire = move |id| {
                if let Some(requests) = requests.upgrade() {
                    requests.expire(id);
                }
            };
            Requests {
                waiting: Mutex::default(),
                last: AtomicU64::new(0),
                late: AtomicU64::new(0),
                clock: clock.clone(),
                limits: Deadlines::new(clock.clone(), expire),
            }
        })
    }

    /// Opens a place for one reply; it is gone when the future is dropped, or some time after
    /// [`PendingReply::arm`].
    pub fn open(self: &Arc<Self>, limit: Duration, request_type: &Topic) -> (u64, PendingReply) {
        let (sender, receiver) = oneshot::channel();
        let place = self.place(limit, Waiting::One(sender), request_type);
        (place.id, PendingReply { receiver, place })
    }

    /// Opens a place for the replies of `asked` responders; it is gone after `limit`, or when the
    /// future is dropped.
    pub fn open_many(
        self: &Arc<Self>,
        limit: Duration,
        request_type: &Topic,
        (wanted, asked): (Wanted, usize),
    ) -> (u64, PendingReplies) {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting::Many(Gather::new(wanted, asked), sender);
        let mut place = self.place(limit, waiting, request_type);
        place.arm();
        (place.id, PendingReplies { receiver, place, wanted, asked })
    }

    fn place(self: &Arc<Self>, limit: Duration, waiting: Waiting, request_type: &Topic) -> Place {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.waiting.lock().insert(id, waiting);
        let request_type = request_type.clone();
        Place { id, requests: self.clone(), limit, request_type, armed: None }
    }

    /// Delivers the reply to the request that `event` is; late ones are counted.
    pub fn answer(&self, event: &Event, answer: Answer) {
        let id = event
            .metadata
            .extra
            .as_ref()
            .and_then(|extra| extra.reply_to.as_ref())
            .and_then(|reply_to| reply_to.parse().ok());
        if let Some(id) = id
            && !self.settle(id, answer)
        {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn settle(&self, id: u64, answer: Answer) -> bool {
        let mut waiting = self.waiting.lock();
        if let Some(Waiting::Many(gather, _)) = waiting.get_mut(&id) {
            if gather.take(answer) {
                let done = waiting.remove(&id);
                drop(waiting);
                Self::finish(done, false);
            }
            return true;
        }
        let found = waiting.remove(&id);
        // The receiver's waker must not run under the lock.
        drop(waiting);
        match found {
            Some(Waiting::One(sender)) => sender.send(Ok(answer)).is_ok(),
            _ => false,
        }
    }

    fn expire(&self, id: u64) {
        let found = self.waiting.lock().remove(&id);
        Self::finish(found, true);
    }

    /// Ends a wait for which nobody waits any more, or that nothing more can help.
    fn finish(found: Option<Waiting>, expired: bool) {
        // Where the receiver is gone, nobody has to be told.
        match found {
            Some(Waiting::One(sender)) => drop(sender.send(Err(Timeout))),
            Some(Waiting::Many(gather, sender)) => drop(sender.send(gather.finish(expired))),
            None => {}
        }
    }

    /// Ends every wait: nobody will answer any more.
    pub fn close(&self) {
        // Dropped after the lock: each wakes somebody.
        let waiting = std::mem::take(&mut *self.waiting.lock());
        drop(waiting);
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// How many replies came after their request had ended.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }
}

/// A request's place among those that wait. Dropping it forgets the request.
struct Place {
    id: u64,
    requests: Arc<Requests>,
    limit: Duration,
    request_type: Topic,
    armed: Option<Key>,
}

impl Place {
    /// Ends the wait after its time limit from now.
    fn arm(&mut self) {
        let at = self.requests.clock.now().saturating_add(self.limit);
        self.armed = Some(self.requests.limits.set(at, self.id));
    }

    fn closed(&self) -> Error {
        let said = format!("the bus closed before `{}` was answered", self.request_type);
        Error::new(Kind::Closed, "request", said)
    }

    fn timeout(&self, said: String) -> Error {
        Error::new(Kind::RequestTimeout, "request", said)
            .with("event_type", self.request_type.as_str())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(armed) = self.armed {
            self.requests.limits.clear(armed);
        }
        let waiting = self.requests.waiting.lock().remove(&self.id);
        drop(waiting);
    }
}

/// The reply to one request. Dropping it forgets the request.
pub struct PendingReply {
    receiver: oneshot::Receiver<Reply>,
    place: Place,
}

impl PendingReply {
    /// Ends the wait after its time limit from now, unless it is over already.
    pub(super) fn arm(&mut self) {
        if self.receiver.is_empty() {
            self.place.arm();
        }
    }
}

impl Future for PendingReply {
    type Output = Result<Payload>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Payload>> {
        let reply = match Pin::new(&mut self.receiver).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(reply) => reply,
        };
        let Place { request_type, limit, .. } = &self.place;
        Poll::Ready(match reply {
            Ok(Ok(Ok(payload))) => Ok(payload),
            Ok(Ok(Err(failure))) => Err(fault(request_type.as_str(), failure)),
            Ok(Err(Timeout)) => {
                Err(self.place.timeout(format!("no reply to `{request_type}` within {limit:?}")))
            }
            Err(_) => Err(self.place.closed()),
        })
    }
}

/// The replies to one request to many. Dropping it forgets the request.
pub struct PendingReplies {
    receiver: oneshot::Receiver<Gathered>,
    place: Place,
    wanted: Wanted,
    asked: usize,
}

impl Future for PendingReplies {
    type Output = Result<Vec<Payload>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Vec<Payload>>> {
        let gathered = match Pin::new(&mut self.receiver).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(gathered) => gathered,
        };
        Poll::Ready(match gathered {
            Ok(Ok(replies)) => Ok(replies),
            Ok(Err(too_few)) => Err(self.too_few(too_few)),
            Err(_) => Err(self.place.closed()),
        })
    }
}

impl PendingReplies {
    fn too_few(&self, too_few: TooFew) -> Error {
        let Place { request_type, limit, .. } = &self.place;
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
                (self.place.timeout(said), came, failures)
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
        write!(f, "PendingReply({} {})", self.place.request_type, self.place.id)
    }
}

impl fmt::Debug for PendingReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PendingReplies({} {})", self.place.request_type, self.place.id)
    }
}
