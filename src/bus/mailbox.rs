//! One bounded mailbox per subscription: priority lanes, back-pressure, and the books.
//!
//! Nothing here knows how handlers run. A consumer *claims* the mailbox, pulls batches, and
//! reports what became of each delivery. `claims` bounds how many consumers work at once (the
//! subscription's concurrency); `notified` says that a consumer was told and has not come yet,
//! so that a burst of events costs one wake-up.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::key::KeyPath;
use super::ticket::Ticket;
use crate::event::{Event, Priority};

/// What happens to an event that finds a mailbox full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The publisher waits.
    #[default]
    Block,
    /// The oldest waiting event of the least urgent lane goes.
    DropOldest,
    /// The new event goes.
    DropNewest,
    /// The publisher gets an error.
    Fail,
}

impl Overflow {
    /// Every policy.
    pub const ALL: [Overflow; 4] =
        [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest, Overflow::Fail];

    /// The name in configuration and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Overflow::Block => "block",
            Overflow::DropOldest => "drop_oldest",
            Overflow::DropNewest => "drop_newest",
            Overflow::Fail => "fail",
        }
    }

    /// Parses the name in configuration and in the API.
    pub fn parse(name: &str) -> Option<Overflow> {
        Overflow::ALL.into_iter().find(|overflow| overflow.as_str() == name)
    }
}

/// One event on its way to one handler.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What is delivered.
    pub event: Arc<Event>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

/// What became of everything that was ever offered to a subscription.
///
/// At any time `published == delivered + filtered + dropped + expired + dead_lettered +
/// in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Events that matched the pattern.
    pub published: u64,
    /// Handled with success.
    pub delivered: u64,
    /// Refused by the filter.
    pub filtered: u64,
    /// Replaced by a newer event of the same key.
    pub conflated: u64,
    /// Lost to a named overflow policy, or to cancellation.
    pub dropped: u64,
    /// Past their deadline before a handler saw them.
    pub expired: u64,
    /// Given up on, and kept as dead letters.
    pub dead_lettered: u64,
    /// Queued, being handled, or waiting for a retry.
    pub in_flight: u64,
}

impl Tally {
    fn end(&mut self, ending: Ending, count: u64) {
        match ending {
            Ending::Dropped => self.dropped += count,
            Ending::DeadLettered => self.dead_lettered += count,
        }
    }

    /// Whether everything published is accounted for.
    pub fn balances(&self) -> bool {
        self.published
            == self.delivered
                + self.filtered
                + self.conflated
                + self.dropped
                + self.expired
                + self.dead_lettered
                + self.in_flight
    }

    /// Adds the figures of another subscription.
    pub fn add(&mut self, other: &Tally) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.filtered += other.filtered;
        self.conflated += other.conflated;
        self.dropped += other.dropped;
        self.expired += other.expired;
        self.dead_lettered += other.dead_lettered;
        self.in_flight += other.in_flight;
    }
}

/// What a mailbox did with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is queued; whether a consumer must be told.
    Queued { notify: bool },
    /// It, or an older one in its place, was dropped by policy.
    Dropped { notify: bool },
    /// There is no room and the policy is to wait or to fail.
    Full,
    /// The subscription has ended.
    Closed,
}

/// What becomes of the events that a mailbox still has when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// They are dropped: somebody cancelled the subscription.
    Dropped,
    /// They are kept as dead letters: what ran the handler is gone.
    DeadLettered,
}

/// What a consumer gets when it comes for work.
#[derive(Debug, Default)]
pub(super) struct Pulled {
    /// Whether there was anything.
    pub some: bool,
    /// Whether another consumer should be told.
    pub notify: bool,
    /// Publishers whose events now have room; to be woken after the lock.
    pub admitted: Vec<Arc<Ticket>>,
}

/// What a breaker lets through to the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// Everything.
    Free,
    /// Nothing: reading pauses, and events stay where they are.
    Stopped,
    /// So many deliveries and no more, until their outcome is known.
    Probing(usize),
}

impl Intake {
    fn limit(self) -> usize {
        match self {
            Intake::Free => usize::MAX,
            Intake::Stopped => 0,
            Intake::Probing(left) => left,
        }
    }

    fn give_back(&mut self) {
        if let Intake::Probing(left) = self {
            *left += 1;
        }
    }
}

/// How many events of each lane are served before less urgent ones get their turn.
const WEIGHTS: [u8; 4] = [8, 4, 2, 1];

