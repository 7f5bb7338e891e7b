//! Request and response: who waits for which reply, or for several.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::failure::Failure;
use super::gather::{Gather, Gathered, Wanted};
use super::reply::{PendingReplies, PendingReply, closed, outcome};
use crate::clock::Clock;
use crate::deadlines::{Deadlines, Fate, Key, Looked};
use crate::event::{Event, Payload, ReplyTo};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::topic::Topic;

/// What a responder answers.
pub type Answer = std::result::Result<Payload, Failure>;

/// A request that somebody waits for, or will.
#[derive(Debug)]
struct Waiting {
    state: State,
    /// Who is to be woken; none as long as nobody has looked.
    waker: Option<Waker>,
}

#[derive(Debug)]
enum State {
    One,
    Answered(Answer),
    /// What came is with whoever asked.
    Many(Arc<Gathering>),
    Gathered,
}

/// The answers to a request to many; taken out when they are evaluated.
type Gathering = Mutex<Option<Gather>>;

impl Waiting {
    fn new(state: State) -> Waiting {
        Waiting { state, waker: None }
    }

    fn is_settled(&self) -> bool {
        matches!(self.state, State::Answered(_) | State::Gathered)
    }

    /// Takes one answer; one that comes too late comes back. Who is to be woken then.
    fn answer(&mut self, answer: Answer) -> Result<Option<Waker>, Answer> {
        match &self.state {
            State::One => self.state = State::Answered(answer),
            State::Many(gathering) => {
                let mut gathering = gathering.lock();
                if !gathering.as_mut().is_some_and(|gather| gather.take(answer)) {
                    return Ok(None);
                }
                drop(gathering);
                self.state = State::Gathered;
            }
            State::Answered(_) | State::Gathered => return Err(answer),
        }
        Ok(self.waker.take())
    }
}

/// The requests that wait for their reply.
#[derive(Debug)]
pub(super) struct Requests {
    /// Those that run out of time vanish: whoever asked is woken, and finds nothing.
    waiting: Deadlines<Waiting>,
    late: AtomicU64,
    closed: AtomicBool,
}

