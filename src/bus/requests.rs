//! Request and response: who waits for which reply.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::failure::Failure;
use crate::clock::{Clock, Timer};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Payload};

/// What a responder answers.
pub type Answer = std::result::Result<Payload, Failure>;

type Reply = std::result::Result<Answer, Timeout>;

#[derive(Debug)]
struct Timeout;

/// The requests that wait for their reply.
#[derive(Debug, Default)]
pub(super) struct Requests {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Reply>>>,
    last: AtomicU64,
    late: AtomicU64,
}

impl Requests {
    /// Opens a place for one reply; it is gone after `limit`, or when the future is dropped.
    pub fn open(
        self: &Arc<Self>,
        clock: &Clock,
        limit: Duration,
        request_type: &str,
    ) -> (u64, PendingReply) {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        let requests = Arc::downgrade(self);
        let timer = clock.schedule(limit, move || {
            if let Some(requests) = requests.upgrade() {
                requests.settle(id, Err(Timeout));
            }
        });
        let pending = PendingReply {
            id,
            receiver,
            requests: self.clone(),
            limit,
            request_type: request_type.into(),
            _timer: timer,
        };
        (id, pending)
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
            && !self.settle(id, Ok(answer))
        {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn settle(&self, id: u64, reply: Reply) -> bool {
        // Bound first: the receiver's waker must not run under the lock.
        let sender = self.waiting.lock().remove(&id);
        sender.is_some_and(|sender| sender.send(reply).is_ok())
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

/// The reply to one request. Dropping it forgets the request.
pub struct PendingReply {
    id: u64,
    receiver: oneshot::Receiver<Reply>,
    requests: Arc<Requests>,
    limit: Duration,
    request_type: String,
    _timer: Timer,
}

impl Future for PendingReply {
    type Output = Result<Payload>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Payload>> {
        let reply = match Pin::new(&mut self.receiver).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(reply) => reply,
        };
        Poll::Ready(match reply {
            Ok(Ok(Ok(payload))) => Ok(payload),
            Ok(Ok(Err(failure))) => Err(fault(&self.request_type, failure)),
            Ok(Err(Timeout)) => Err(Error::new(
                Kind::RequestTimeout,
                "request",
                format!("no reply to `{}` within {:?}", self.request_type, self.limit),
            )
            .with("event_type", self.request_type.clone())),
            Err(_) => Err(Error::new(
                Kind::Closed,
                "request",
                format!("the bus closed before `{}` was answered", self.request_type),
            )),
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

impl Drop for PendingReply {
    fn drop(&mut self) {
        let sender = self.requests.waiting.lock().remove(&self.id);
        drop(sender);
    }
}

impl fmt::Debug for PendingReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PendingReply({} {})", self.request_type, self.id)
    }
}
