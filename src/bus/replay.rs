//! Dead letters delivered again.

use std::sync::Arc;

use super::core::Core;
use super::dead_letters::DeadLetter;
use super::group::choose;
use super::handle::Bus;
use super::lanes::Delivery;
use super::mailbox::Offer;
use super::subscription::Subscription;
use crate::event::Event;

impl Bus {
    /// Delivers dead letters again, each to the subscription that gave it up, and takes them off
    /// the shelf. Returns how many.
    ///
    /// In the mailbox they come before what is new, in their old order. A restarted subscription
    /// is known by its name; for one of a group that is gone, another member takes them. Those
    /// stay for which there is no room, whose deadline is over, and that nobody takes.
    pub fn replay_dead_letters(&self, wanted: impl Fn(&DeadLetter) -> bool) -> usize {
        let core = &self.0;
        let letters = core.dead_letters.take(wanted);
        let (mut count, mut left) = (0, Vec::new());
        // From the last to the first, each before those that went before it.
        for letter in letters.into_iter().rev() {
            match core.taker(&letter) {
                Some(taker) if taker.handle_again(&letter.event) => count += 1,
                _ => left.push(letter),
            }
        }
        core.dead_letters.put_back(left);
        count
    }
}

impl Core {
    /// Who handles a dead letter when it is replayed.
    fn taker(&self, letter: &DeadLetter) -> Option<Arc<Subscription>> {
        let event = &letter.event;
        if event.deadline().is_some_and(|deadline| self.clock.unix_ms() >= deadline) {
            return None;
        }
        let subscriptions = self.subscriptions.read();
        let takes = |s: &&Arc<Subscription>| s.wants(&event.topic) && s.accepts(event);
        if let Some(same) = subscriptions.get(&letter.subscription_id).filter(takes) {
            return Some(same.clone());
        }
        let takers = || subscriptions.values().filter(takes);
        if let Some(same) = takers().find(|s| s.name() == &*letter.subscription) {
            return Some(same.clone());
        }
        let name = letter.group.as_ref()?;
        let in_group = |s: &&Arc<Subscription>| s.group().is_some_and(|g| g.name == *name);
        let members: Vec<_> = takers().filter(in_group).cloned().collect();
        choose(members.first()?.group()?, &members, event).cloned()
    }
}

impl Subscription {
    /// False where there is no room.
    fn handle_again(self: &Arc<Self>, event: &Arc<Event>) -> bool {
        if self.executor().is_inline() {
            return matches!(self.offer(event), Offer::Queued { .. });
        }
        let Ok(notify) = self.mailbox().readmit(Delivery::first(event.clone())) else {
            return false;
        };
        if notify {
            self.executor().schedule(self);
        }
        true
    }
}
