//! What one queue has given to this process: what is at work, what is to be acknowledged, and what
//! was handled lately.
//!
//! A message belongs to the channel that it came over. When that is lost, the broker gives all
//! that was not acknowledged to somebody, perhaps to us again: then what is still at work here is
//! only tied to its new delivery, and what was handled meanwhile is acknowledged at once. It
//! outlives the readers of the queue.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::desk::Aside;
use crate::clock::{Clock, Instant};
use crate::event::{Id, Lease, Letter};
use crate::transport::awaited::until;
use crate::transport::seen::Window;

/// A delivery: over which channel, and which one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub session: u64,
    pub number: u64,
}

struct Held {
    /// None where copies are not looked for.
    id: Option<Id>,
    tag: Tag,
    /// Whether its end is known here: it only has to be put aside.
    ended: bool,
}

#[derive(Default)]
struct State {
    /// Counts the channels.
    session: u64,
    /// Counts what was held.
    last: u64,
    held: HashMap<u64, Held>,
    by_id: HashMap<Id, u64>,
    handled: HashSet<Id>,
    /// The same ids, the oldest first.
    order: VecDeque<(Instant, Id)>,
    /// The channels that are there: most often one, and another one while its reader leaves.
    channels: BTreeMap<u64, Open>,
    asides: VecDeque<(u64, Aside)>,
    /// The one of them that somebody puts aside just now.
    putting: Option<u64>,
}

/// What came over one channel and is not acknowledged.
#[derive(Default)]
struct Open {
    all: BTreeSet<u64>,
    /// Of these, what is to be acknowledged, and what is to be given back.
    done: Vec<u64>,
    back: Vec<u64>,
}

/// What a queue has given to this process.
pub(super) struct Holding {
    state: Mutex<State>,
    /// There is something to acknowledge.
    pub changed: Notify,
    /// There is something to give back.
    pub released: Notify,
    /// There is something to put aside.
    pub given_up: Notify,
    /// The broker is told of something.
    told: Notify,
    window: Option<Window>,
    clock: Clock,
    duplicates: AtomicU64,
}

/// What a message turned out to be.
#[derive(Debug)]
pub(super) enum Taken {
    /// One to be handled.
    New(Arc<One>),
    /// One that is at work here already, or was handled.
    Known,
}

/// What the broker is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// All that is open up to this one is handled.
    pub up_to: Option<u64>,
    /// These are handled.
    pub single: Vec<u64>,
}

impl Holding {
    /// Remembers what was handled for as long as `window` says.
    pub fn new(window: Option<Window>, clock: Clock) -> Holding {
        Holding {
            state: Mutex::default(),
            changed: Notify::new(),
            released: Notify::new(),
            given_up: Notify::new(),
            told: Notify::new(),
            window,
            clock,
            duplicates: AtomicU64::new(0),
        }
    }

    /// How many copies were found.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    /// There is a new channel, as long as what this returns is held.
    pub fn begin(self: &Arc<Self>) -> Session {
        let mut state = self.state.lock();
        state.session += 1;
        let number = state.session;
        state.channels.insert(number, Open::default());
        Session { number, of: self.clone() }
    }

    /// Takes on a message that is the event `id`.
    pub fn take(self: &Arc<Self>, id: &Id, tag: Tag) -> Taken {
        let now = self.clock.now();
        let mut state = self.state.lock();
        if !state.open(tag) {
            return Taken::Known;
        }
        if let Some(window) = self.window {
            state.forget(now, window);
            if let Some(serial) = state.by_id.get(id).copied()
                && let Some(held) = state.held.get_mut(&serial)
            {
                let copy = held.tag.session == tag.session;
                if copy {
                    state.done(tag);
                } else {
                    held.tag = tag;
                }
                drop(state);
                if copy {
                    self.copy();
                }
                return Taken::Known;
            }
            if state.handled.contains(id) {
                state.done(tag);
                drop(state);
                self.copy();
                return Taken::Known;
            }
        }
        let id = self.window.is_some().then(|| id.clone());
        let serial = state.hold(id, tag, false);
        drop(state);
        Taken::New(Arc::new(One { serial, of: self.clone(), over: AtomicBool::new(false) }))
    }

