//! How long handlers are stepped before the loop gets a turn for its other work.

use std::time::Duration;

use crate::clock::{Clock, Instant};

/// The most handlers in one turn.
const MOST: u32 = 512;

/// After so many it is looked how long they take.
const LOOK: u32 = 64;

/// How long [`LOOK`] or more of them may take.
const LONG: Duration = Duration::from_millis(1);

/// One turn's part.
#[derive(Default)]
pub(super) struct Slice {
    handled: u32,
    /// When it was looked at first.
    looked: Option<Instant>,
}

impl Slice {
    /// Whether no handler is done yet.
    #[inline]
    pub fn is_new(&self) -> bool {
        self.handled == 0
    }

    /// One more handler is done; true when the loop is to have its turn.
    #[inline]
    pub fn is_over(&mut self, clock: &Clock) -> bool {
        self.handled += 1;
        self.handled.is_multiple_of(LOOK) && self.is_long(clock)
    }

    #[cold]
    fn is_long(&mut self, clock: &Clock) -> bool {
        let now = clock.now();
        let looked = *self.looked.get_or_insert(now);
        self.handled >= MOST || now.saturating_since(looked) >= LONG
    }
}
