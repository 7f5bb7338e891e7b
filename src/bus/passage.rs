//! Events that pass a mailbox by: handled inside `publish`, and counted without its lock.

use super::tally::Tally;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Set in `begun` once the subscription has ended.
const CLOSED: u64 = 1 << 63;

/// Counts what is handled inside `publish`.
///
/// What fails is adopted by the mailbox, which knows of retries and dead letters.
#[derive(Debug, Default)]
pub(super) struct Passage {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Those of `ended` that the mailbox counts instead.
    adopted: AtomicU64,
    /// Whether somebody waits until nothing is under way.
    watched: AtomicBool,
}

impl Passage {
    /// An event begins; false when the subscription has ended. Nothing begins after `close`.
    pub fn begin(&self) -> bool {
        self.begun.fetch_add(1, Ordering::SeqCst) & CLOSED == 0
    }

    /// An event was handled; whether somebody waits for that.
    pub fn end(&self) -> bool {
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.watched.load(Ordering::SeqCst)
    }

    /// A `begin` that came too late is taken back; whether somebody waits for that.
    pub fn take_back(&self) -> bool {
        self.begun.fetch_sub(1, Ordering::SeqCst);
        self.watched.load(Ordering::SeqCst)
    }

    /// An event becomes the mailbox's affair; called under its lock.
    pub fn adopt(&self) {
        self.adopted.fetch_add(1, Ordering::SeqCst);
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    /// Lets nothing begin any more.
    pub fn close(&self) {
        self.begun.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// Somebody waits until nothing is under way: `end` is to say so. In this order: what ends
    /// after it is told, what ended before it is seen.
    pub fn watch(&self) {
        self.watched.store(true, Ordering::SeqCst);
    }

    /// How many are under way.
    pub fn in_flight(&self) -> u64 {
        // The end first: it never overtakes the beginning.
        let ended = self.ended.load(Ordering::SeqCst);
        (self.begun.load(Ordering::SeqCst) & !CLOSED) - ended
    }

    /// Adds its figures to those of the mailbox; called under its lock.
    pub fn add_to(&self, tally: &mut Tally) {
        let ended = self.ended.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst) & !CLOSED;
        let adopted = self.adopted.load(Ordering::SeqCst);
        tally.published += begun - adopted;
        tally.delivered += ended - adopted;
        tally.in_flight += begun - ended;
    }
}