    /// Takes on a message that is no event.
    pub fn take_foreign(&self, tag: Tag, aside: Aside) {
        let mut state = self.state.lock();
        if !state.open(tag) {
            return;
        }
        let serial = state.hold(None, tag, true);
        state.asides.push_back((serial, aside));
        drop(state);
        self.given_up.notify_waiters();
    }

    fn copy(&self) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// It was handled.
    fn settle(&self, serial: u64) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let Some(held) = state.let_go(serial) else { return };
        state.done(held.tag);
        if let Some(id) = held.id
            && state.handled.insert(id.clone())
        {
            state.order.push_back((now, id));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Nobody is at work on it any more.
    fn release(&self, serial: u64) {
        let mut state = self.state.lock();
        let Some(held) = state.let_go(serial) else { return };
        if let Some(open) = state.channels.get_mut(&held.tag.session) {
            open.back.push(held.tag.number);
        }
        drop(state);
        self.released.notify_waiters();
        self.told.notify_waiters();
    }

    /// It was given up.
    fn bury(&self, serial: u64, letter: Letter) {
        let mut state = self.state.lock();
        let Some(held) = state.held.get_mut(&serial) else { return };
        held.ended = true;
        state.asides.push_back((serial, Aside::Letter(letter)));
        drop(state);
        self.given_up.notify_waiters();
    }

    /// The first that is to be put aside, for one at a time who does; it stays until that has
    /// [put it aside](Putting::done).
    pub fn to_put_aside(self: &Arc<Self>) -> Option<Putting> {
        let mut state = self.state.lock();
        if state.putting.is_some() {
            return None; // whoever does so goes on with the rest
        }
        // What is no event comes again, under another number.
        let State { asides, held, channels, .. } = &mut *state;
        let stays = |held: &Held| held.id.is_some() || channels.contains_key(&held.tag.session);
        asides.retain(|(serial, _)| held.get(serial).is_some_and(stays));
        held.retain(|_, held| !held.ended || stays(held));
        let (serial, aside) = state.asides.front().cloned()?;
        state.putting = Some(serial);
        Some(Putting { aside, serial, of: self.clone() })
    }

    /// Whether nothing that came over this channel is at work, or to be acknowledged.
    pub fn is_idle(&self, session: u64) -> bool {
        let state = self.state.lock();
        let told = state.channels.get(&session).is_none_or(|open| open.done.is_empty());
        told && state.held.values().all(|held| held.tag.session != session)
    }

    /// Whether nothing that came over this channel is at work.
    pub fn is_handled(&self, session: u64) -> bool {
        self.state.lock().held.values().all(|held| held.tag.session != session)
    }

    /// Resolves when nothing is, and the broker is told so.
    pub async fn all_told(&self, session: u64) {
        until(&self.told, || self.is_idle(session)).await;
    }

    /// Resolves when something that was at work when this was called is not, or is to be put aside.
    pub fn something_ended(&self) -> impl Future<Output = ()> {
        let changed = self.changed.notified();
        let released = self.released.notified();
        let given_up = self.given_up.notified();
        async move {
            tokio::select! {
                () = changed => {}
                () = released => {}
                () = given_up => {}
            }
        }
    }

    /// Whether there is something to give back over this channel.
    pub fn has_released(&self, session: u64) -> bool {
        let state = self.state.lock();
        state.channels.get(&session).is_some_and(|open| !open.back.is_empty())
    }

    /// What is to be given to somebody else now. Whoever asks tells the broker at once: after that
    /// it does not count as open any more.
    pub fn give_back(&self, session: u64) -> Vec<u64> {
        let mut state = self.state.lock();
        let Some(open) = state.channels.get_mut(&session) else { return Vec::new() };
        let back = std::mem::take(&mut open.back);
        for number in &back {
            open.all.remove(number);
        }
        back
    }

    /// What the broker is to be told now over this channel.
    pub fn tell(&self, session: u64) -> Told {
        let mut state = self.state.lock();
        let Some(open) = state.channels.get_mut(&session) else { return Told::default() };
        let mut done = std::mem::take(&mut open.done);
        for number in &done {
            open.all.remove(number);
        }
        let first_open = open.all.first().copied().unwrap_or(u64::MAX);
        drop(state);
        self.told.notify_waiters();
        done.sort_unstable();
        let single = done.split_off(done.partition_point(|number| *number < first_open));
        Told { up_to: done.last().copied(), single }
    }
}

/// A channel that is there. After it, what came over it cannot be acknowledged any more.
pub(super) struct Session {
    pub number: u64,
    of: Arc<Holding>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.of.state.lock().channels.remove(&self.number);
    }
}

