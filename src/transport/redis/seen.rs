//! Ids that a group has handled lately: what comes twice is handled once.
//!
//! A copy of an event has the same id and another place in the stream. Three things find it:
//! what this process has been given is remembered here; what any process has handled is kept on
//! the server, and asked for where others read for the group, or did before; and whoever sends an
//! event again because the answer got lost says so, and from which place on the first copy may
//! stand, so that the stream itself tells.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::entry_id::EntryId;
use crate::clock::{Clock, Instant};
use crate::event::Id;
use crate::transport::window::Window;

#[derive(Default)]
struct Memory {
    /// Where the first copy of each stands; unknown for what was handled elsewhere.
    first: HashMap<Id, Option<EntryId>>,
    /// The same ids, the oldest first.
    order: VecDeque<(Instant, Id)>,
}

/// The ids that one group has been given lately.
pub(super) struct Seen {
    window: Window,
    clock: Clock,
    memory: Mutex<Memory>,
    duplicates: AtomicU64,
    /// Whether somebody looks up what was handled before this process began.
    recalled: AtomicBool,
}

impl Seen {
    pub fn new(window: Window, clock: Clock) -> Seen {
        let (memory, duplicates) = (Mutex::default(), AtomicU64::new(0));
        Seen { window, clock, memory, duplicates, recalled: AtomicBool::new(false) }
    }

    /// Whether what was handled before this process began is to be looked up: for the first who
    /// asks.
    pub fn begin(&self) -> bool {
        !self.recalled.swap(true, Ordering::AcqRel)
    }

    /// Notes that `id` was given to this process at `entry`; false where it is another copy of
    /// what was given before.
    pub fn note(&self, id: &Id, entry: EntryId) -> bool {
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

    pub fn window(&self) -> Window {
        self.window
    }

    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(n: u64) -> EntryId {
        EntryId { ms: n, seq: 0 }
    }

    #[test]
    fn a_copy_stands_elsewhere_and_a_redelivery_does_not() {
        let window = Window { time: Duration::from_secs(10), count: 3 };
        let clock = Clock::simulated(0);
        let seen = Seen::new(window, clock.clone());
        let id = |n: u64| Id::parse(&format!("evt_{n}"));
        assert!(seen.note(&id(1), entry(1)));
        assert!(seen.note(&id(1), entry(1)), "given out again");
        assert!(!seen.note(&id(1), entry(2)), "a copy");
        seen.handled_elsewhere(&id(2));
        assert!(!seen.note(&id(2), entry(3)), "handled by another process");
        assert_eq!(seen.duplicates(), 2);
        clock.advance(Duration::from_secs(10));
        assert!(seen.note(&id(2), entry(4)), "too long ago");
        (5..9).for_each(|n| assert!(seen.note(&id(n), entry(n))));
        assert!(seen.note(&id(2), entry(9)), "too many since");
    }
}
