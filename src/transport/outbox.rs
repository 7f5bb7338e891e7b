//! What waits to be sent: bounded, in order, each event with its time limit.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::outcome::{Outcome, Pending, Receipt};
use crate::clock::{Clock, Instant};
use crate::error::{Error, Kind, Result};
use crate::event::Event;

/// What happens to events for which the outbox has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Full {
    /// Their publishers wait.
    #[default]
    Block,
    /// Their publishers get an error.
    Fail,
    /// The event that waited longest is refused instead.
    DropOldest,
}

/// How much waits at most, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many events.
    pub most: usize,
    /// How long until its publisher is told that an event could not be sent.
    pub limit: Duration,
    /// What happens when there is no room.
    pub full: Full,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { most: 10_000, limit: Duration::from_secs(30), full: Full::Block }
    }
}

/// However soon an event loses its worth, a broker that answers gets it: its readers count it as
/// expired.
const SHORTEST: Duration = Duration::from_millis(100);

/// Why an event could not be sent in time.
#[derive(Clone, Copy, Debug)]
pub struct Late<'a> {
    /// What its publisher gets.
    pub kind: Kind,
    /// What is the matter with the broker, if that is known.
    pub trouble: Option<&'a str>,
}

impl<'a> Late<'a> {
    /// The broker does not answer.
    pub fn without_answer(trouble: Option<&'a str>) -> Late<'a> {
        Late { kind: Kind::Dependency, trouble }
    }
}

/// An event on its way to the place `P`.
pub struct Item<P> {
    /// The event.
    pub event: Arc<Event>,
    /// Where it goes.
    pub place: P,
    /// Whether it went out over a connection that was lost before the answer came.
    pub unanswered: bool,
    /// How often it went out.
    pub sends: u32,
    until: Instant,
    pending: Pending,
}

impl<P> Item<P> {
    /// The broker has it.
    pub fn accepted(self) {
        self.pending.settle(Ok(()));
    }

    /// It will not be tried again; `error` is why.
    pub fn failed(self, error: Error) {
        self.fail(error);
    }

    fn fail(&self, error: Error) {
        let outcome = if self.unanswered { Outcome::Unknown } else { Outcome::Refused };
        let over = matches!(error.kind(), Kind::Dependency | Kind::Closed);
        let kind = if self.unanswered && over { Kind::OutcomeUnknown } else { error.kind() };
        let id = self.event.id.to_string();
        let error = Error::new(kind, "publish", error.message())
            .with("outcome", outcome.as_str())
            .with("event_id", id);
        self.pending.settle(Err(error));
    }

    /// Whether its time is over at `now`, or its publisher has heard so already.
    pub fn is_late(&self, now: Instant) -> bool {
        now >= self.until || self.pending.is_settled()
    }

    /// Whether its time is over at `now`, and its publisher has not heard so.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.until && !self.pending.is_settled()
    }

    /// Tells the publisher that its time is over, if it is; whether it is.
    pub fn expire(&self, now: Instant, why: Late<'_>) -> bool {
        if now < self.until {
            return false;
        }
        if !self.pending.is_settled() {
            let trouble = why.trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
            let said = format!("the broker did not take the event in time{trouble}");
            self.fail(Error::new(why.kind, "publish", said));
        }
        true
    }
}

/// The error of a publisher for whose event there is no room.
pub fn full() -> Error {
    let said = "no more events may wait to be sent to the broker; is it reachable? Await the \
                publish (or call `.wait()` in a thread) to wait for room";
    Error::new(Kind::MailboxFull, "publish", said).with("outcome", "refused")
}

struct State<P> {
    waiting: VecDeque<Item<P>>,
    /// Those for which there is no room, while their publishers wait.
    line: VecDeque<Item<P>>,
    /// How many are being sent.
    sending: usize,
    closed: bool,
}

/// Events that wait to be sent.
pub struct Outbox<P> {
    state: Mutex<State<P>>,
    bounds: Bounds,
    clock: Clock,
    /// Something came.
    filled: Notify,
    /// Nothing is left.
    emptied: Notify,
}

