//! The end of a mailbox: what it leaves behind, and how that is booked or handed on.

use super::super::lanes::Delivery;
use super::super::tally::Ending;
use super::Mailbox;

impl Mailbox {
    /// A delivery ends without success or failure (its consumer is going away); it is in flight
    /// until `settle_left`.
    pub fn abandoned(&self, delivery: &Delivery) {
        let mut state = self.lock();
        state.running -= 1;
        state.leaving += 1;
        state.waits.handed_back(&delivery.event);
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
            state.take_aside();
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

    /// Takes what another mailbox had, all at once: its order must stay. Returned if this one has
    /// ended, too. Returns whether a consumer must be told.
    pub fn adopt(&self, deliveries: Vec<Delivery>) -> Result<bool, Vec<Delivery>> {
        let mut state = self.lock();
        if state.ended.is_some() {
            return Err(deliveries);
        }
        state.tally.published += deliveries.len() as u64;
        let lost = state.backlog.adopt(deliveries);
        state.book(lost);
        Ok(state.notify(self.concurrency))
    }

    /// Takes what was given up on, before what is new, as far as there is room. Returns whether a
    /// consumer must be told, and how many of `deliveries` it took: the first ones.
    pub fn readmit(&self, mut deliveries: Vec<Delivery>) -> (bool, usize) {
        let mut state = self.lock();
        if state.ended.is_some() || !state.line.is_empty() {
            return (false, 0);
        }
        deliveries.truncate(self.capacity.saturating_sub(state.waiting()));
        let taken = deliveries.len();
        state.tally.published += taken as u64;
        let lost = state.backlog.adopt(deliveries);
        state.book(lost);
        (state.notify(self.concurrency), taken)
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
