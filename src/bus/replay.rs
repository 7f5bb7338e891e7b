//! Dead letters delivered again.

use std::sync::Arc;

use super::core::Core;
use super::dead_letters::DeadLetter;
use super::group::{choose, give_part};
use super::handle::Bus;
use super::lanes::Delivery;
use super::mailbox::Offer;
use super::subscription::Subscription;

impl Bus {
    /// Delivers dead letters again, each to the subscription that gave it up, and takes them off
    /// the shelf. Returns how many.
    ///
    /// In the mailbox they come before what is new, in their old order. A restarted subscription
    /// is known by its name; for one of a group that is gone, another member takes them. Those
    /// stay for which there is no room, whose deadline is over, and that nobody takes.
    pub fn replay_dead_letters(&self, wanted: impl Fn(&DeadLetter) -> bool) -> usize {
        let core = &self.0;
        let mut left = Vec::new();
        let mut parts: Vec<(Arc<Subscription>, Vec<DeadLetter>)> = Vec::new();
        for letter in core.dead_letters.take(wanted) {
            let Some(taker) = core.taker(&letter) else {
                left.push(letter);
                continue;
            };
            give_part(&mut parts, &taker, letter);
        }
        let mut count = 0;
        for (taker, mut part) in parts {
            let taken = taker.handle_again(&part);
            count += taken;
            left.extend(part.drain(taken..));
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
    /// Returns how many of `letters` it took, for which there was room: the first ones.
    fn handle_again(self: &Arc<Self>, letters: &[DeadLetter]) -> usize {
        if self.executor().is_inline() {
            let taken =
                |letter: &&DeadLetter| matches!(self.offer(&letter.event), Offer::Queued { .. });
            return letters.iter().take_while(taken).count();
        }
        let deliveries = letters.iter().map(|letter| Delivery::first(letter.event.clone()));
        let (notify, taken) = self.mailbox().readmit(deliveries.collect());
        if notify {
            self.executor().schedule(self);
        }
        taken
    }
}
