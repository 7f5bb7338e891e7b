//! What waits for something, and its deadlines behind one timer.
//!
//! Handlers and requests get a deadline each, and hardly ever meet it. Most of them have one of a
//! few time limits: those of one limit stand in line in the order of their deadlines, so that
//! setting and clearing one are a few steps in a list. The clock is asked only for the earliest,
//! and once per expiry rather than once per deadline.

mod slots;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::slots::Slots;
use crate::clock::{Clock, Instant};
use crate::sync::Mutex;

/// Names one thing that waits: as good as unique, for the slot that it is in is somebody else's
/// under the same name only after 2^32 others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    #[allow(clippy::cast_possible_truncation)] // the lower half of the number is what it keeps
    fn new(slot: u32, sequence: u64) -> Key {
        Key(u64::from(sequence as u32) << 32 | u64::from(slot))
    }

    #[allow(clippy::cast_possible_truncation)] // as above
    fn slot(self) -> u32 {
        self.0 as u32
    }

    /// Whether it names what came as number `sequence`, if it is in that slot.
    fn is(self, sequence: u64) -> bool {
        Key::new(self.slot(), sequence) == self
    }

    /// The key as a number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The key with this number.
    pub fn of(number: u64) -> Key {
        Key(number)
    }
}

/// Deadlines come in this order: those that were set first are first at the same time.
type Turn = (Instant, u64);

struct State<T> {
    slots: Slots<T>,
    /// When the timer fires that was set last; a later one finds nothing due and sets the next.
    armed: Option<Instant>,
}

struct Inner<T> {
    clock: Clock,
    state: Mutex<State<T>>,
    expire: Box<dyn Fn(T) + Send + Sync>,
}

/// What becomes of something that waits.
#[derive(Debug)]
pub enum Fate<R> {
    /// It stays as it is.
    Stays(R),
    /// It stays, and has no deadline any more.
    Lifted(R),
    /// It is taken out.
    Ends,
}

/// What a look at something that waits came to.
#[derive(Debug)]
pub enum Looked<T, R> {
    Kept(R),
    Taken(T),
}

/// A set of things that wait, most with a deadline; when that passes, they are handed to the
/// callback.
pub struct Deadlines<T>(Arc<Inner<T>>);

impl<T> Clone for Deadlines<T> {
    fn clone(&self) -> Self {
        Deadlines(self.0.clone())
    }
}

impl<T> fmt::Debug for Deadlines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deadlines({} waiting)", self.0.state.lock().slots.len())
    }
}