/// Something that is being put aside, by one at a time.
pub(super) struct Putting {
    pub aside: Aside,
    serial: u64,
    of: Arc<Holding>,
}

impl Putting {
    /// It is put aside, and may be acknowledged.
    pub fn done(self) {
        self.of.state.lock().asides.retain(|(other, _)| *other != self.serial);
        self.of.settle(self.serial);
    }
}

impl Drop for Putting {
    fn drop(&mut self) {
        self.of.state.lock().putting = None;
        self.of.given_up.notify_waiters(); // somebody else may have come meanwhile
    }
}

impl State {
    /// Whether it came over a channel that is there: over an earlier one, it comes again.
    fn open(&mut self, tag: Tag) -> bool {
        let channel = self.channels.get_mut(&tag.session);
        channel.is_some_and(|open| open.all.insert(tag.number))
    }

    /// It is to be acknowledged, if that can be.
    fn done(&mut self, tag: Tag) {
        if let Some(open) = self.channels.get_mut(&tag.session) {
            open.done.push(tag.number);
        }
    }

    fn hold(&mut self, id: Option<Id>, tag: Tag, ended: bool) -> u64 {
        self.last += 1;
        if let Some(id) = &id {
            self.by_id.insert(id.clone(), self.last);
        }
        self.held.insert(self.last, Held { id, tag, ended });
        self.last
    }

    fn let_go(&mut self, serial: u64) -> Option<Held> {
        let held = self.held.remove(&serial)?;
        if let Some(id) = &held.id {
            self.by_id.remove(id);
        }
        Some(held)
    }

    fn forget(&mut self, now: Instant, window: Window) {
        while self.order.front().is_some_and(|(at, _)| now.saturating_since(*at) >= window.time)
            || self.order.len() > window.count
        {
            let Some((_, oldest)) = self.order.pop_front() else { return };
            self.handled.remove(&oldest);
        }
    }
}

impl Told {
    pub fn is_empty(&self) -> bool {
        *self == Told::default()
    }
}

/// What an event that was read is tied to.
pub(super) struct One {
    serial: u64,
    of: Arc<Holding>,
    /// Whether its end is known.
    over: AtomicBool,
}

impl One {
    fn first(&self) -> bool {
        !self.over.swap(true, Ordering::AcqRel)
    }
}

impl Lease for One {
    fn settle(&self) {
        if self.first() {
            self.of.settle(self.serial);
        }
    }

    fn bury(&self, letter: Letter) {
        if self.first() {
            self.of.bury(self.serial, letter);
        }
    }