#[derive(Debug)]
struct State {
    /// By urgency, the most urgent first.
    lanes: [VecDeque<Delivery>; 4],
    credits: [u8; 4],
    queued: usize,
    /// Events of a key that has a retry waiting: they must not overtake it.
    held: HashMap<Arc<str>, VecDeque<Delivery>>,
    held_count: usize,
    retrying: usize,
    running: usize,
    /// Deliveries that its end overtook, until `settle_left` books them.
    leaving: usize,
    claims: usize,
    notified: bool,
    intake: Intake,
    ended: Option<Ending>,
    /// Events that found no room, while their publisher decides what to do.
    offered: usize,
    line: VecDeque<Arc<Ticket>>,
    idle_wakers: Vec<std::task::Waker>,
    tally: Tally,
}

#[derive(Debug)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    capacity: usize,
    overflow: Overflow,
    concurrency: usize,
    key: Option<KeyPath>,
}

impl Mailbox {
    pub fn new(capacity: usize, overflow: Overflow, concurrency: usize) -> Self {
        Mailbox {
            state: Mutex::new(State {
                lanes: Default::default(),
                credits: WEIGHTS,
                queued: 0,
                held: HashMap::new(),
                held_count: 0,
                retrying: 0,
                running: 0,
                leaving: 0,
                claims: 0,
                notified: false,
                intake: Intake::Free,
                ended: None,
                offered: 0,
                line: VecDeque::new(),
                idle_wakers: Vec::new(),
                tally: Tally::default(),
            }),
            capacity,
            overflow,
            concurrency,
            key: None,
        }
    }

    /// The same mailbox, which finds the key of an event at `key`; without it, the key is the
    /// one that the event was published with.
    pub fn keyed_by(self, key: Option<KeyPath>) -> Self {
        Mailbox { key, ..self }
    }

