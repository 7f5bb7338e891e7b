//! Deliveries that wait for a breaker inside of their handler. They take up room as if they were
//! queued; where there are many, nothing more is given out: it would only be refused as well.

use std::time::Duration;

use super::lanes::Delivery;
use crate::clock::Instant;

/// So many may wait before reading pauses.
const MOST: usize = 100;

/// What one breaker refused comes back in one go, and so in its order, though each was refused
/// at another moment before it opens.
const TOGETHER: Duration = Duration::from_millis(50);

/// What waits, in the order in which it began to.
#[derive(Debug, Default)]
pub(super) struct Parked {
    deliveries: Vec<(Instant, Delivery)>,
}

impl Parked {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Whether there are so many that reading pauses.
    pub fn is_full(&self) -> bool {
        self.deliveries.len() >= MOST
    }

    /// Has `delivery` wait until `due`.
    pub fn put(&mut self, delivery: Delivery, due: Instant) {
        let waits = delivery.waits.wrapping_add(1).max(1);
        self.deliveries.push((due, Delivery { waits, ..delivery }));
    }

    /// Takes the one that has waited longest.
    pub fn take_oldest(&mut self) -> Option<Delivery> {
        (self.len() > 0).then(|| self.deliveries.remove(0).1)
    }

    /// Takes those for which it is so.
    pub fn take_if(&mut self, so: impl Fn(&Delivery) -> bool) -> Vec<Delivery> {
        let taken = self.deliveries.extract_if(.., |(_, delivery)| so(delivery));
        taken.map(|(_, delivery)| delivery).collect()
    }

    /// Takes what has waited long enough.
    pub fn take_due(&mut self, now: Instant) -> Vec<Delivery> {
        let soon = now.saturating_add(TOGETHER);
        let due = self.deliveries.extract_if(.., |(due, _)| *due <= soon);
        due.map(|(_, delivery)| delivery).collect()
    }

    /// Takes all.
    pub fn drain(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries).into_iter().map(|(_, delivery)| delivery).collect()
    }
}
