//! One bounded mailbox per subscription: priority lanes, back-pressure, and the books.
//!
//! Nothing here knows how handlers run. A consumer *claims* the mailbox, pulls batches, and
//! reports what became of each delivery. `claims` bounds how many consumers work at once (the
//! subscription's concurrency); `notified` says that a consumer was told and has not come yet,
//! so that a burst of events costs one wake-up.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::task::Waker;

use super::ack::Ack;
use super::backlog::{Backlog, Lost};
use super::intake::Intake;
use super::lanes::Delivery;
use super::overflow::Overflow;
use super::passage::Passage;
use super::tally::{Ending, Tally};
use super::ticket::Ticket;
use crate::clock::Instant;
use crate::event::Event;
use crate::sync::{Mutex, MutexGuard};

/// What a mailbox did with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is queued, perhaps in the place of an older one; whether a consumer must be told.
    Queued { notify: bool },
    /// It, or an older one in its place, was dropped by policy.
    Dropped { notify: bool },
    /// There is no room and the policy is to wait or to fail.
    Full,
    /// The subscription has ended.
    Closed,
}

/// What a consumer gets when it comes for work.
#[derive(Debug, Default)]
pub(super) struct Pulled {
    /// Whether there was anything.
    pub some: bool,
    /// Whether another consumer should be told.
    pub notify: bool,
    /// Publishers whose events now have room; to be told after the lock.
    pub admitted: Vec<Arc<Ticket>>,
    /// When [`Mailbox::open_due`] is to be called, if somebody has to see to that.
    pub open_at: Option<Instant>,
}

#[derive(Debug)]
struct State {
    backlog: Backlog,
    retrying: usize,
    running: usize,
    /// How many may be under way at once: what nobody decides on must not grow without bound.
    most_running: usize,
    /// Deliveries that its end overtook, until `settle_left` books them.
    leaving: usize,
    claims: usize,
    notified: bool,
    intake: Intake,
    ended: Option<Ending>,
    /// Events that found no room, while their publisher decides what to do.
    offered: usize,
    line: VecDeque<Arc<Ticket>>,
    idle_wakers: Vec<Waker>,
    tally: Tally,
}

/// The state under its lock. Whoever leaves the mailbox idle wakes those who wait for that, once
/// the lock is released: what waking runs is not ours.
struct Locked<'a> {
    passage: &'a Passage,
    state: MutexGuard<'a, State>,
    woken: Woken, // after the guard: fields are dropped in this order
}

#[derive(Default)]
struct Woken(Vec<Waker>);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if !self.state.idle_wakers.is_empty()
            && self.state.in_flight() == 0
            && self.passage.in_flight() == 0
        {
            self.woken.0 = std::mem::take(&mut self.state.idle_wakers);
        }
    }
}

impl Drop for Woken {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            self.0.drain(..).for_each(Waker::wake);
        }
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

#[derive(Debug)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    passage: Passage,
    capacity: usize,
    overflow: Overflow,
    concurrency: usize,
    /// Whether what is under way counts as delivered.
    early: bool,
}

impl Mailbox {
    pub fn new(capacity: usize, overflow: Overflow, concurrency: usize, backlog: Backlog) -> Self {
        Mailbox {
            state: Mutex::new(State {
                backlog,
                retrying: 0,
                running: 0,
                most_running: usize::MAX,
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
            passage: Passage::default(),
            capacity,
            overflow,
            concurrency,
            early: false,
        }
    }

    /// The same mailbox for deliveries that are settled as `ack` says.
    pub fn settling(mut self, ack: Ack) -> Self {
        self.early = ack == Ack::First;
        if ack == Ack::Manual {
            self.state.get_mut().most_running = self.capacity;
        }
        self
    }

    fn lock(&self) -> Locked<'_> {
        Locked { passage: &self.passage, state: self.state.lock(), woken: Woken::default() }
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
        let mut state = self.lock();
        if state.ended.is_some() {
            return Offer::Closed;
        }
        state.tally.published += 1;
        if self.overflow.conflates() {
            let lost = state.backlog.conflate(event, self.capacity);
            state.book(lost);
            return Offer::Queued { notify: state.notify(self.concurrency) };
        }
        // Publishers in line come first: an event must not slip past those that wait.
        if state.waiting() < self.capacity && state.line.is_empty() {
            state.backlog.push(event);
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
                // With a capacity taken up by what a retry holds back there may be none.
                if state.backlog.drop_oldest() {
                    state.backlog.push(event);
                }
                Offer::Dropped { notify: state.notify(self.concurrency) }
            }
            // These have taken it above.
            Overflow::Latest | Overflow::Sample => Offer::Queued { notify: false },
        }
    }