impl Requests {
    pub fn new(clock: &Clock) -> Arc<Requests> {
        let expire = |asked: Waiting| wake(asked.waker);
        Arc::new(Requests {
            waiting: Deadlines::new(clock.clone(), expire),
            late: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// Opens a place for one reply.
    pub fn open(self: &Arc<Self>) -> Opened<'_> {
        let key = self.waiting.keep(Waiting::new(State::One));
        Opened { key, requests: self, kept: true }
    }

    /// Opens a place for the replies of `asked` responders; it is gone after `limit`, or when the
    /// future is dropped.
    pub fn open_many(
        self: &Arc<Self>,
        limit: Duration,
        request_type: &Topic,
        (wanted, asked): (Wanted, usize),
    ) -> (u64, PendingReplies) {
        let gathering = Arc::new(Mutex::new(Some(Gather::new(wanted, asked))));
        let key = self.waiting.set(limit, Waiting::new(State::Many(gathering.clone())));
        let place = self.place(key, limit, request_type);
        (key.number(), PendingReplies::new(Replies { place, gathering }, wanted, asked))
    }

    fn place(self: &Arc<Self>, key: Key, limit: Duration, request_type: &Topic) -> Place {
        let request_type = request_type.clone();
        Place { key, limit, request_type, over: false, requests: self.clone() }
    }

    /// Delivers the reply to the request that `event` is; late ones are counted.
    pub fn answer(&self, event: &Event, answer: Answer) {
        let reply_to = event.metadata.extra.as_ref().and_then(|extra| extra.reply_to.as_ref());
        let Some(number) = reply_to.and_then(ReplyTo::number) else { return };
        let taken = self.waiting.look(Key::of(number), |asked| {
            let taken = asked.answer(answer);
            // What is settled waits only for whoever asked to come and see.
            if asked.is_settled() { Fate::Lifted(taken) } else { Fate::Stays(taken) }
        });
        match taken {
            Some(Looked::Kept(Ok(waker))) => wake(waker),
            _ => {
                self.late.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What the request came to, which takes it out, or nothing where it is not there any more.
    fn poll(&self, key: Key, waker: &Waker) -> Poll<Option<State>> {
        let looked = self.waiting.look(key, |asked| {
            if asked.is_settled() {
                return Fate::Ends;
            }
            let known = asked.waker.as_ref().is_some_and(|known| known.will_wake(waker));
            Fate::Stays(if known { None } else { asked.waker.replace(waker.clone()) })
        });
        seen(looked)
    }

    fn forget(&self, key: Key) {
        drop(self.waiting.clear(key)); // after the lock
    }

    /// Ends every wait: nobody will answer any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let unanswered = self.waiting.extract(|asked| !asked.is_settled());
        unanswered.into_iter().for_each(|asked| wake(asked.waker));
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.count(|asked| !asked.is_settled())
    }

    /// How many replies came after their request had ended.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }
}

/// What whoever asked sees; called without the lock: a waker that is dropped is anybody's code.
fn seen<R>(looked: Option<Looked<Waiting, R>>) -> Poll<Option<State>> {
    match looked {
        None => Poll::Ready(None),
        Some(Looked::Taken(settled)) => Poll::Ready(Some(settled.state)),
        Some(Looked::Kept(_)) => Poll::Pending,
    }
}

/// Called without the lock: a waker is anybody's code.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A request on its way, which is not waited for yet. Dropping it forgets the request.
pub(super) struct Opened<'a> {
    key: Key,
    requests: &'a Arc<Requests>,
    kept: bool,
}

impl Opened<'_> {
    /// What names the request to whoever answers it.
    pub fn number(&self) -> u64 {
        self.key.number()
    }

    /// The reply, if it has come, or the wait for it, which ends after `limit` from now. Where
    /// the reply is `likely` there, it is looked for before the clock is asked.
    pub fn reply(mut self, limit: Duration, request_type: &Topic, likely: bool) -> PendingReply {
        fn settled(asked: &mut Waiting) -> Fate<()> {
            if asked.is_settled() { Fate::Ends } else { Fate::Stays(()) }
        }
        self.kept = false;
        let (requests, key) = (self.requests, self.key);
        let early = if likely { seen(requests.waiting.look(key, settled)) } else { Poll::Pending };
        let early = match early {
            Poll::Pending => seen(requests.waiting.limit(key, limit, settled)),
            early => early,
        };
        match early {
            Poll::Ready(Some(State::Answered(answer))) => {
                PendingReply::come(outcome(answer, request_type))
            }
            Poll::Ready(_) => PendingReply::come(Err(closed(request_type))),
            Poll::Pending => PendingReply::awaited(requests.place(key, limit, request_type)),
        }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if self.kept {
            self.requests.forget(self.key);
        }
    }
}

/// A request's place among those that wait. Dropping it forgets the request.
pub(super) struct Place {
    key: Key,
    pub limit: Duration,
    pub request_type: Topic,
    /// Whether nothing stands there any more.
    over: bool,
    requests: Arc<Requests>,
}

/// Why there will be no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    Expired,
    Closed,
}

impl Place {
    /// The answer to a request to one.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<std::result::Result<Answer, Unanswered>> {
        self.look(cx).map(|settled| match settled {
            Some(State::Answered(answer)) => Ok(answer),
            _ => Err(self.unanswered()),
        })
    }

    fn look(&mut self, cx: &Context<'_>) -> Poll<Option<State>> {
        let polled = self.requests.poll(self.key, cx.waker());
        self.over = polled.is_ready();
        polled
    }

    fn unanswered(&self) -> Unanswered {
        let closed = self.requests.closed.load(Ordering::Acquire);
        if closed { Unanswered::Closed } else { Unanswered::Expired }
    }

    /// The number of the request, for people.
    pub fn number(&self) -> u64 {
        self.key.number()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.over {
            self.requests.forget(self.key);
        }
    }
}

/// The place of a request to many, and what came of it.
pub(super) struct Replies {
    pub place: Place,
    gathering: Arc<Gathering>,
}

impl Replies {
    /// What the request came to.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<std::result::Result<Gathered, Unanswered>> {
        self.place.look(cx).map(|settled| {
            let expired = match (settled, self.place.unanswered()) {
                (None, Unanswered::Closed) => return Err(Unanswered::Closed),
                (settled, _) => settled.is_none(),
            };
            let gather = self.gathering.lock().take();
            gather.map(|gather| gather.finish(expired)).ok_or(Unanswered::Closed)
        })
    }
}
