//! What waits to be sent: bounded, in order, each event with its time limit.
//!
//! All wait in one queue, or, where what is sent to one place is not to wait for what another
//! takes, in a lane for each place. The bounds are those of all together.

mod item;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

pub use self::item::{Item, Late};
use super::awaited::until;
use super::outcome::Receipt;
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

/// The error of a publisher for whose event there is no room.
pub fn full() -> Error {
    let said = "no more events may wait to be sent to the broker; is it reachable? Await the \
                publish (or call `.wait()` in a thread) to wait for room";
    Error::new(Kind::MailboxFull, "publish", said).with("outcome", "refused")
}

/// The error of a publisher whose event was not sent by the end.
fn ended() -> Error {
    Error::new(Kind::Closed, "publish", "the transport ended before the event was sent")
}

/// Whose turn it is to be sent: all that is in no other lane, or what is in this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane(Option<Arc<str>>);

impl Lane {
    /// What is in no other lane.
    pub const MAIN: Lane = Lane(None);

    /// The lane of this name.
    pub fn named(name: Arc<str>) -> Lane {
        Lane(Some(name))
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.0.as_ref()
    }
}

/// What waits in a lane, and whom to tell of it.
struct Queue<P> {
    waiting: VecDeque<Item<P>>,
    filled: Arc<Notify>,
}

impl<P> Default for Queue<P> {
    fn default() -> Self {
        Queue { waiting: VecDeque::new(), filled: Arc::default() }
    }
}

struct State<P> {
    main: Queue<P>,
    lanes: HashMap<Arc<str>, Queue<P>>,
    /// How many wait in all of them.
    waiting: usize,
    /// How many came.
    came: u64,
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
    /// Something came into the main lane.
    filled: Arc<Notify>,
    /// Nothing is left.
    emptied: Notify,
}

impl<P> State<P> {
    fn queue(&mut self, lane: Option<&Arc<str>>) -> &mut Queue<P> {
        match lane {
            None => &mut self.main,
            // One that was closed meanwhile has nothing, and gets nothing.
            Some(name) => self.lanes.entry(name.clone()).or_default(),
        }
    }

    fn push(&mut self, item: Item<P>) {
        self.waiting += 1;
        match &item.lane {
            None => self.main.waiting.push_back(item),
            Some(name) => match self.lanes.get_mut(name) {
                Some(queue) => queue.waiting.push_back(item),
                None => self.lanes.entry(name.clone()).or_default().waiting.push_back(item),
            },
        }
    }

    /// The one that waited longest.
    fn pop_oldest(&mut self) -> Option<Item<P>> {
        let queues = std::iter::once(&mut self.main).chain(self.lanes.values_mut());
        let first = |queue: &&mut Queue<P>| queue.waiting.front().map_or(u64::MAX, |i| i.number);
        let oldest = queues.min_by_key(first)?.waiting.pop_front();
        self.waiting -= usize::from(oldest.is_some());
        oldest
    }

    /// What waits of what the core tells of itself.
    fn take_ours(&mut self) -> Vec<Item<P>> {
        let queues = std::iter::once(&mut self.main).chain(self.lanes.values_mut());
        let mut ours = Vec::new();
        let mut take = |from: &mut VecDeque<Item<P>>| {
            let (own, others) = std::mem::take(from).into_iter().partition(Item::is_ours);
            *from = others;
            ours.extend::<VecDeque<_>>(own);
            ours.len()
        };
        let mut waited = 0;
        for queue in queues {
            waited = take(&mut queue.waiting);
        }
        take(&mut self.line);
        self.waiting -= waited;
        ours
    }

    fn is_empty(&self) -> bool {
        self.waiting == 0 && self.line.is_empty() && self.sending == 0
    }
}

impl<P> Outbox<P> {
    /// An empty one.
    pub fn new(bounds: Bounds, clock: Clock) -> Outbox<P> {
        let main = Queue::default();
        let filled = main.filled.clone();
        let state = State {
            main,
            lanes: HashMap::new(),
            waiting: 0,
            came: 0,
            line: VecDeque::new(),
            sending: 0,
            closed: false,
        };
        Outbox { state: Mutex::new(state), bounds, clock, filled, emptied: Notify::new() }
    }

