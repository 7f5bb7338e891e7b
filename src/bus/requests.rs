//! Request and response: who waits for which reply, or for several.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::failure::Failure;
use super::gather::{self, Gather, Wanted};
use super::reply::{PendingReplies, PendingReply, closed, outcome};
use crate::clock::{Clock, Instant};
use crate::deadlines::{Deadlines, Fate, Key, Looked};
use crate::event::{Event, Payload, ReplyTo};
use crate::sync::{AtomicU64, Mutex, Ordering};
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

/// The answers to a request to many, as long as more are waited for, and what they come to.
#[derive(Debug)]
enum Gathered {
    NotYet(Gather),
    Done(Option<gather::Gathered>),
}

type Gathering = Mutex<Gathered>;

impl Gathered {
    /// Takes one answer; true when nothing more is waited for.
    fn take(&mut self, answer: Answer) -> bool {
        match self {
            Gathered::NotYet(gather) => gather.take(answer),
            Gathered::Done(_) => true,
        }
    }

    /// Nothing more is waited for, by an answer or (`expired`) by the time limit.
    fn finish(&mut self, expired: bool) {
        *self = match std::mem::replace(self, Gathered::Done(None)) {
            Gathered::NotYet(gather) => Gathered::Done(Some(gather.finish(expired))),
            done => done,
        };
    }
}

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
                if !gathering.take(answer) {
                    return Ok(None);
                }
                gathering.finish(false);
                drop(gathering);
                self.state = State::Gathered;
            }
            State::Answered(_) | State::Gathered => return Err(answer),
        }
        Ok(self.waker.take())
    }
}

/// Nothing was closed.
const OPEN: u64 = u64::MAX;

/// The requests that wait for their reply.
#[derive(Debug)]
pub(super) struct Requests {
    /// Those that run out of time vanish: whoever asked is woken, and finds nothing.
    waiting: Deadlines<Waiting>,
    late: AtomicU64,
    clock: Clock,
    /// When they were closed, in nanoseconds.
    closed: AtomicU64,
}

impl Requests {
    pub fn new(clock: &Clock) -> Arc<Requests> {
        let expire = |asked: Waiting| {
            if let State::Many(gathering) = &asked.state {
                gathering.lock().finish(true);
            }
            wake(asked.waker);
        };
        Arc::new(Requests {
            waiting: Deadlines::new(clock.clone(), expire),
            late: AtomicU64::new(0),
            clock: clock.clone(),
            closed: AtomicU64::new(OPEN),
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
        let gathering = Arc::new(Mutex::new(Gathered::NotYet(Gather::new(wanted, asked))));
        let key = self.waiting.set(limit, Waiting::new(State::Many(gathering.clone())));
        let place = self.place(key, (limit, None), request_type);
        if self.is_closed() {
            self.forget(key); // nobody else will
        }
        (key.number(), PendingReplies::new(Replies { place, gathering }, wanted, asked))
    }

    fn place(
        self: &Arc<Self>,
        key: Key,
        (limit, until): (Duration, Option<Instant>),
        request_type: &Topic,
    ) -> Place {
        let request_type = request_type.clone();
        Place { key, limit, until, request_type, over: false, requests: self.clone() }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) != OPEN
    }

    /// Delivers the reply to the request that `event` is; late ones are counted, but not those
    /// that the end of the bus itself gives.
    pub fn answer(&self, event: &Event, answer: Answer) {
        let reply_to = event.metadata.extra.as_ref().and_then(|extra| extra.reply_to.as_ref());
        if let Some(number) = reply_to.and_then(ReplyTo::number) {
            self.answer_number(number, answer);
        }
    }

    /// Delivers the reply to the request that stands at the place `number`.
    pub fn answer_number(&self, number: u64, answer: Answer) {
        let taken = self.waiting.look(Key::of(number), |asked| {
            let taken = asked.answer(answer);
            // What is settled waits only for whoever asked to come and see.
            if asked.is_settled() { Fate::Lifted(taken) } else { Fate::Stays(taken) }
        });
        match taken {
            Some(Looked::Kept(Ok(waker))) => wake(waker),
            _ if self.is_closed() => {}
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
        let now = self.clock.now().as_nanos();
        let _ = self.closed.compare_exchange(OPEN, now, Ordering::AcqRel, Ordering::Acquire);
        let unanswered = self.waiting.extract(|asked| !asked.is_settled());
        unanswered.into_iter().for_each(|asked| wake(asked.waker));
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.unlifted()
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
        let (early, until) = match early {
            Poll::Pending => {
                let (looked, until) = requests.waiting.limit(key, limit, settled);
                (seen(looked), Some(until))
            }
            early => (early, None),
        };
        match early {
            Poll::Ready(Some(State::Answered(answer))) => {
                PendingReply::come(outcome(answer, request_type))
            }
            Poll::Ready(_) => PendingReply::come(Err(closed(request_type))),
            Poll::Pending if requests.is_closed() => {
                requests.forget(key); // nobody else will, if it came after the end
                PendingReply::come(Err(closed(request_type)))
            }
            Poll::Pending => {
                PendingReply::awaited(requests.place(key, (limit, until), request_type))
            }
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
    /// When the wait ends.
    until: Option<Instant>,
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
        let in_time = self.until.is_none_or(|until| closed < until.as_nanos());
        if closed != OPEN && in_time { Unanswered::Closed } else { Unanswered::Expired }
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
    /// What the request came to; nothing where the bus closed before.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<gather::Gathered>> {
        self.place.look(cx).map(|_| {
            let mut gathering = self.gathering.lock();
            if !self.place.requests.is_closed() {
                gathering.finish(true); // it ran out of time just now
            }
            match &mut *gathering {
                Gathered::Done(came_to) => came_to.take(),
                Gathered::NotYet(_) => None,
            }
        })
    }
}
