//! Ids that a group has been given lately: what comes twice is handled once.
//!
//! A copy of an event has the same id and another place on the broker.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    first: HashMap<Id, Option<P>>,
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
    /// Whether somebody looks up what was handled before this process began.
    recalled: AtomicBool,
}

impl<P: Copy + PartialEq> Seen<P> {
    /// Nothing seen yet.
    pub fn new(window: Window, clock: Clock) -> Seen<P> {
        let memory = Memory { first: HashMap::new(), order: VecDeque::new() };
        let (memory, duplicates) = (Mutex::new(memory), AtomicU64::new(0));
        Seen { window, clock, memory, duplicates, recalled: AtomicBool::new(false) }
    }

    /// Whether what was handled before this process began is to be looked up: for the first who
    /// asks.
    pub fn begin(&self) -> bool {
        !self.recalled.swap(true, Ordering::AcqRel)
    }

    /// Notes that `id` was given to this process at `entry`; false where it is another copy of
    /// what was given before.
    pub fn note(&self, id: &Id, entry: P) -> bool {
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
            Some(first) => {
                let same = *first == Some(entry);
                drop(memory);
                if !same {
                    self.count();
                }
                same
            }
            None => {
                memory.first.insert(id.clone(), Some(entry));
                memory.order.push_back((now, id.clone()));
                true
            }
        }
    }

    /// It was handled by somebody, as the server says.
    pub fn handled_elsewhere(&self, id: &Id) {
        let now = self.clock.now();
        let mut memory = self.memory.lock();
        if memory.first.insert(id.clone(), None).is_none() {
            memory.order.push_back((now, id.clone()));
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
        assert!(seen.note(&id(1), 1));
        assert!(seen.note(&id(1), 1), "given out again");
        assert!(!seen.note(&id(1), 2), "a copy");
        seen.handled_elsewhere(&id(2));
        assert!(!seen.note(&id(2), 3), "handled by another process");
        assert_eq!(seen.duplicates(), 2);
        clock.advance(Duration::from_secs(10));
        assert!(seen.note(&id(2), 4), "too long ago");
        (5..9).for_each(|n| assert!(seen.note(&id(n), n)));
        assert!(seen.note(&id(2), 9), "too many since");
    }
}
