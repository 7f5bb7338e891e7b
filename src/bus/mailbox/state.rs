//! What a mailbox knows, and the lock around it.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::task::Waker;

use super::super::backlog::{Backlog, Lost};
use super::super::intake::Intake;
use super::super::lanes::Delivery;
use super::super::passage::Passage;
use super::super::tally::{Ending, Tally};
use super::super::ticket::Ticket;
use super::super::waits::Waits;
use crate::sync::MutexGuard;

#[derive(Debug)]
pub(super) struct State {
    pub backlog: Backlog,
    pub retrying: usize,
    pub running: usize,
    /// How many may be under way at once: what nobody decides on must not grow without bound.
    pub most_running: usize,
    /// Deliveries that its end overtook, until `settle_left` books them.
    pub leaving: usize,
    /// How many of those delivered were no success: their failure was the answer, or was made up
    /// for.
    pub forgiven: u64,
    pub claims: usize,
    pub notified: bool,
    pub intake: Intake,
    /// While its component has failed, nothing is handed out.
    pub suspended: bool,
    /// What had been handed out by then and was not begun, in order.
    pub aside: Vec<Delivery>,
    pub ended: Option<Ending>,
    /// Events that found no room, while their publisher decides what to do.
    pub offered: usize,
    pub line: VecDeque<Arc<Ticket>>,
    pub idle_wakers: Vec<Waker>,
    /// To be called when nothing waits for a breaker any more, or has and is not settled.
    pub calm: Option<Calm>,
    pub tally: Tally,
    pub waits: Waits,
}

/// What is to be called once the lock is released.
pub(super) struct Calm(pub Box<dyn FnOnce() + Send>);

impl fmt::Debug for Calm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calm")
    }
}

/// The state under its lock. Whoever leaves the mailbox idle wakes those who wait for that, once
/// the lock is released: what waking runs is not ours.
pub(super) struct Locked<'a> {
    passage: &'a Passage,
    state: MutexGuard<'a, State>,
    woken: Option<Box<Woken>>, // after the guard: fields are dropped in this order
}

impl<'a> Locked<'a> {
    pub fn new(passage: &'a Passage, state: MutexGuard<'a, State>) -> Locked<'a> {
        Locked { passage, state, woken: None }
    }

    /// Somebody waits for something: looks whether it has come.
    #[cold]
    fn wake(&mut self) {
        let mut woken = Woken::default();
        if !self.state.idle_wakers.is_empty()
            && self.state.is_idle()
            && self.passage.in_flight() == 0
        {
            woken.0 = std::mem::take(&mut self.state.idle_wakers);
        }
        if self.state.calm.is_some() && !self.state.backlog.waits() {
            woken.1 = self.state.calm.take();
        }
        self.woken = Some(Box::new(woken));
    }
}

#[derive(Default)]
struct Woken(Vec<Waker>, Option<Calm>);

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.state.idle_wakers.is_empty() || self.state.calm.is_some() {
            self.wake();
        }
    }
}

impl Drop for Woken {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
        if let Some(calm) = self.1.take() {
            (calm.0)();
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

impl State {
    pub fn new(backlog: Backlog) -> State {
        State {
            backlog,
            retrying: 0,
            calm: None,
            running: 0,
            most_running: usize::MAX,
            leaving: 0,
            forgiven: 0,
            claims: 0,
            notified: false,
            intake: Intake::Free,
            suspended: false,
            aside: Vec::new(),
            ended: None,
            offered: 0,
            line: VecDeque::new(),
            idle_wakers: Vec::new(),
            tally: Tally::default(),
            waits: Waits::default(),
        }
    }

    pub fn waiting(&self) -> usize {
        self.backlog.len() + self.aside.len()
    }

    /// How many deliveries may be handed out.
    pub fn limit(&self) -> usize {
        if self.suspended { 0 } else { self.intake.limit() }
    }

    /// What was set aside is the first to be handed out again.
    pub fn take_aside(&mut self) {
        while let Some(delivery) = self.aside.pop() {
            let lost = self.backlog.put_back(delivery);
            self.book(lost);
        }
    }

    pub fn book(&mut self, lost: Lost) {
        self.tally.conflated += lost.conflated;
        self.tally.dropped += lost.dropped;
        self.tally.expired += lost.expired;
    }

    pub fn in_flight(&self) -> usize {
        self.waiting()
            + self.running
            + self.retrying
            + self.leaving
            + self.line.len()
            + self.offered
    }

    /// Whether there is nothing to come to an end: what is suspended waits for somebody else.
    pub fn is_idle(&self) -> bool {
        self.in_flight() == 0 || (self.suspended && self.running + self.leaving == 0)
    }

    pub fn delivered(&mut self, count: usize) {
        self.running -= count;
        self.tally.delivered += count as u64;
    }

    pub fn end_claim(&mut self) {
        self.claims -= 1;
        if self.claims == 0 {
            self.waits.none_in_hand();
        }
    }

    /// Whether a consumer must be told that there is work.
    pub fn notify(&mut self, concurrency: usize) -> bool {
        let notify = !self.notified
            && self.limit() > 0
            && self.claims < concurrency
            && self.running < self.most_running
            && self.backlog.has_work();
        self.notified |= notify;
        notify
    }

    pub fn admit(&mut self, capacity: usize, admitted: &mut Vec<Arc<Ticket>>) {
        while self.waiting() < capacity
            && let Some(ticket) = self.line.pop_front()
        {
            self.backlog.push(ticket.event());
            ticket.admit();
            admitted.push(ticket);
        }
    }
}
