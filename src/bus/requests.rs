//! Request and response: who waits for which reply, or for several.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::failure::Failure;
use super::gather::{Gather, Gathered, Wanted};
use super::reply::{PendingReplies, PendingReply, closed, outcome};
use crate::clock::Clock;
use crate::deadlines::{Deadlines, Key};
use crate::event::{Event, Payload, ReplyTo};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::topic::Topic;

/// What a responder answers.
pub type Answer = std::result::Result<Payload, Failure>;

pub(super) type Reply = std::result::Result<Answer, Timeout>;

/// Nobody answered in time.
#[derive(Debug)]
pub(super) struct Timeout;

/// Who waits.
#[derive(Debug)]
enum Waiting {
    /// Nobody yet: the request is on its way.
    Open,
    /// And it was answered there.
    Answered(Answer),
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

    /// Opens a place for one reply.
    pub fn open(self: &Arc<Self>) -> Opened<'_> {
        Opened { id: self.insert(Waiting::Open), requests: self, kept: true }
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
        let place = self.place(self.insert(waiting), limit, request_type);
        (place.id, PendingReplies::new(receiver, place, wanted, asked))
    }

    fn insert(&self, waiting: Waiting) -> u64 {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.waiting.lock().insert(id, waiting);
        id
    }

    /// A place whose wait ends after `limit` from now.
    fn place(self: &Arc<Self>, id: u64, limit: Duration, request_type: &Topic) -> Place {
        let at = self.clock.now().saturating_add(limit);
        let timer = self.limits.set(at, id);
        let request_type = request_type.clone();
        Place { id, limit, request_type, over: false, requests: self.clone(), timer }
    }

    /// Delivers the reply to the request that `event` is; late ones are counted.
    pub fn answer(&self, event: &Event, answer: Answer) {
        let reply_to = event.metadata.extra.as_ref().and_then(|extra| extra.reply_to.as_ref());
        let id = reply_to.and_then(ReplyTo::number);
        if let Some(id) = id
            && !self.settle(id, answer)
        {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// False where nobody waits for it any more.
    fn settle(&self, id: u64, answer: Answer) -> bool {
        let mut waiting = self.waiting.lock();
        let done = match waiting.get_mut(&id) {
            None | Some(Waiting::Answered(_)) => return false,
            Some(open @ Waiting::Open) => {
                *open = Waiting::Answered(answer);
                return true;
            }
            Some(Waiting::Many(gather, _)) => {
                if !gather.take(answer) {
                    return true;
                }
                waiting.remove(&id)
            }
            Some(Waiting::One(_)) => {
                let found = waiting.remove(&id);
                // The receiver's waker must not run under the lock.
                drop(waiting);
                let Some(Waiting::One(sender)) = found else { return false };
                return sender.send(Ok(answer)).is_ok();
            }
        };
        drop(waiting);
        Self::finish(done, false);
        true
    }

    fn forget(&self, id: u64) {
        let waiting = self.waiting.lock().remove(&id);
        drop(waiting); // after the lock
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
            Some(Waiting::Open | Waiting::Answered(_)) | None => {}
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

/// A request on its way, which is not waited for yet. Dropping it forgets the request.
pub(super) struct Opened<'a> {
    pub id: u64,
    requests: &'a Arc<Requests>,
    kept: bool,
}

impl Opened<'_> {
    /// The reply, if it has come, or the wait for it, which ends after `limit` from now.
    pub fn reply(mut self, limit: Duration, request_type: &Topic) -> PendingReply {
        self.kept = false;
        let (requests, id) = (self.requests, self.id);
        let mut waiting = requests.waiting.lock();
        match waiting.remove(&id) {
            Some(Waiting::Answered(answer)) => {
                drop(waiting);
                PendingReply::come(outcome(answer, request_type))
            }
            Some(Waiting::Open) => {
                let (sender, receiver) = oneshot::channel();
                waiting.insert(id, Waiting::One(sender));
                drop(waiting);
                PendingReply::awaited(receiver, requests.place(id, limit, request_type))
            }
            _ => PendingReply::come(Err(closed(request_type))),
        }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if self.kept {
            self.requests.forget(self.id);
        }
    }
}

/// A request's place among those that wait. Dropping it forgets the request.
pub(super) struct Place {
    pub id: u64,
    pub limit: Duration,
    pub request_type: Topic,
    /// Whether nothing stands there any more.
    pub over: bool,
    requests: Arc<Requests>,
    timer: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.requests.limits.clear(self.timer);
        if !self.over {
            self.requests.forget(self.id);
        }
    }
}
