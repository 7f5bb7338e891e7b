//! One bounded mailbox per subscription: priority lanes, back-pressure, and the books.
//!
//! Nothing here knows how handlers run. A consumer *claims* the mailbox, pulls batches, and
//! reports what became of each delivery. `claims` bounds how many consumers work at once (the
//! subscription's concurrency); `notified` says that a consumer was told and has not come yet,
//! so that a burst of events costs one wake-up.
//!
//! Here is its front: what publishers and consumers come for. What became of deliveries is in
//! `settling`, its end in `ending`, how long it lets events wait in `looking`, and what it knows,
//! under its lock, in `state`.

mod ending;
mod looking;
mod settling;
mod state;
mod suspended;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use self::state::{Locked, State};
use super::ack::Ack;
use super::backlog::{Backlog, Lost};
use super::intake::Intake;
use super::lanes::Delivery;
use super::overflow::Overflow;
use super::passage::Passage;
use super::tally::Tally;
use super::ticket::Ticket;
use crate::clock::Instant;
use crate::event::Event;
use crate::sync::Mutex;

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

/// What events touch that pass it by comes first: see [`Subscription`].
///
/// [`Subscription`]: super::subscription::Subscription
#[derive(Debug)]
#[repr(C)]
pub(super) struct Mailbox {
    passage: Passage,
    state: Mutex<State>,
    capacity: usize,
    overflow: Overflow,
    concurrency: usize,
    /// Whether what is under way counts as delivered.
    early: bool,
}

impl Mailbox {
    pub fn new(capacity: usize, overflow: Overflow, concurrency: usize, backlog: Backlog) -> Self {
        Mailbox {
            state: Mutex::new(State::new(backlog)),
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
        Locked::new(&self.passage, self.state.lock())
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
                event.settle();
                Offer::Dropped { notify: false }
            }
            Overflow::DropOldest => {
                state.tally.dropped += 1;
                // With a capacity taken up by what a retry holds back there may be none.
                if state.backlog.drop_oldest() {
                    state.backlog.push(event);
                } else {
                    event.settle();
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

    /// A consumer comes for its first batch.
    pub fn claim(
        &self,
        max: usize,
        now: impl FnMut() -> i64,
        out: &mut VecDeque<Delivery>,
    ) -> Pulled {
        let mut state = self.lock();
        state.notified = false;
        if state.claims >= self.concurrency || state.limit() == 0 {
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
        if state.claims == 1 {
            state.waits.none_in_hand();
        }
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
        let max = state.limit().min(max).min(room);
        let mut lost = Lost::default();
        let first = state.backlog.first_since();
        while out.len() < max
            && let Some(delivery) = state.backlog.pop(&mut now, self.capacity, &mut lost)
        {
            let alone = delivery.probes.is_some(); // what it makes way for comes before the rest
            out.push_back(delivery);
            if alone {
                break;
            }
        }
        state.book(lost);
        state.waits.handed_out(first, state.claims, out, &mut now);
        pulled.some = !out.is_empty();
        state.running += out.len();
        if let Intake::Probing(left) = &mut state.intake {
            *left -= out.len();
        }
        if !pulled.some {
            state.end_claim();
        }
        state.admit(self.capacity, &mut pulled.admitted);
        pulled.open_at = state.backlog.arm();
        pulled.notify = state.notify(self.concurrency);
        pulled
    }

    /// Whether a new event would be queued, and not held back.
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        state.ended.is_none()
            && state.limit() > 0
            && state.waiting() < self.capacity
            && state.line.is_empty()
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

    /// Whether nothing is queued, running or waiting; what is suspended waits for others.
    pub fn is_idle(&self) -> bool {
        self.lock().is_idle() && self.passage.in_flight() == 0
    }

    /// Whether nothing is queued, running or waiting; if not, `waker` is told when it is.
    pub fn poll_idle(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        self.passage.watch();
        let idle = state.is_idle() && self.passage.in_flight() == 0;
        if !idle {
            state.idle_wakers.push(waker.clone());
        }
        idle
    }
}
