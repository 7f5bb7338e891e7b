//! What waits, each in a slot of its own, and in line with others of the same time limit.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Key, Turn};
use crate::clock::Instant;

/// How many time limits have a line of their own.
const LINES: usize = 8;

/// No slot, or no line.
const NONE: u32 = u32::MAX;

/// The line of those whose limit has none: they are found in a map.
const ODD: u32 = NONE - 1;

/// Those whose deadline was lifted are in this one.
const LIFTED: u32 = NONE - 2;

/// All that waits. Slots are used again.
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// The first slot that nobody has; each names the next one.
    free: u32,
    len: usize,
    /// How many of them have had their deadline lifted.
    lifted: usize,
    sequence: u64,
    /// Each in the order in which it is due.
    lines: Vec<Line>,
    odd: BTreeMap<Turn, u32>,
}

struct Line {
    limit: Duration,
    first: u32,
    last: u32,
}

struct Slot<T> {
    subject: Option<T>,
    turn: Turn,
    line: u32,
    before: u32,
    after: u32,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        let (slots, lines) = (Vec::new(), Vec::new());
        let odd = BTreeMap::new();
        Slots { slots, free: NONE, len: 0, lifted: 0, sequence: 0, lines, odd }
    }
}

impl<T> Slots<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many have been kept so far.
    pub fn count(&self) -> u64 {
        self.sequence
    }

    /// All that waits, each with the number that it came as.
    pub fn all(&self) -> impl Iterator<Item = (Key, u64, &T)> {
        let some = if self.len == 0 { &[][..] } else { &self.slots[..] };
        some.iter().enumerate().filter_map(|(number, slot)| {
            let subject = slot.subject.as_ref()?;
            let key = Key::new(u32::try_from(number).ok()?, slot.turn.1);
            Some((key, slot.turn.1, subject))
        })
    }

    /// How many have not had their deadline lifted.
    pub fn unlifted(&self) -> usize {
        self.len - self.lifted
    }

    /// Keeps `subject`, without a deadline.
    pub fn keep(&mut self, subject: T) -> Key {
        self.sequence += 1;
        let turn = (Instant::ZERO, self.sequence);
        let made = Slot { subject: Some(subject), turn, line: NONE, before: NONE, after: NONE };
        let number = match self.slots.get_mut(self.free as usize) {
            Some(slot) => {
                let number = std::mem::replace(&mut self.free, slot.after);
                *slot = made;
                number
            }
            None => {
                self.slots.push(made);
                u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
            }
        };
        self.len += 1;
        Key::new(number, self.sequence)
    }

    /// Sets the deadline of what is kept and has none, `limit` from some time just past.
    pub fn line_up(&mut self, key: Key, at: Instant, limit: Duration) {
        let line = self.line_of(limit);
        let Some(slot) = self.find(key) else { return };
        slot.turn.0 = at;
        slot.line = line;
        let turn = slot.turn;
        let Some(Line { first, last, .. }) = self.lines.get(line as usize) else {
            self.odd.insert(turn, key.slot());
            return;
        };
        // The clock was asked before the lock was taken: somebody later may stand there already.
        let (mut before, mut after) = (*last, NONE);
        while let Some(other) = self.slots.get(before as usize)
            && other.turn > turn
        {
            (before, after) = (other.before, before);
        }
        debug_assert!(before != NONE || after == *first);
        self.join(line, before, key.slot());
        self.join(line, key.slot(), after);
    }

    /// What is kept under `key`, if it still is.
    pub fn get(&mut self, key: Key) -> Option<&mut T> {
        self.find(key).and_then(|slot| slot.subject.as_mut())
    }

    fn find(&mut self, key: Key) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(key.slot() as usize)?;
        (slot.subject.is_some() && key.is(slot.turn.1)).then_some(slot)
    }

    /// Keeps what it is without its deadline.
    pub fn lift(&mut self, key: Key) {
        let Some(slot) = self.find(key) else { return };
        let Slot { turn, before, after, .. } = *slot;
        let line = std::mem::replace(&mut slot.line, LIFTED);
        self.leave(line, turn, (before, after));
        self.lifted += 1;
    }

    fn leave(&mut self, line: u32, turn: Turn, (before, after): (u32, u32)) {
        match line {
            NONE => {}
            LIFTED => self.lifted -= 1,
            ODD => {
                self.odd.remove(&turn);
            }
            line => self.join(line, before, after),
        }
    }

    /// Takes out what is kept under `key`, if it still is.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let free = self.free;
        let slot = self.find(key)?;
        let subject = slot.subject.take();
        let Slot { turn, line, before, after, .. } = *slot;
        slot.after = free;
        self.free = key.slot();
        self.leave(line, turn, (before, after));
        self.len -= 1;
        if self.len == 0 {
            self.shrink();
        }
        subject
    }

    /// Has `after` stand behind `before`; the end of the line is where there is none.
    fn join(&mut self, line: u32, before: u32, after: u32) {
        let ends = &mut self.lines[line as usize];
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.after = after,
            None => ends.first = after,
        }
        match self.slots.get_mut(after as usize) {
            Some(slot) => slot.before = before,
            None => ends.last = before,
        }
    }

    pub fn earliest(&self) -> Option<Instant> {
        self.firsts().map(|(_, (at, _))| at).min()
    }

    /// Takes out what is due at `now`, in order.
    pub fn take_due(&mut self, now: Instant) -> Vec<T> {
        let mut due = Vec::new();
        while let Some((slot, turn)) = self.first_due(now) {
            let subject = self.remove(Key::new(slot, turn.1));
            due.extend(subject.map(|subject| (turn, subject)));
        }
        due.sort_unstable_by_key(|(turn, _)| *turn);
        due.into_iter().map(|(_, subject)| subject).collect()
    }

    fn first_due(&self, now: Instant) -> Option<(u32, Turn)> {
        self.firsts().find(|(_, (at, _))| *at <= now)
    }

    /// Who is due first, of each line and of those without one.
    fn firsts(&self) -> impl Iterator<Item = (u32, Turn)> {
        let first = |line: &Line| self.slots.get(line.first as usize).map(|s| (line.first, s.turn));
        let odd = self.odd.first_key_value().map(|(turn, slot)| (*slot, *turn));
        self.lines.iter().filter_map(first).chain(odd)
    }

    /// Takes out all that `which` says.
    pub fn extract(&mut self, which: impl Fn(&T) -> bool) -> Vec<T> {
        let chosen = |(number, slot): (usize, &Slot<T>)| {
            slot.subject.as_ref().filter(|subject| which(subject))?;
            Some(Key::new(u32::try_from(number).ok()?, slot.turn.1))
        };
        let keys: Vec<Key> = self.slots.iter().enumerate().filter_map(chosen).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    /// The line of `limit`; one that is empty may become it.
    fn line_of(&mut self, limit: Duration) -> u32 {
        let same = self.lines.iter().position(|line| line.limit == limit);
        let free = || self.lines.iter().position(|line| line.first == NONE);
        let line = match same {
            Some(same) => same,
            None if self.lines.len() < LINES => {
                self.lines.push(Line { limit, first: NONE, last: NONE });
                self.lines.len() - 1
            }
            None => match free() {
                Some(free) => {
                    self.lines[free].limit = limit;
                    free
                }
                None => return ODD,
            },
        };
        u32::try_from(line).unwrap_or(ODD)
    }

    /// Nothing waits: the room that much has needed is given back.
    fn shrink(&mut self) {
        const SPARE: usize = 1024;
        if self.slots.len() > SPARE {
            self.slots = Vec::new();
            self.free = NONE;
        }
    }
}
