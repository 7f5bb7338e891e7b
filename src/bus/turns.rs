//! Keys that take turns: where several handlers run at once, events of one key go one after
//! the other.

use std::collections::HashMap;
use std::sync::Arc;

use super::lanes::{Delivery, Lanes};

/// Who has the turn of each key, and who waits for it.
///
/// The lanes of such a mailbox have at most one event of each key: the one whose turn it is. So
/// whoever comes for work never searches past events that may not run.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Every key whose turn is taken, with those that wait for it, if any.
    taken: HashMap<Arc<str>, Option<Box<Lanes>>>,
    waiting: usize,
}

impl Turns {
    /// How many deliveries wait for the turn of their key.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Gives `delivery` the turn of `key`, and returns it; if the turn is taken, it waits here.
    pub fn enter(&mut self, key: &str, delivery: Delivery) -> Option<Delivery> {
        match self.taken.get_mut(key) {
            Some(line) => {
                line.get_or_insert_default().push_back(delivery);
                self.waiting += 1;
                None
            }
            None => {
                self.taken.insert(key.into(), None);
                Some(Delivery { keyed: true, ..delivery })
            }
        }
    }

    /// The turn of `key` is over; returns the delivery that has it now.
    pub fn pass(&mut self, key: &str) -> Option<Delivery> {
        let next = self.taken.get_mut(key)?.as_mut().and_then(|line| line.pop());
        match next {
            Some(delivery) => {
                self.waiting -= 1;
                Some(Delivery { keyed: true, ..delivery })
            }
            None => {
                self.taken.remove(key);
                None
            }
        }
    }

    /// Since when the one waits that waits longest for its first attempt.
    pub fn longest_since(&self) -> Option<i64> {
        self.taken.values().flatten().filter_map(|line| line.longest_since()).min()
    }

    /// Takes the oldest delivery of the key that most wait for.
    pub fn drop_oldest(&mut self) -> Option<Delivery> {
        let longest = self.taken.values_mut().flatten().max_by_key(|line| line.len())?;
        let dropped = longest.drop_oldest();
        self.waiting -= usize::from(dropped.is_some());
        dropped
    }

    /// Takes everything that waits.
    pub fn drain(&mut self) -> impl Iterator<Item = Delivery> + use<> {
        self.waiting = 0;
        let lines: Vec<_> = self.taken.drain().filter_map(|(_, line)| line).collect();
        lines.into_iter().flat_map(|mut line| std::iter::from_fn(move || line.pop()))
    }
}
