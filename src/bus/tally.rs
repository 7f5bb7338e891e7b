//! The figures of one subscription, which balance at any time.

/// What became of everything that was ever offered to a subscription.
///
/// At any time `published == delivered + filtered + conflated + dropped + expired +
/// dead_lettered + in_flight`. What a member of a group that ends leaves to another one goes from
/// the books of the one into those of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Events that matched the pattern.
    pub published: u64,
    /// Handled with success, or settled as if they were.
    pub delivered: u64,
    /// Refused by the filter.
    pub filtered: u64,
    /// Replaced by a newer event of the same topic and key.
    pub conflated: u64,
    /// Lost to a named overflow policy, or to cancellation.
    pub dropped: u64,
    /// Past their deadline before a handler saw them.
    pub expired: u64,
    /// Given up on, and kept as dead letters.
    pub dead_lettered: u64,
    /// Queued, being handled, or waiting for a retry.
    pub in_flight: u64,
}

impl Tally {
    pub(super) fn end(&mut self, ending: Ending, count: u64) {
        match ending {
            Ending::Dropped => self.dropped += count,
            Ending::DeadLettered => self.dead_lettered += count,
        }
    }

    /// Whether everything published is accounted for.
    pub fn balances(&self) -> bool {
        self.published
            == self.delivered
                + self.filtered
                + self.conflated
                + self.dropped
                + self.expired
                + self.dead_lettered
                + self.in_flight
    }

    /// The same, where nothing that was counted is less than it was `before`.
    #[must_use]
    pub(super) fn at_least(&self, before: &Tally) -> Tally {
        Tally {
            published: self.published.max(before.published),
            delivered: self.delivered.max(before.delivered),
            filtered: self.filtered.max(before.filtered),
            conflated: self.conflated.max(before.conflated),
            dropped: self.dropped.max(before.dropped),
            expired: self.expired.max(before.expired),
            dead_lettered: self.dead_lettered.max(before.dead_lettered),
            in_flight: self.in_flight,
        }
    }

    /// Adds the figures of another subscription.
    pub fn add(&mut self, other: &Tally) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.filtered += other.filtered;
        self.conflated += other.conflated;
        self.dropped += other.dropped;
        self.expired += other.expired;
        self.dead_lettered += other.dead_lettered;
        self.in_flight += other.in_flight;
    }
}

/// What becomes of the events that a mailbox still has when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// They are dropped: somebody cancelled the subscription.
    Dropped,
    /// They are kept as dead letters: what ran the handler is gone.
    DeadLettered,
}