    fn release(&self) {
        if self.first() {
            self.of.release(self.serial);
        }
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn id(n: u64) -> Id {
        Id::parse(&format!("evt_{n}"))
    }

    fn holding(window: Option<Window>) -> (Arc<Holding>, Session) {
        let holding = Arc::new(Holding::new(window, Clock::simulated(0)));
        let first = holding.begin();
        (holding, first)
    }

    fn tag(session: u64, number: u64) -> Tag {
        Tag { session, number }
    }

    fn new(taken: Taken) -> Arc<One> {
        match taken {
            Taken::New(one) => one,
            Taken::Known => panic!("it was known"),
        }
    }

    #[test]
    fn many_are_acknowledged_at_once_where_none_before_them_is_open() {
        let (holding, _first) = holding(None);
        let ones: Vec<_> = (1..=6).map(|n| new(holding.take(&id(n), tag(1, n)))).collect();
        for n in [0, 1, 3, 5] {
            ones[n].settle();
            ones[n].release(); // only the first word counts
        }
        assert_eq!(holding.tell(1), Told { up_to: Some(2), single: vec![4, 6] });
        ones[2].release();
        ones[4].settle();
        assert_eq!(holding.tell(1), Told { up_to: None, single: vec![5] });
        assert_eq!(holding.give_back(1), [3]);
        assert!(holding.tell(1).is_empty());
    }

    #[test]
    fn copies_are_known_and_what_was_given_back_is_not() {
        let window = Window { time: Duration::from_secs(10), count: 2 };
        let (holding, _channel) = holding(Some(window));
        let first = new(holding.take(&id(1), tag(1, 1)));
        assert!(matches!(holding.take(&id(1), tag(1, 2)), Taken::Known), "at work");
        assert_eq!(holding.tell(1).single, [2]);
        first.settle();
        assert!(matches!(holding.take(&id(1), tag(1, 3)), Taken::Known), "handled");
        assert_eq!(holding.tell(1).up_to, Some(3));
        assert_eq!(holding.duplicates(), 2);
        drop(new(holding.take(&id(2), tag(1, 4))));
        assert_eq!(holding.give_back(1), [4]);
        new(holding.take(&id(2), tag(1, 5))).settle();
        holding.clock.advance(window.time);
        new(holding.take(&id(1), tag(1, 6))).settle();
    }

    #[test]
    fn what_is_at_work_while_the_channel_is_lost_is_tied_to_its_new_delivery() {
        let (holding, first) = holding(Some(Window::default()));
        let (slow, quick) =
            (new(holding.take(&id(1), tag(1, 1))), new(holding.take(&id(2), tag(1, 2))));
        drop(first);
        let _second = holding.begin();
        assert!(matches!(holding.take(&id(3), tag(1, 3)), Taken::Known), "it comes again");
        quick.settle();
        assert!(holding.tell(2).is_empty(), "there is nothing to tell over this channel");
        for n in [1, 2] {
            assert!(matches!(holding.take(&id(n), tag(2, n + 7)), Taken::Known));
        }
        assert_eq!(holding.tell(2), Told { up_to: None, single: vec![9] });
        slow.settle();
        assert_eq!(holding.tell(2).up_to, Some(8));
    }

    #[test]
    fn a_reader_that_leaves_has_its_own_acknowledged_beside_the_next_one() {
        let (holding, _leaving) = holding(Some(Window::default()));
        let old = new(holding.take(&id(1), tag(1, 1)));
        let _next = holding.begin();
        let fresh = new(holding.take(&id(2), tag(2, 1)));
        old.settle();
        assert!(holding.tell(2).is_empty(), "it is none of that one's");
        assert!(!holding.is_idle(1) && holding.is_handled(1));
        assert_eq!(holding.tell(1).up_to, Some(1));
        assert!(holding.is_idle(1) && !holding.is_handled(2));
        fresh.release();
        assert!(!holding.has_released(1));
        assert_eq!(holding.give_back(2), [1]);
    }

    #[test]
    fn what_is_given_up_stays_until_it_is_put_aside() {
        let (holding, first) = holding(Some(Window::default()));
        let one = new(holding.take(&id(1), tag(1, 1)));
        one.bury(Letter { name: "1".into(), text: "a letter".into() });
        drop(one);
        let foreign = Aside::Foreign { data: vec![], reason: "none".into() };
        holding.take_foreign(tag(1, 2), foreign.clone());
        drop(first);
        let _second = holding.begin();
        assert!(matches!(holding.take(&id(1), tag(2, 1)), Taken::Known));
        holding.take_foreign(tag(2, 2), foreign);
        for expected in [1, 2] {
            let putting = holding.to_put_aside().expect("there is one");
            assert!(holding.to_put_aside().is_none(), "somebody does so");
            assert!(holding.tell(2).is_empty());
            putting.done();
            assert_eq!(holding.tell(2).up_to, Some(expected));
        }
        assert!(holding.to_put_aside().is_none());
    }
}