    /// Puts a publisher in line for room; it was booked by `offer`. Returns whether a consumer
    /// must be told, or the ticket when the mailbox has closed meanwhile; its event is in flight
    /// until `book_dropped` or `offered_elsewhere`.
    pub fn line_up(&self, ticket: Arc<Ticket>) -> Result<bool, Arc<Ticket>> {
        let mut state = self.lock();
        if state.ended.is_some() {
            return Err(ticket);
        }
        state.offered -= 1;
        state.line.push_back(ticket);
        let mut admitted = Vec::new();
        state.admit(self.capacity, &mut admitted);
        let notify = state.notify(self.concurrency);
        drop(state);
        admitted.iter().for_each(|ticket| ticket.tell());
        Ok(notify)
    }

    /// Takes a publisher out of line; its event is booked as dropped. False when it was admitted
    /// or refused before.
    pub fn leave_line(&self, ticket: &Arc<Ticket>) -> bool {
        let mut state = self.lock();
        let before = state.line.len();
        state.line.retain(|other| !Arc::ptr_eq(other, ticket));
        let left = state.line.len() < before;
        state.tally.dropped += u64::from(left);
        left
    }

    /// An event that `offer` found no room for is in the books of another mailbox now.
    pub fn offered_elsewhere(&self) {
        let mut state = self.lock();
        state.offered -= 1;
        state.tally.published -= 1;
    }

    /// Books an event as dropped that `offer` found no room for.
    pub fn book_dropped(&self) {
        let mut state = self.lock();
        state.offered -= 1;
        state.tally.dropped += 1;
    }

    /// Books an event that is handled inside `publish`; false when the mailbox has closed.
    #[inline]
    pub fn begin_inline(&self) -> bool {
        let begun = self.passage.begin();
        if !begun && self.passage.take_back() {
            drop(self.lock());
        }
        begun
    }

    /// Books what `begin_inline` began as handled.
    #[inline]
    pub fn end_inline(&self) {
        if self.passage.end() {
            drop(self.lock()); // which wakes those who wait
        }
    }

    /// What `begin_inline` began goes on as if it had been pulled from the queue: it failed.
    pub fn adopt_inline(&self) {
        let mut state = self.lock();
        self.passage.adopt();
        state.tally.published += 1;
        state.running += 1;
    }

    /// Books what `begin_inline` began as past its deadline.
    pub fn expire_inline(&self) {
        let mut state = self.lock();
        self.passage.adopt();
        state.tally.published += 1;
        state.tally.expired += 1;
    }

    /// A consumer comes for its first batch.
    pub fn claim(
        &self,
        max: usize,
        now: impl FnMut() -> i64,
        out: &mut VecDeque<Delivery>,
    ) -> Pulled {
        let mut state = self.lock();
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
        let mut state = self.lock();
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
        let room = state.most_running.saturating_sub(state.running);
        let max = state.intake.limit().min(max).min(room);
        let mut lost = Lost::default();
        while out.len() < max
            && let Some(delivery) = state.backlog.pop(&mut now, self.capacity, &mut lost)
        {
            out.push_back(delivery);
        }
        state.book(lost);
        pulled.some = !out.is_empty();
        state.running += out.len();
        if let Intake::Probing(left) = &mut state.intake {
            *left -= out.len();
        }
        if !pulled.some {
            state.claims -= 1;
        }
        state.admit(self.capacity, &mut pulled.admitted);
        pulled.open_at = state.backlog.arm();
        pulled.notify = state.notify(self.concurrency);
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
        let mut state = self.lock();
        state.delivered(delivered);
        let mut left = Vec::new();
        for delivery in rest {
            state.running -= 1;
            state.intake.give_back();
            match state.ended {
                None => {
                    let lost = state.backlog.put_back(delivery);
                    state.book(lost);
                }
                Some(_) => {
                    state.leaving += 1;
                    left.push(delivery);
                }
            }
        }
        (state.notify(self.concurrency), left)
    }