impl<T: Send + 'static> Deadlines<T> {
    /// `expire` is called on the clock's thread, and must be as short as any timer callback.
    pub fn new(clock: Clock, expire: impl Fn(T) + Send + Sync + 'static) -> Self {
        let state = Mutex::new(State { slots: Slots::default(), armed: None });
        Deadlines(Arc::new(Inner { clock, state, expire: Box::new(expire) }))
    }

    /// Keeps `subject` until `limit` from now, or until it is cleared by the key returned.
    pub fn set(&self, limit: Duration, subject: T) -> Key {
        self.set_from(self.0.clock.now(), limit, subject)
    }

    /// Keeps `subject` until `limit` from `begun`, or until it is cleared by the key returned.
    pub fn set_from(&self, begun: Instant, limit: Duration, subject: T) -> Key {
        let at = begun.saturating_add(limit);
        let mut state = self.0.state.lock();
        let key = state.slots.keep(subject);
        let arms = state.line_up(key, at, limit);
        drop(state);
        self.arm(arms);
        key
    }

    /// The moment so long ago, on the clock of these deadlines.
    pub fn now_less(&self, ago: Duration) -> Instant {
        let now = self.0.clock.now().as_nanos();
        Instant::from_nanos(now.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Keeps `subject` until it is cleared, or gets a deadline.
    pub fn keep(&self, subject: T) -> Key {
        self.0.state.lock().slots.keep(subject)
    }

    /// Clears a deadline, or what has none; `None` when it has passed.
    pub fn clear(&self, key: Key) -> Option<T> {
        self.0.state.lock().slots.remove(key)
    }

    /// Has `act` look at what is kept under `key`, and say what becomes of it; `None` when it is
    /// not there. Called under a lock, `act` must run nobody else's code.
    pub fn look<R>(&self, key: Key, act: impl FnOnce(&mut T) -> Fate<R>) -> Option<Looked<T, R>> {
        self.0.state.lock().look(key, act)
    }

    /// [`Deadlines::look`] at what has no deadline: if it stays, it has one now, `limit` from now.
    /// When that is comes back, too.
    pub fn limit<R>(
        &self,
        key: Key,
        limit: Duration,
        act: impl FnOnce(&mut T) -> Fate<R>,
    ) -> (Option<Looked<T, R>>, Instant) {
        let at = self.0.clock.now().saturating_add(limit);
        let mut state = self.0.state.lock();
        let looked = state.look(key, act);
        let arms = match looked {
            Some(Looked::Kept(_)) => state.line_up(key, at, limit),
            _ => None,
        };
        drop(state);
        self.arm(arms);
        (looked, at)
    }

    /// Takes out all that `which` says.
    pub fn extract(&self, which: impl Fn(&T) -> bool) -> Vec<T> {
        self.0.state.lock().slots.extract(which)
    }

    /// How many things have been kept so far: each has a number of its own, up to this.
    pub fn count(&self) -> u64 {
        self.0.state.lock().slots.count()
    }

    /// Has `pick` look at all that came as number `last` or before and is still there. Called
    /// under a lock, it must run nobody else's code.
    pub fn pick<R>(&self, last: u64, mut pick: impl FnMut(Key, u64, &T) -> Option<R>) -> Vec<R> {
        let state = self.0.state.lock();
        let early = state.slots.all().filter(|(_, number, _)| *number <= last);
        early.filter_map(|(key, number, subject)| pick(key, number, subject)).collect()
    }

    /// How many wait whose deadline has not been lifted.
    pub fn unlifted(&self) -> usize {
        self.0.state.lock().slots.unlifted()
    }

    fn arm(&self, at: Option<Instant>) {
        let Some(at) = at else { return };
        let inner = Arc::downgrade(&self.0);
        self.0
            .clock
            .schedule_at(at, move || {
                if let Some(inner) = inner.upgrade() {
                    Deadlines(inner).fire(at);
                }
            })
            .detach();
    }

    fn fire(&self, timer: Instant) {
        let now = self.0.clock.now();
        let mut state = self.0.state.lock();
        let due = state.slots.take_due(now);
        // A timer that was overtaken by an earlier one is stale: the earlier one goes on.
        let next = if state.armed == Some(timer) {
            state.armed = state.slots.earliest();
            state.armed
        } else {
            None
        };
        drop(state);
        self.arm(next);
        due.into_iter().for_each(|subject| (self.0.expire)(subject));
    }
}

impl<T> State<T> {
    fn look<R>(&mut self, key: Key, act: impl FnOnce(&mut T) -> Fate<R>) -> Option<Looked<T, R>> {
        match act(self.slots.get(key)?) {
            Fate::Stays(result) => Some(Looked::Kept(result)),
            Fate::Lifted(result) => {
                self.slots.lift(key);
                Some(Looked::Kept(result))
            }
            Fate::Ends => self.slots.remove(key).map(Looked::Taken),
        }
    }

    /// Sets a deadline; when a timer is to fire, if one is to be set.
    fn line_up(&mut self, key: Key, at: Instant, limit: Duration) -> Option<Instant> {
        self.slots.line_up(key, at, limit);
        if self.armed.is_some_and(|armed| armed <= at) {
            return None;
        }
        self.armed = Some(at);
        self.armed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_cleared_in_time_never_expires() {
        let clock = Clock::simulated(0);
        let expired = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let log = expired.clone();
        let deadlines = Deadlines::new(clock.clone(), move |name| log.lock().push(name));
        let cleared = deadlines.set(Duration::from_secs(2), "cleared");
        deadlines.set(Duration::from_secs(3), "late");
        deadlines.set(Duration::from_secs(1), "early");
        assert_eq!(deadlines.clear(cleared), Some("cleared"));
        clock.advance(Duration::from_secs(2));
        assert_eq!(*expired.lock(), ["early"]);
        clock.advance(Duration::from_secs(2));
        assert_eq!(*expired.lock(), ["early", "late"]);
        assert_eq!(clock.pending(), 0);
        deadlines.set(Duration::from_secs(1), "again");
        clock.advance(Duration::from_secs(2));
        assert_eq!(*expired.lock(), ["early", "late", "again"]);
    }

    #[test]
    fn earlier_deadlines_do_not_leave_timers_behind() {
        let clock = Clock::simulated(0);
        let deadlines = Deadlines::new(clock.clone(), |()| {});
        for round in 0..100 {
            deadlines.set(Duration::from_secs(30), ());
            let short = deadlines.set(Duration::from_secs(1 + round % 5), ());
            deadlines.clear(short);
            clock.advance(Duration::from_millis(700));
        }
        // One live timer, and stale ones no older than the longest deadline.
        assert!(clock.pending() <= 64, "{} timers", clock.pending());
        clock.advance(Duration::from_secs(60));
        assert_eq!(clock.pending(), 0);
    }

    #[test]
    fn what_came_early_and_is_still_there_is_picked() {
        let deadlines = Deadlines::new(Clock::simulated(0), |_: &str| {});
        let kept = deadlines.set(Duration::from_secs(1), "kept");
        let cleared = deadlines.set(Duration::from_secs(1), "cleared");
        let last = deadlines.count();
        deadlines.clear(cleared);
        deadlines.set(Duration::from_secs(1), "late"); // in the slot of the one before
        assert_eq!(deadlines.pick(last, |key, _, name| Some((key, *name))), [(kept, "kept")]);
        assert_eq!(deadlines.pick(deadlines.count(), |_, _, name| Some(*name)), ["kept", "late"]);
    }

    proptest! {
        /// Whatever is set, lifted and cleared, and with however many time limits: what is left
        /// comes in the order of its deadlines, each once and none too early.
        #[test]
        fn deadlines_expire_in_order(steps in prop::collection::vec(
            (0u64..40, any::<prop::sample::Index>(), 0u8..6), 1..200
        )) {
            let clock = Clock::simulated(0);
            let expired = Arc::new(parking_lot::Mutex::new(Vec::new()));
            let log = expired.clone();
            let deadlines = Deadlines::new(clock.clone(), move |name: usize| log.lock().push(name));
            // The naive model: when each is due.
            let mut due: Vec<(Instant, usize)> = Vec::new();
            let mut lifted: Vec<usize> = Vec::new();
            let mut keys = Vec::new();
            let mut expected = Vec::new();
            for (millis, which, kind) in steps {
                match kind {
                    0 | 1 => {
                        let limit = Duration::from_millis(millis);
                        due.push((clock.now().saturating_add(limit), keys.len()));
                        keys.push(deadlines.set(limit, keys.len()));
                    }
                    2 if !keys.is_empty() => {
                        let name = which.index(keys.len());
                        let at = due.iter().position(|(_, other)| *other == name);
                        let cleared = deadlines.clear(keys[name]);
                        let lifted = lifted.extract_if(.., |other| *other == name).next();
                        prop_assert_eq!(cleared, at.map(|at| due.remove(at).1).or(lifted));
                    }
                    3 if !keys.is_empty() => {
                        let name = which.index(keys.len());
                        let looked = deadlines.look(keys[name], |name| Fate::Lifted(*name));
                        let there = due.extract_if(.., |(_, other)| *other == name).next();
                        lifted.extend(there.map(|(_, name)| name));
                        let found = looked.is_some_and(|l| matches!(l, Looked::Kept(n) if n == name));
                        prop_assert_eq!(found, lifted.contains(&name));
                    }
                    4 => keys.push({
                        lifted.push(keys.len());
                        deadlines.keep(keys.len())
                    }),
                    _ => {
                        clock.advance(Duration::from_millis(millis));
                        due.sort_unstable();
                        let passed = due.partition_point(|(at, _)| *at <= clock.now());
                        expected.extend(due.drain(..passed).map(|(_, name)| name));
                        prop_assert_eq!(&*expired.lock(), &expected);
                    }
                }
            }
        }
    }
}
