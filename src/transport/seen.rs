//! Ids that a group has been given lately: what comes twice is handled once.
//!
//! A copy of an event has the same id and another place on the broker.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Instant};
use crate::event::Id;

/// How long, and how many, ids are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// For how long.
    pub time: Duration,
    /// How many at most; beyond it, the oldest is forgotten.
    pub count: usize,
}

impl Default for Window {
    fn default() -> Self {
        Window { time: Duration::from_secs(600), count: 100_000 }
    }
}

#[derive(Debug)]
struct Memory<P> {
    /// Where the first copy of each stands; unknown for what was handled elsewhere.
    first: HashMap<Id, Option<P>, foldhash::fast::RandomState>,
    /// The same ids, the oldest first.
    order: VecDeque<(Instant, Id)>,
}

/// The ids that one group has been given lately, each at a place `P`.
#[derive(Debug)]
pub struct Seen<P> {
    window: Window,
    clock: Clock,
    memory: Mutex<Memory<P>>,
    duplicates: AtomicU64,
    /// Up to where it was looked up what was given before this process began; none if nowhere.
    recalled: Mutex<Option<P>>,
}

/// What an event is that was given to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The first of its id, perhaps given out again.
    First,
    /// Another copy of one that was given before, or was handled.
    Copy,
    /// Another copy that stands before the one that was given before, which is not handled yet.
    Before,
}

impl<P: Copy + PartialOrd> Seen<P> {
    /// Nothing seen yet.
    pub fn new(window: Window, clock: Clock) -> Seen<P> {
        let memory = Memory { first: HashMap::default(), order: VecDeque::new() };
        let (memory, duplicates) = (Mutex::new(memory), AtomicU64::new(0));
        Seen { window, clock, memory, duplicates, recalled: Mutex::new(None) }
    }

    /// Behind which place what was given to the group is not known yet; none if nothing is.
    pub fn recalls_from(&self) -> Option<P> {
        *self.recalled.lock()
    }

    /// What was given up to `place` is known.
    pub fn recalled(&self, place: P) {
        *self.recalled.lock() = Some(place);
    }

    /// `id` was given to the group at `place`, to this process or another.
    pub fn given(&self, id: &Id, place: P) {
        let now = self.clock.now();
        let mut memory = self.memory.lock();
        if let Entry::Vacant(first) = memory.first.entry(id.clone()) {
            first.insert(Some(place));
            memory.order.push_back((now, id.clone()));
        }
    }

    /// Notes that `id` was given to this process at `entry`, and what that is.
    pub fn note(&self, id: &Id, entry: P) -> Noted {
        let now = self.clock.now();
        let mut memory = self.memory.lock();
        while memory
            .order
            .front()
            .is_some_and(|(at, _)| now.saturating_since(*at) >= self.window.time)
            || memory.order.len() > self.window.count
        {
            let Some((_, oldest)) = memory.order.pop_front() else { break };
            memory.first.remove(&oldest);
        }
        match memory.first.get(id) {
            Some(Some(first)) if *first == entry => Noted::First,
            Some(Some(first)) if *first > entry => Noted::Before,
            Some(_) => {
                drop(memory);
                self.count();
                Noted::Copy
            }
            None => {
                memory.first.insert(id.clone(), Some(entry));
                memory.order.push_back((now, id.clone()));
                Noted::First
            }
        }
    }

    /// These were handled, here or by somebody else: wherever they come from, they are copies.
    pub fn handled<'a>(&self, ids: impl Iterator<Item = &'a Id>) {
        let now = self.clock.now();
        let mut memory = self.memory.lock();
        for id in ids {
            if memory.first.insert(id.clone(), None).is_none() {
                memory.order.push_back((now, id.clone()));
            }
        }
    }

    /// A copy was found by other means.
    pub fn count(&self) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
    }

    /// How long, and how many, are remembered.
    pub fn window(&self) -> Window {
        self.window
    }

    /// How many copies there were.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stands_elsewhere_and_a_redelivery_does_not() {
        let window = Window { time: Duration::from_secs(10), count: 3 };
        let clock = Clock::simulated(0);
        let seen = Seen::new(window, clock.clone());
        let id = |n: u64| Id::parse(&format!("evt_{n}"));
        assert_eq!(seen.note(&id(1), 1), Noted::First);
        assert_eq!(seen.note(&id(1), 1), Noted::First, "given out again");
        assert_eq!(seen.note(&id(1), 2), Noted::Copy);
        seen.handled([id(1)].iter());
        assert_eq!(seen.note(&id(1), 1), Noted::Copy, "given out again after it was handled");
        seen.handled([id(2)].iter());
        assert_eq!(seen.note(&id(2), 3), Noted::Copy, "handled by another process");
        assert_eq!(seen.duplicates(), 3);
        assert_eq!(seen.note(&id(3), 9), Noted::First);
        assert_eq!(seen.note(&id(3), 8), Noted::Before, "what nobody has handled is no copy");
        clock.advance(Duration::from_secs(10));
        assert_eq!(seen.note(&id(2), 4), Noted::First, "too long ago");
        (5..9).for_each(|n| assert_eq!(seen.note(&id(n), n), Noted::First));
        assert_eq!(seen.note(&id(2), 9), Noted::First, "too many since");
    }
}
