//! Dead letters delivered again.

use std::ops::Range;
use std::sync::Arc;

use super::core::Core;
use super::dead_letters::DeadLetter;
use super::group::choose;
use super::handle::Bus;
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
        let mut takers: Vec<(Arc<Subscription>, Vec<DeadLetter>)> = Vec::new();
        let mut left = Vec::new();
        for letter in core.dead_letters.take(wanted) {
            let Some(taker) = core.taker(&letter) else {
                left.push(letter);
                continue;
            };
            match takers.iter_mut().find(|(known, _)| known.id() == taker.id()) {
                Some((_, letters)) => letters.push(letter),
                None => takers.push((taker, vec![letter])),
            }
        }
        let mut count = 0;
        for (taker, mut letters) in takers {
            let events: Vec<_> = letters.iter().map(|letter| letter.event.clone()).collect();
            let taken = taker.handle_again(&events);
            count += taken.len();
            drop(letters.drain(taken));
            left.append(&mut letters);
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
    /// Which of `events`, in their old order, it takes: the last ones, where there is no room for
    /// all.
    fn handle_again(self: &Arc<Self>, events: &[Arc<Event>]) -> Range<usize> {
        if self.executor().is_inline() {
            let takes = |event: &&Arc<Event>| matches!(self.offer(event), Offer::Queued { .. });
            return 0..events.iter().take_while(takes).count();
        }
        let (count, notify) = self.mailbox().readmit(events);
        if notify {
            self.executor().schedule(self);
        }
        events.len() - count..events.len()
    }
}