    /// Reports one delivery as handled.
    pub fn handled(&self, delivery: &Delivery) {
        let mut state = self.lock();
        state.delivered(1);
        state.backlog.pass(delivery);
    }

    /// The handler is done with `delivery`, which is reported with its batch: the next one of its
    /// key may run. The caller comes for it.
    pub fn pass(&self, delivery: &Delivery) {
        self.lock().backlog.pass(delivery);
    }

    /// Hands on the events whose interval is over; returns whether a consumer must be told, and
    /// when this is to be called again.
    pub fn open_due(&self) -> (bool, Option<Instant>) {
        let mut state = self.lock();
        state.backlog.open_due();
        let next = state.backlog.arm();
        (state.notify(self.concurrency), next)
    }

    /// Ends a claim; returns whether another consumer must be told.
    pub fn release(&self) -> bool {
        let mut state = self.lock();
        state.claims -= 1;
        state.notify(self.concurrency)
    }

    /// A delivery goes to wait for its retry, and holds back later events of its key.
    pub fn await_retry(&self, delivery: &Delivery) {
        let mut state = self.lock();
        state.running -= 1;
        state.retrying += 1;
        state.backlog.hold(delivery);
    }

    /// The wait is over; returns whether a consumer must be told, or the delivery, in flight
    /// until `settle_left`, when the mailbox has ended meanwhile.
    pub fn requeue(&self, delivery: Delivery) -> Result<bool, Delivery> {
        let mut state = self.lock();
        state.retrying -= 1;
        if state.ended.is_some() {
            state.leaving += 1;
            return Err(delivery);
        }
        state.backlog.requeue(delivery);
        Ok(state.notify(self.concurrency))
    }

    /// A delivery that failed for good is kept elsewhere.
    pub fn dead_lettered(&self, delivery: &Delivery) {
        let mut state = self.lock();
        state.running -= 1;
        state.tally.dead_lettered += 1;
        state.backlog.pass(delivery);
    }

    /// The deadline of a delivery passed while others of its batch were handled: as if it had not
    /// been handed out. Returns whether a consumer must be told.
    pub fn expired(&self, delivery: &Delivery) -> bool {
        let mut state = self.lock();
        state.running -= 1;
        state.intake.give_back();
        state.tally.expired += 1;
        state.backlog.expire(delivery);
        state.notify(self.concurrency)
    }

    /// A delivery ends without success or failure (its consumer is going away); it is in flight
    /// until `settle_left`.
    pub fn abandoned(&self, delivery: &Delivery) {
        let mut state = self.lock();
        state.running -= 1;
        state.leaving += 1;
        state.backlog.pass(delivery);
    }

    /// Books `count` deliveries that the end of the mailbox overtook, now that what `ending`
    /// means for them has been done.
    pub fn settle_left(&self, ending: Ending, count: usize) {
        let mut state = self.lock();
        state.leaving -= count;
        state.tally.end(ending, count as u64);
    }

    /// Lets deliveries through, or not; returns whether a consumer must be told.
    pub fn set_intake(&self, intake: Intake) -> bool {
        let mut state = self.lock();
        state.intake = intake;
        state.notify(self.concurrency)
    }

    /// Allows another probe for one that told nothing.
    pub fn allow_one_more(&self) -> bool {
        let mut state = self.lock();
        state.intake.give_back();
        state.notify(self.concurrency)
    }