    /// Asked only where a retry waits or is about to: the path may lead deep into the payload.
    fn key_of<'a>(&'a self, event: &'a Event) -> Option<Cow<'a, str>> {
        match &self.key {
            Some(path) => path.key_of(event),
            None => event.key().map(|key| Cow::Borrowed(&**key)),
        }
    }

    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Offers a new event. `Full` leaves the event with the caller, but already booked as
    /// published: it is for the caller to queue it, or to book it as dropped.
    pub fn offer(&self, event: &Arc<Event>) -> Offer {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return Offer::Closed;
        }
        state.tally.published += 1;
        // Publishers in line come first: an event must not slip past those that wait.
        if state.waiting() < self.capacity && state.line.is_empty() {
            state.push_back(Delivery { event: event.clone(), attempt: 1 });
            return Offer::Queued { notify: state.notify(self.concurrency) };
        }
        match self.overflow {
            Overflow::Block | Overflow::Fail => {
                state.offered += 1;
                Offer::Full
            }
            Overflow::DropNewest => {
                state.tally.dropped += 1;
                Offer::Dropped { notify: false }
            }
            Overflow::DropOldest => {
                state.tally.dropped += 1;
                // With a capacity taken up by held events there may be none in the lanes.
                if state.drop_oldest() {
                    state.push_back(Delivery { event: event.clone(), attempt: 1 });
                }
                Offer::Dropped { notify: state.notify(self.concurrency) }
            }
        }
    }

    /// Puts a publisher in line for room; it was booked by `offer`. Returns whether a consumer
    /// must be told, or the ticket when the mailbox has closed meanwhile.
    pub fn line_up(&self, ticket: Arc<Ticket>) -> Result<bool, Arc<Ticket>> {
        let mut state = self.state.lock();
        state.offered -= 1;
        if state.ended.is_some() {
            state.tally.dropped += 1;
            state.wake_if_idle();
            return Err(ticket);
        }
        state.line.push_back(ticket);
        let mut admitted = Vec::new();
        state.admit(self.capacity, &mut admitted);
        let notify = state.notify(self.concurrency);
        drop(state);
        admitted.iter().for_each(|ticket| ticket.admit());
        Ok(notify)
    }

    /// Takes a publisher out of line; its event is booked as dropped.
    pub fn leave_line(&self, ticket: &Arc<Ticket>) {
        let mut state = self.state.lock();
        let before = state.line.len();
        state.line.retain(|other| !Arc::ptr_eq(other, ticket));
        if state.line.len() < before {
            state.tally.dropped += 1;
            state.wake_if_idle();
        }
    }

    /// Books an event as dropped that `offer` found no room for.
    pub fn book_dropped(&self) {
        let mut state = self.state.lock();
        state.offered -= 1;
        state.tally.dropped += 1;
        state.wake_if_idle();
    }

    /// Books an event that runs on the publisher's thread, past the queue.
    pub fn begin_inline(&self) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        state.tally.published += 1;
        state.running += 1;
        true
    }

    /// A consumer comes for its first batch.
    pub fn claim(
        &self,
        max: usize,
        now: impl FnMut() -> i64,
        out: &mut VecDeque<Delivery>,
    ) -> Pulled {
        let mut state = self.state.lock();
        state.notified = false;
        if state.claims >= self.concurrency || state.intake.limit() == 0 {
            return Pulled::default();
        }
        state.claims += 1;
        self.pull(&mut state, max, now, out)
    }

    /// A consumer reports `delivered` successes and comes for the next batch; without one its
    /// claim ends.
    pub fn next(
        &self,
        delivered: usize,
        max: usize,
        now: impl FnMut() -> i64,
        out: &mut VecDeque<Delivery>,
    ) -> Pulled {
        let mut state = self.state.lock();
        state.delivered(delivered);
        self.pull(&mut state, max, now, out)
    }

    fn pull(
        &self,
        state: &mut State,
        max: usize,
        mut now: impl FnMut() -> i64,
        out: &mut VecDeque<Delivery>,
    ) -> Pulled {
        let mut pulled = Pulled::default();
        let max = state.intake.limit().min(max);
        while out.len() < max
            && let Some(delivery) = state.pop()
        {
            if delivery.event.deadline().is_some_and(|deadline| now() >= deadline) {
                state.tally.expired += 1;
                continue;
            }
            if !state.held.is_empty()
                && let Some(key) = self.key_of(&delivery.event)
                && let Some(held) = state.held.get_mut(&*key)
            {
                drop(key);
                held.push_back(delivery);
                state.held_count += 1;
                continue;
            }
            out.push_back(delivery);
        }
        pulled.some = !out.is_empty();
        state.running += out.len();
        if let Intake::Probing(left) = &mut state.intake {
            *left -= out.len();
        }
        if !pulled.some {
            state.claims -= 1;
        }
        state.admit(self.capacity, &mut pulled.admitted);
        pulled.notify = state.notify(self.concurrency);
        state.wake_if_idle();
        pulled
    }

    /// Reports successes, and hands back what was pulled but not begun. What a mailbox that has
    /// ended cannot take back is returned (and is in flight until `settle_left`), beside whether
    /// another consumer must be told.
    pub fn put_back(
        &self,
        delivered: usize,
        rest: impl DoubleEndedIterator<Item = Delivery>,
    ) -> (bool, Vec<Delivery>) {
        let mut state = self.state.lock();
        state.delivered(delivered);
        let mut left = Vec::new();
        for delivery in rest {
            state.running -= 1;
            state.intake.give_back();
            match state.ended {
                None => state.push_front(delivery),
                Some(_) => {
                    state.leaving += 1;
                    left.push(delivery);
                }
            }
        }
        state.wake_if_idle();
        (state.notify(self.concurrency), left)
    }

    /// Reports one delivery as handled.
    pub fn handled(&self) {
        let mut state = self.state.lock();
        state.delivered(1);
        state.wake_if_idle();
    }

    /// Ends a claim; returns whether another consumer must be told.
    pub fn release(&self) -> bool {
        let mut state = self.state.lock();
        state.claims -= 1;
        state.notify(self.concurrency)
    }

    /// A delivery goes to wait for its retry, and holds back later events of its key.
    pub fn await_retry(&self, delivery: &Delivery) {
        let key = self.key_of(&delivery.event).map(|key| Arc::from(&*key));
        let mut state = self.state.lock();
        state.running -= 1;
        state.retrying += 1;
        if let Some(key) = key {
            state.held.entry(key).or_default();
        }
    }

    /// The wait is over; returns whether a consumer must be told, or the delivery, in flight
    /// until `settle_left`, when the mailbox has ended meanwhile.
    pub fn requeue(&self, delivery: Delivery) -> Result<bool, Delivery> {
        let mut state = self.state.lock();
        state.retrying -= 1;
        if state.ended.is_some() {
            state.leaving += 1;
            return Err(delivery);
        }
        // In reverse: the retry itself ends up before those it held back.
        let held = self.key_of(&delivery.event).and_then(|key| state.held.remove(&*key));
        if let Some(held) = held {
            state.held_count -= held.len();
            held.into_iter().rev().for_each(|delivery| state.push_front(delivery));
        }
        state.push_front(delivery);
        Ok(state.notify(self.concurrency))
    }

    /// A delivery that failed for good is kept elsewhere.
    pub fn dead_lettered(&self) {
        let mut state = self.state.lock();
        state.running -= 1;
        state.tally.dead_lettered += 1;
        state.wake_if_idle();
    }

    /// A delivery ends without success or failure (its consumer is going away); it is in flight
    /// until `settle_left`.
    pub fn abandoned(&self) {
        let mut state = self.state.lock();
        state.running -= 1;
        state.leaving += 1;
    }

    /// Books `count` deliveries that the end of the mailbox overtook, now that what has to
    /// become of them has been done.
    pub fn settle_left(&self, count: usize) {
        let mut state = self.state.lock();
        state.leaving -= count;
        let ending = state.ended.unwrap_or(Ending::Dropped);
        state.tally.end(ending, count as u64);
        state.wake_if_idle();
    }

    /// Lets deliveries through, or not; returns whether a consumer must be told.
    pub fn set_intake(&self, intake: Intake) -> bool {
        let mut state = self.state.lock();
        state.intake = intake;
        state.notify(self.concurrency)
    }

    /// Allows another probe for one that told nothing.
    pub fn allow_one_more(&self) -> bool {
        let mut state = self.state.lock();
        state.intake.give_back();
        state.notify(self.concurrency)
    }

    /// Ends the mailbox, the first time for good. What was queued is returned, in flight until
    /// `settle_left`; tickets in line are refused.
    pub fn close(&self, ending: Ending) -> Vec<Delivery> {
        let (left, line) = {
            let mut state = self.state.lock();
            state.ended.get_or_insert(ending);
            let mut left = Vec::with_capacity(state.waiting());
            while let Some(delivery) = state.pop() {
                left.push(delivery);
            }
            for (_, held) in state.held.drain() {
                left.extend(held);
            }
            state.held_count = 0;
            let line = std::mem::take(&mut state.line);
            state.leaving += left.len();
            state.tally.dropped += line.len() as u64;
            state.wake_if_idle();
            (left, line)
        };
        line.iter().for_each(|ticket| ticket.refuse());
        left
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.state.lock().ended
    }

    /// The books; `filtered` is kept outside the lock and added by the caller.
    pub fn tally(&self) -> Tally {
        let state = self.state.lock();
        let mut tally = state.tally;
        tally.in_flight = state.in_flight() as u64;
        tally
    }

    /// How many events wait in the queue.
    pub fn depth(&self) -> usize {
        self.state.lock().waiting()
    }

    /// Whether nothing is queued, running or waiting; if not, `waker` is told when it is.
    pub fn poll_idle(&self, waker: &std::task::Waker) -> bool {
        let mut state = self.state.lock();
        let idle = state.in_flight() == 0;
        if !idle {
            state.idle_wakers.push(waker.clone());
        }
        idle
    }
}

