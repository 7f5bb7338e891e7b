//! The last results, and no more of them than asked for.

use std::collections::VecDeque;

/// A ring of the last `length` entries; the requirement keeps 100.
#[derive(Clone, Debug)]
pub struct History<T> {
    entries: VecDeque<T>,
    length: usize,
}

impl<T> History<T> {
    /// Keeps the last `length` entries, none with 0.
    pub fn new(length: usize) -> Self {
        History { entries: VecDeque::new(), length }
    }

    /// Adds the newest entry and returns the one it pushed out.
    pub fn push(&mut self, entry: T) -> Option<T> {
        if self.length == 0 {
            return Some(entry);
        }
        let oldest =
            if self.entries.len() == self.length { self.entries.pop_front() } else { None };
        self.entries.push_back(entry);
        oldest
    }

    /// Changes how many are kept; the oldest go first.
    pub fn resize(&mut self, length: usize) {
        self.length = length;
        let surplus = self.entries.len().saturating_sub(length);
        self.entries.drain(..surplus);
    }

    /// The entries, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.entries.iter()
    }

    /// The newest entry.
    pub fn last(&self) -> Option<&T> {
        self.entries.back()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_the_length_holds() {
        let mut history = History::new(3);
        let out: Vec<_> = (1..=5).map(|entry| history.push(entry)).collect();
        assert_eq!(out, [None, None, None, Some(1), Some(2)]);
        assert_eq!(history.iter().copied().collect::<Vec<_>>(), [3, 4, 5]);
        history.resize(1);
        assert_eq!((history.len(), history.last()), (1, Some(&5)));
        assert_eq!(History::new(0).push(1), Some(1));
    }
}