    /// Puts an event at the end.
    ///
    /// # Errors
    /// `Kind::Closed` after the end, `Kind::MailboxFull` where there is no room and that is an
    /// error.
    pub fn put(&self, event: Arc<Event>, place: P) -> Result<Receipt> {
        self.put_into(event, place, None, || {})
    }

    /// Puts an event at the end of a lane. If there was no such lane, `opened` is called: whoever
    /// sends what is in it has to begin.
    ///
    /// # Errors
    /// As [`Outbox::put`].
    pub fn put_in_lane(
        &self,
        event: Arc<Event>,
        place: P,
        lane: Arc<str>,
        opened: impl FnOnce(),
    ) -> Result<Receipt> {
        self.put_into(event, place, Some(lane), opened)
    }

    fn put_into(
        &self,
        event: Arc<Event>,
        place: P,
        lane: Option<Arc<str>>,
        opened: impl FnOnce(),
    ) -> Result<Receipt> {
        let (pending, receipt) = Receipt::new();
        let until = self.until(&event);
        let mut item =
            Item { event, place, unanswered: false, sends: 0, lane, number: 0, until, pending };
        let mut state = self.state.lock();
        if state.closed {
            let said = "the transport is closed";
            return Err(Error::new(Kind::Closed, "publish", said).with("outcome", "refused"));
        }
        // Whoever tries again and again without waiting leaves nothing behind.
        while state.line.back().is_some_and(|last| last.pending.has_left()) {
            state.line.pop_back();
        }
        (item.number, state.came) = (state.came, state.came + 1);
        let (mut is_new, mut dropped) = (false, None);
        let filled = match &item.lane {
            None => None,
            Some(name) => {
                is_new = !state.lanes.contains_key(name);
                Some(state.queue(Some(name)).filled.clone())
            }
        };
        if state.waiting + state.sending < self.bounds.most && state.line.is_empty() {
            state.push(item);
        } else {
            match self.bounds.full {
                Full::Block => {
                    item.pending.set_in_line(true);
                    state.line.push_back(item);
                }
                Full::Fail => {
                    if let (Some(name), true) = (&item.lane, is_new) {
                        state.lanes.remove(name);
                    }
                    return Err(full().with("event_id", item.event.id.to_string()));
                }
                Full::DropOldest => {
                    dropped = state.pop_oldest();
                    state.push(item);
                }
            }
        }
        drop(state);
        if let Some(dropped) = dropped {
            dropped.failed(full());
        }
        if is_new {
            opened();
        }
        filled.as_ref().unwrap_or(&self.filled).notify_one();
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

    /// Whether nobody is to wait for an event that could not be sent: it ends, and it is one that
    /// the core tells of itself.
    pub fn lets_go(&self, item: &Item<P>) -> bool {
        item.is_ours() && self.state.lock().closed
    }

    /// How many events are not sent yet.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.waiting + state.line.len() + state.sending
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes nothing new. Where the broker `is_away`, what the core tells of itself is let go:
    /// nobody is to wait for that.
    pub fn close(&self, is_away: bool) {
        let mut state = self.state.lock();
        state.closed = true;
        let ours = if is_away { state.take_ours() } else { Vec::new() };
        let empty = state.is_empty();
        drop(state);
        ours.into_iter().for_each(|item| item.failed(ended()));
        if empty {
            self.emptied.notify_waiters();
        }
    }

    /// Resolves when all is sent.
    pub async fn empty(&self) {
        until(&self.emptied, || self.is_empty()).await;
    }

    /// Whoever still waits is told that it was not sent.
    pub fn give_up(&self) {
        let error = ended();
        let lanes: Vec<_> = self.state.lock().lanes.keys().cloned().collect();
        for lane in lanes {
            self.refuse(&Lane::named(lane), &error);
        }
        self.refuse(&Lane::MAIN, &error);
    }

    /// Nothing that waits for `lane` will be sent, because of `error`.
    pub fn refuse(&self, lane: &Lane, error: &Error) {
        let mut state = self.state.lock();
        let mut over = std::mem::take(&mut state.queue(lane.name()).waiting);
        state.waiting -= over.len();
        let own = |item: &Item<P>| item.lane == lane.0;
        let (line, others) = std::mem::take(&mut state.line).into_iter().partition(own);
        state.line = others;
        self.admit(&mut state);
        drop(state);
        let line: VecDeque<_> = line;
        over.extend(line);
        for item in over {
            item.failed(error.again());
        }
        if self.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Resolves when something waits in a lane.
    pub async fn filled(&self, lane: &Lane) {
        let filled = self.teller(lane);
        loop {
            let notified = filled.notified();
            {
                let mut state = self.state.lock();
                self.admit(&mut state);
                if !state.queue(lane.name()).waiting.is_empty() {
                    return;
                }
            }
            notified.await;
        }
    }

    /// The next events of a lane, at most `most`; waits until there is one.
    pub async fn next(&self, lane: &Lane, most: usize) -> Vec<Item<P>> {
        let filled = self.teller(lane);
        loop {
            let notified = filled.notified();
            if let Some(items) = self.take(lane, most) {
                return items;
            }
            notified.await;
        }
    }

    /// Who tells that something came into a lane.
    fn teller(&self, lane: &Lane) -> Arc<Notify> {
        match lane.name() {
            None => self.filled.clone(),
            name => self.state.lock().queue(name).filled.clone(),
        }
    }

    fn take(&self, lane: &Lane, most: usize) -> Option<Vec<Item<P>>> {
        let mut state = self.state.lock();
        self.admit(&mut state);
        let queue = state.queue(lane.name());
        let count = most.min(queue.waiting.len());
        if count == 0 {
            return None;
        }
        let items = queue.waiting.drain(..count).collect();
        state.waiting -= count;
        state.sending += count;
        Some(items)
    }

    /// Lets those in line in, as far as there is room.
    fn admit(&self, state: &mut State<P>) {
        while state.waiting + state.sending < self.bounds.most
            && let Some(item) = state.line.pop_front()
        {
            if !item.pending.has_left() {
                item.pending.set_in_line(false);
                if let Some(name) = &item.lane {
                    state.queue(Some(name)).filled.notify_one(); // another one may be asking
                }
                state.push(item);
            }
        }
    }

    /// Tells the publishers of those in a lane, or in line, whose time is over; they are not sent
    /// any more, and returned.
    pub fn expire(&self, lane: &Lane, now: Instant, why: Late<'_>) -> Vec<Item<P>> {
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
        let mut over = late(&mut state.queue(lane.name()).waiting);
        state.waiting -= over.len();
        over.extend(late(&mut state.line));
        self.admit(&mut state);
        let empty = state.is_empty();
        drop(state);
        for item in &over {
            item.expire(now, why);
        }
        if empty {
            self.emptied.notify_waiters();
        }
        over
    }

    /// Those that were being sent are to be sent again, in this order and before all others of
    /// their lane.
    pub fn put_back(&self, lane: &Lane, items: Vec<Item<P>>) {
        let mut state = self.state.lock();
        state.sending -= items.len();
        state.waiting += items.len();
        let queue = state.queue(lane.name());
        for item in items.into_iter().rev() {
            queue.waiting.push_front(item);
        }
        let filled = queue.filled.clone();
        let ours = if state.closed { state.take_ours() } else { Vec::new() };
        let empty = state.is_empty();
        drop(state);
        ours.into_iter().for_each(|item| item.failed(ended()));
        filled.notify_one();
        if empty {
            self.emptied.notify_waiters();
        }
    }

    /// So many of those that were being sent are settled.
    pub fn settled(&self, count: usize) {
        let mut state = self.state.lock();
        state.sending -= count;
        self.admit(&mut state);
        let empty = state.is_empty();
        drop(state);
        if empty {
            self.emptied.notify_waiters();
        }
    }

    /// Ends a lane in which nothing waits; whether it did. Whoever sends what is in it has to go
    /// then: with the next event it is opened again.
    pub fn end_lane(&self, lane: &Lane) -> bool {
        let Some(name) = lane.name() else { return false };
        let mut state = self.state.lock();
        let waits = |item: &Item<P>| item.lane.as_ref() == Some(name);
        let idle = state.lanes.get(name).is_none_or(|queue| queue.waiting.is_empty())
            && !state.line.iter().any(waits);
        if idle {
            state.lanes.remove(name);
        }
        idle
    }
}

impl<P> fmt::Debug for Outbox<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
