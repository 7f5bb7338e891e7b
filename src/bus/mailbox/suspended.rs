//! While its component has failed, a mailbox takes in and hands nothing out.

use super::super::lanes::Delivery;
use super::super::ticket::Ticket;
use super::Mailbox;

impl Mailbox {
    /// Hands nothing out from now on, or goes on; whether a consumer must be told.
    pub fn suspend(&self, suspended: bool) -> bool {
        let mut state = self.lock();
        state.suspended = suspended;
        if !suspended {
            state.take_aside();
        }
        state.notify(self.concurrency)
    }

    /// Takes in what found no room, though there is none, up to twice of what may wait; false where
    /// it is full even so.
    pub fn squeeze_in(&self, ticket: &Ticket) -> bool {
        let mut state = self.lock();
        if state.ended.is_some() || state.waiting() >= self.capacity.saturating_mul(2) {
            return false;
        }
        state.offered -= 1;
        state.backlog.push(ticket.event());
        ticket.admit();
        true
    }

    /// Takes back what was handed out and not begun. Returned where it has ended, in flight until
    /// `settle_left`; else whether a consumer must be told.
    pub fn put_aside(&self, delivery: Delivery) -> Result<bool, Delivery> {
        let mut state = self.lock();
        state.running -= 1;
        state.waits.handed_back(&delivery.event);
        if state.ended.is_some() {
            state.leaving += 1;
            state.backlog.over(&delivery);
            return Err(delivery);
        }
        state.intake.give_back();
        state.aside.push(delivery);
        if !state.suspended {
            state.take_aside(); // it goes on already
        }
        Ok(state.notify(self.concurrency))
    }
}
