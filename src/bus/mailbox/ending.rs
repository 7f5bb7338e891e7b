//! The end of a mailbox: what it leaves behind, and how that is booked or handed on.

use std::sync::Arc;

use super::super::lanes::Delivery;
use super::super::tally::Ending;
use super::Mailbox;
use crate::event::Event;

impl Mailbox {
    /// A delivery ends without success or failure (its consumer is going away); it is in flight
    /// until `settle_left`.
    pub fn abandoned(&self, delivery: &Delivery) {
        let mut state = self.lock();
        state.running -= 1;
        state.leaving += 1;
        state.backlog.pass(delivery);
    }

    /// Books `count` deliveries that the end of the mailbox overtook, now that what `ending`
    /// means for them has been done.
    pub fn settle_left(&self, ending: Ending, count: usize) {
        let mut state = self.lock();
        state.leaving -= count;
        state.tally.end(ending, count as u64);
    }

    /// Ends the mailbox, the first time for good. What was queued is returned, in flight until
    /// `settle_left`; tickets in line are refused.
    /// With `heirs`, what stands in line is admitted, and returned as well.
    pub fn close(&self, ending: Ending, heirs: bool) -> Vec<Delivery> {
        let (left, line) = {
            let mut state = self.lock();
            state.ended.get_or_insert(ending);
            self.passage.close();
            let mut left = state.backlog.drain();
            let line = std::mem::take(&mut state.line);
            if heirs {
                left.extend(line.iter().map(|ticket| Delivery::first(ticket.event().clone())));
            } else {
                state.tally.dropped += line.len() as u64;
            }
            line.iter().for_each(|ticket| if heirs { ticket.admit() } else { ticket.refuse() });
            state.leaving += left.len();
            (left, line)
        };
        line.iter().for_each(|ticket| ticket.tell());
        left
    }

    /// Takes what another mailbox had; returned if this one has ended, too. Returns whether a
    /// consumer must be told.
    pub fn adopt(&self, delivery: Delivery) -> Result<bool, Delivery> {
        let mut state = self.lock();
        if state.ended.is_some() {
            return Err(delivery);
        }
        state.tally.published += 1;
        let lost = state.backlog.adopt(delivery);
        state.book(lost);
        Ok(state.notify(self.concurrency))
    }

    /// Takes what was given up on, the last of it first, as far as there is room: at once, so that
    /// no consumer comes in between, and before what is new. Returns how much that was, and
    /// whether a consumer must be told.
    pub fn readmit(&self, events: &[Arc<Event>]) -> (usize, bool) {
        let mut state = self.lock();
        let mut count = 0;
        for event in events.iter().rev() {
            let has_room = state.waiting() < self.capacity && state.line.is_empty();
            if state.ended.is_some() || !has_room {
                break;
            }
            state.tally.published += 1;
            let lost = state.backlog.adopt(Delivery::first(event.clone()));
            state.book(lost);
            count += 1;
        }
        (count, state.notify(self.concurrency))
    }

    /// `count` deliveries that its end overtook are in the books of others now.
    pub fn moved(&self, count: usize) {
        let mut state = self.lock();
        state.leaving -= count;
        state.tally.published -= count as u64;
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.lock().ended
    }
}
