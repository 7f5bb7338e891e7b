//! Ids that a group has been given lately: what comes twice is handled once.
//!
//! A copy of an event has the same id and another place on the broker.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
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

/// One id that is remembered.
#[derive(Debug)]
struct Remembered<P> {
    until: Instant,
    id: Id,
    /// Where its first copy stands; unknown for what was handled elsewhere.
    first: Option<P>,
}

/// What is remembered stands in a row, the oldest first. The table has nothing but numbers, so that
/// it stays small: of an event that comes, it is the one thing that is in no cache.
#[derive(Debug)]
struct Memory<P> {
    row: VecDeque<Remembered<P>>,
    /// The number of the first in the row: how many were forgotten.
    forgotten: u64,
    numbers: HashTable<u64>,
    hasher: foldhash::fast::RandomState,
}

impl<P> Memory<P> {
    /// The one of this id, or a new one that `make` makes; and whether it is new.
    fn entry(
        &mut self,
        id: &Id,
        make: impl FnOnce() -> Remembered<P>,
    ) -> (&mut Remembered<P>, bool) {
        let Memory { row, forgotten, numbers, hasher } = self;
        let index = |number: &u64| usize::try_from(number - *forgotten).unwrap_or(usize::MAX);
        let hash = hasher.hash_one(id);
        let is_it = |number: &u64| row[index(number)].id == *id;
        let hash_again = |number: &u64| hasher.hash_one(&row[index(number)].id);
        match numbers.entry(hash, is_it, hash_again) {
            Entry::Occupied(there) => {
                let index = index(there.get());
                (&mut row[index], false)
            }
            Entry::Vacant(place) => {
                place.insert(*forgotten + row.len() as u64);
                row.push_back(make());
                let last = row.len() - 1;
                (&mut row[last], true)
            }
        }
    }

    /// Forgets the oldest.
    fn forget(&mut self) {
        let Some(oldest) = self.row.pop_front() else { return };
        let hash = self.hasher.hash_one(&oldest.id);
        let number = self.forgotten;
        if let Ok(there) = self.numbers.find_entry(hash, |some| *some == number) {
            there.remove();
        }
        self.forgotten += 1;
    }
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
        let memory = Memory {
            row: VecDeque::new(),
            forgotten: 0,
            numbers: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
        };
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

    /// `id` was given to the group at `place`, to this process or another, so long ago.
    pub fn given(&self, id: &Id, place: P, age: Duration) {
        let until = self.until(age);
        let make = || Remembered { until, id: id.clone(), first: Some(place) };
        self.memory.lock().entry(id, make);
    }

    /// Notes that each id was given to this process at its place, and what that is.
    pub fn note<'a>(&self, found: impl IntoIterator<Item = (&'a Id, P)>) -> Vec<Noted> {
        let (at, until) = (self.clock.now(), self.until(Duration::ZERO));
        let mut memory = self.memory.lock();
        let note = |(id, place): (&Id, P)| {
            while memory.row.len() > self.window.count
                || memory.row.front().is_some_and(|oldest| at >= oldest.until)
            {
                memory.forget();
            }
            let make = || Remembered { until, id: id.clone(), first: Some(place) };
            match memory.entry(id, make) {
                (_, true) => Noted::First,
                // What others handled stands behind what came later, and may be too old before it.
                (old, _) if at >= old.until => {
                    (old.until, old.first) = (until, Some(place));
                    Noted::First
                }
                (Remembered { first: Some(first), .. }, _) if *first == place => Noted::First,
                (Remembered { first: Some(first), .. }, _) if *first > place => Noted::Before,
                _ => {
                    self.count();
                    Noted::Copy
                }
            }
        };
        found.into_iter().map(note).collect()
    }

    /// These were handled: wherever they come from, they are copies.
    pub fn handled<'a>(&self, ids: impl Iterator<Item = &'a Id>) {
        self.handled_before(ids.map(|id| (id, Duration::ZERO)));
    }

    /// The same, each so long ago, perhaps by somebody else.
    pub fn handled_before<'a>(&self, ids: impl Iterator<Item = (&'a Id, Duration)>) {
        let mut memory = self.memory.lock();
        for (id, age) in ids {
            let until = self.until(age);
            let make = || Remembered { until, id: id.clone(), first: None };
            let (known, _) = memory.entry(id, make);
            (known.first, known.until) = (None, known.until.max(until));
        }
    }

    /// How long that is remembered which is so old already.
    fn until(&self, age: Duration) -> Instant {
        self.clock.now().saturating_add(self.window.time.saturating_sub(age))
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
        let note = |n: u64, place: u64| seen.note([(&id(n), place)])[0];
        assert_eq!(note(1, 1), Noted::First);
        assert_eq!(note(1, 1), Noted::First, "given out again");
        assert_eq!(note(1, 2), Noted::Copy);
        seen.handled([id(1)].iter());
        assert_eq!(note(1, 1), Noted::Copy, "given out again after it was handled");
        seen.handled([id(2)].iter());
        assert_eq!(note(2, 3), Noted::Copy, "handled by another process");
        assert_eq!(seen.duplicates(), 3);
        assert_eq!(note(3, 9), Noted::First);
        assert_eq!(note(3, 8), Noted::Before, "what nobody has handled is no copy");
        let earlier = Duration::from_secs(6);
        seen.handled_before([(&id(4), earlier)].into_iter());
        assert_eq!(note(4, 1), Noted::Copy, "handled by another process six seconds ago");
        clock.advance(Duration::from_secs(4));
        assert_eq!(note(4, 2), Noted::First, "ten seconds ago, whatever stands before it");
        seen.given(&id(5), 1, earlier);
        seen.handled_before([(&id(5), Duration::ZERO)].into_iter());
        clock.advance(Duration::from_secs(6));
        assert_eq!(note(5, 2), Noted::Copy, "given long ago, and handled just now");
        assert_eq!(note(2, 4), Noted::First, "too long ago");
        (6..9).for_each(|n| assert_eq!(note(n, n), Noted::First));
        assert_eq!(note(2, 9), Noted::First, "too many since");
    }
}