impl<P> Outbox<P> {
    /// An empty one.
    pub fn new(bounds: Bounds, clock: Clock) -> Outbox<P> {
        let state =
            State { waiting: VecDeque::new(), line: VecDeque::new(), sending: 0, closed: false };
        Outbox {
            state: Mutex::new(state),
            bounds,
            clock,
            filled: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// Puts an event at the end.
    ///
    /// # Errors
    /// `Kind::Closed` after the end, `Kind::MailboxFull` where there is no room and that is an
    /// error.
    pub fn put(&self, event: Arc<Event>, place: P) -> Result<Receipt> {
        let (pending, receipt) = Receipt::new();
        let until = self.until(&event);
        let item = Item { event, place, unanswered: false, sends: 0, until, pending };
        let mut state = self.state.lock();
        if state.closed {
            let said = "the transport is closed";
            return Err(Error::new(Kind::Closed, "publish", said).with("outcome", "refused"));
        }
        // Whoever tries again and again without waiting leaves nothing behind.
        while state.line.back().is_some_and(|last| last.pending.has_left()) {
            state.line.pop_back();
        }
        let mut dropped = None;
        if state.waiting.len() + state.sending < self.bounds.most && state.line.is_empty() {
            state.waiting.push_back(item);
        } else {
            match self.bounds.full {
                Full::Block => {
                    item.pending.set_in_line(true);
                    state.line.push_back(item);
                }
                Full::Fail => {
                    return Err(full().with("event_id", item.event.id.to_string()));
                }
                Full::DropOldest => {
                    dropped = state.waiting.pop_front();
                    state.waiting.push_back(item);
                }
            }
        }
        drop(state);
        if let Some(dropped) = dropped {
            dropped.failed(full());
        }
        self.filled.notify_one();
        Ok(receipt)
    }

    fn until(&self, event: &Event) -> Instant {
        let left = event.deadline().map(|deadline| deadline.saturating_sub(self.clock.unix_ms()));
        let limit = match left.and_then(|left| u64::try_from(left).ok()) {
            Some(left) if left > 0 => {
                self.bounds.limit.min(Duration::from_millis(left).max(SHORTEST))
            }
            // What is too late when it comes goes on: its readers count it as expired.
            _ => self.bounds.limit,
        };
        self.clock.now().saturating_add(limit)
    }

    /// How many events are not sent yet.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.waiting.len() + state.line.len() + state.sending
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes nothing new.
    pub fn close(&self) {
        self.state.lock().closed = true;
    }

    /// Resolves when all is sent.
    pub async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Whoever still waits is told that it was not sent.
    pub fn give_up(&self) {
        let said = "the transport ended before the event was sent";
        self.refuse(&Error::new(Kind::Closed, "publish", said));
    }

    /// Nothing that waits will be sent, because of `error`.
    pub fn refuse(&self, error: &Error) {
        let mut state = self.state.lock();
        let waiting = std::mem::take(&mut state.waiting);
        let line = std::mem::take(&mut state.line);
        drop(state);
        for item in waiting.into_iter().chain(line) {
            item.failed(error.again());
        }
        if self.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Resolves when something waits.
    pub async fn filled(&self) {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.state.lock();
                self.admit(&mut state);
                if !state.waiting.is_empty() {
                    return;
                }
            }
            filled.await;
        }
    }

    /// The next events, at most `most`; waits until there is one.
    pub async fn next(&self, most: usize) -> Vec<Item<P>> {
        loop {
            let filled = self.filled.notified();
            if let Some(items) = self.take(most) {
                return items;
            }
            filled.await;
        }
    }

    fn take(&self, most: usize) -> Option<Vec<Item<P>>> {
        let mut state = self.state.lock();
        self.admit(&mut state);
        let count = most.min(state.waiting.len());
        if count == 0 {
            return None;
        }
        state.sending += count;
        let items = state.waiting.drain(..count).collect();
        Some(items)
    }

    /// Lets those in line in, as far as there is room.
    fn admit(&self, state: &mut State<P>) {
        while state.waiting.len() + state.sending < self.bounds.most
            && let Some(item) = state.line.pop_front()
        {
            if !item.pending.has_left() {
                item.pending.set_in_line(false);
                state.waiting.push_back(item);
            }
        }
    }

    /// Tells the publishers of those whose time is over; they are not sent any more, and returned.
    pub fn expire(&self, now: Instant, why: Late<'_>) -> Vec<Item<P>> {
        let mut state = self.state.lock();
        let late = |items: &mut VecDeque<Item<P>>| -> Vec<Item<P>> {
            if !items.iter().any(|item| item.is_late(now)) {
                return Vec::new();
            }
            let (late, kept): (Vec<_>, Vec<_>) =
                std::mem::take(items).into_iter().partition(|item| item.is_late(now));
            *items = kept.into();
            late
        };
        let mut over = late(&mut state.waiting);
        over.extend(late(&mut state.line));
        self.admit(&mut state);
        let empty = state.waiting.is_empty() && state.line.is_empty() && state.sending == 0;
        drop(state);
        for item in &over {
            item.expire(now, why);
        }
        if empty {
            self.emptied.notify_waiters();
        }
        over
    }

    /// Those that were being sent are to be sent again, in this order and before all others.
    pub fn put_back(&self, items: Vec<Item<P>>) {
        let mut state = self.state.lock();
        state.sending -= items.len();
        for item in items.into_iter().rev() {
            state.waiting.push_front(item);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// So many of those that were being sent are settled.
    pub fn settled(&self, count: usize) {
        let mut state = self.state.lock();
        state.sending -= count;
        self.admit(&mut state);
        let empty = state.waiting.is_empty() && state.line.is_empty() && state.sending == 0;
        drop(state);
        if empty {
            self.emptied.notify_waiters();
        }
    }
}

impl<P> fmt::Debug for Item<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item({})", self.event)
    }
}

impl<P> fmt::Debug for Outbox<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.len()).finish_non_exhaustive()
    }
}