impl State {
    fn waiting(&self) -> usize {
        self.queued + self.held_count
    }

    fn in_flight(&self) -> usize {
        self.waiting()
            + self.running
            + self.retrying
            + self.leaving
            + self.line.len()
            + self.offered
    }

    fn lane(delivery: &Delivery) -> usize {
        Priority::Critical as usize - delivery.event.metadata.priority as usize
    }

    fn push_back(&mut self, delivery: Delivery) {
        self.lanes[Self::lane(&delivery)].push_back(delivery);
        self.queued += 1;
    }

    fn push_front(&mut self, delivery: Delivery) {
        self.lanes[Self::lane(&delivery)].push_front(delivery);
        self.queued += 1;
    }

    /// The most urgent event, but every lane gets its share: weighted round robin.
    fn pop(&mut self) -> Option<Delivery> {
        if self.queued == 0 {
            return None;
        }
        self.queued -= 1;
        loop {
            for lane in 0..4 {
                if self.credits[lane] > 0
                    && let Some(delivery) = self.lanes[lane].pop_front()
                {
                    self.credits[lane] -= 1;
                    return Some(delivery);
                }
            }
            self.credits = WEIGHTS;
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let dropped = self.lanes.iter_mut().rev().find_map(VecDeque::pop_front).is_some();
        self.queued -= usize::from(dropped);
        dropped
    }

    fn delivered(&mut self, count: usize) {
        self.running -= count;
        self.tally.delivered += count as u64;
    }

    /// Whether a consumer must be told that there is work.
    fn notify(&mut self, concurrency: usize) -> bool {
        let notify = !self.notified
            && self.intake.limit() > 0
            && self.claims < concurrency
            && self.queued > 0;
        self.notified |= notify;
        notify
    }

    fn admit(&mut self, capacity: usize, admitted: &mut Vec<Arc<Ticket>>) {
        while self.waiting() < capacity
            && let Some(ticket) = self.line.pop_front()
        {
            self.push_back(Delivery { event: ticket.event().clone(), attempt: 1 });
            admitted.push(ticket);
        }
    }

    fn wake_if_idle(&mut self) {
        if !self.idle_wakers.is_empty() && self.in_flight() == 0 {
            self.idle_wakers.drain(..).for_each(std::task::Waker::wake);
        }
    }
}