    /// Ends the mailbox, the first time for good. What was queued is returned, in flight until
    /// `settle_left`; tickets in line are refused.
    /// With `heirs`, what stands in line is admitted, and returned as well.
    pub fn close(&self, ending: Ending, heirs: bool) -> Vec<Delivery> {
        let (left, line) = {
            let mut state = self.lock();
            state.ended.get_or_insert(ending);
            self.passage.close();
            let mut left = state.backlog.drain();
            let line = std::mem::take(&mut state.line);
            if heirs {
                left.extend(line.iter().map(|ticket| Delivery::first(ticket.event().clone())));
            } else {
                state.tally.dropped += line.len() as u64;
            }
            line.iter().for_each(|ticket| if heirs { ticket.admit() } else { ticket.refuse() });
            state.leaving += left.len();
            (left, line)
        };
        line.iter().for_each(|ticket| ticket.tell());
        left
    }

    /// Takes what another mailbox had; returned if this one has ended, too. Returns whether a
    /// consumer must be told.
    pub fn adopt(&self, delivery: Delivery) -> Result<bool, Delivery> {
        let mut state = self.lock();
        if state.ended.is_some() {
            return Err(delivery);
        }
        state.tally.published += 1;
        let lost = state.backlog.adopt(delivery);
        state.book(lost);
        Ok(state.notify(self.concurrency))
    }

    /// Takes what was given up on, where there is room, before what is new; returned otherwise.
    /// Returns whether a consumer must be told.
    pub fn readmit(&self, delivery: Delivery) -> Result<bool, Delivery> {
        let has_room = {
            let state = self.lock();
            state.waiting() < self.capacity && state.line.is_empty()
        };
        if has_room { self.adopt(delivery) } else { Err(delivery) }
    }

    /// `count` deliveries that its end overtook are in the books of others now.
    pub fn moved(&self, count: usize) {
        let mut state = self.lock();
        state.leaving -= count;
        state.tally.published -= count as u64;
    }

    /// Whether a new event would be queued, and not held back.
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        state.ended.is_none()
            && state.intake.limit() > 0
            && state.waiting() < self.capacity
            && state.line.is_empty()
    }

    /// Whether a consumer must be told, now that something was settled outside a claim.
    pub fn wake(&self) -> bool {
        let mut state = self.lock();
        state.notify(self.concurrency)
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.lock().ended
    }

    /// The books; `filtered` is kept outside the lock and added by the caller.
    pub fn tally(&self) -> Tally {
        let state = self.lock();
        let mut tally = state.tally;
        tally.in_flight = state.in_flight() as u64;
        self.passage.add_to(&mut tally);
        if self.early {
            let running = state.running as u64 + self.passage.in_flight();
            tally.delivered += running;
            tally.in_flight -= running;
        }
        tally
    }

    /// How many events wait in the queue.
    pub fn depth(&self) -> usize {
        self.lock().waiting()
    }

    /// Whether nothing is queued, running or waiting.
    pub fn is_idle(&self) -> bool {
        self.lock().in_flight() == 0 && self.passage.in_flight() == 0
    }

    /// Whether nothing is queued, running or waiting; if not, `waker` is told when it is.
    pub fn poll_idle(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        self.passage.watch();
        let idle = state.in_flight() == 0 && self.passage.in_flight() == 0;
        if !idle {
            state.idle_wakers.push(waker.clone());
        }
        idle
    }
}

impl State {
    fn waiting(&self) -> usize {
        self.backlog.len()
    }

    fn book(&mut self, lost: Lost) {
        self.tally.conflated += lost.conflated;
        self.tally.dropped += lost.dropped;
        self.tally.expired += lost.expired;
    }

    fn in_flight(&self) -> usize {
        self.waiting()
            + self.running
            + self.retrying
            + self.leaving
            + self.line.len()
            + self.offered
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
            && self.running < self.most_running
            && self.backlog.has_work();
        self.notified |= notify;
        notify
    }

    fn admit(&mut self, capacity: usize, admitted: &mut Vec<Arc<Ticket>>) {
        while self.waiting() < capacity
            && let Some(ticket) = self.line.pop_front()
        {
            self.backlog.push(ticket.event());
            ticket.admit();
            admitted.push(ticket);
        }
    }
}
