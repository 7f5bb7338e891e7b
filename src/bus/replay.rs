//! Dead letters delivered again.

use std::sync::Arc;

use super::core::Core;
use super::dead_letters::DeadLetter;
use super::group::{choose, give_part};
use super::handle::Bus;
use super::lanes::Delivery;
use super::mailbox::Offer;
use super::subscription::Subscription;
use crate::event::{Event, Lease};

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
            let taken = taker.handle_again(part.iter().map(|letter| core.held(letter)));
            count += taken;
            left.extend(part.drain(taken..));
        }
        core.dead_letters.put_back(left);
        count
    }
}

impl Bus {
    /// Throws dead letters away, here and on the broker; how many.
    pub fn purge_dead_letters(&self, wanted: impl Fn(&DeadLetter) -> bool) -> usize {
        let gone = self.0.dead_letters.take(wanted);
        gone.iter().filter_map(|letter| self.0.hold(letter)).for_each(|hold| hold.settle());
        gone.len()
    }
}

impl Core {
    /// The event of a dead letter, tied to what the broker keeps of that.
    fn held(&self, letter: &DeadLetter) -> Arc<Event> {
        let event = letter.event.clone().arriving(self.clock.unix_ms());
        let Some(hold) = self.hold(letter) else { return event };
        let mut event = Arc::unwrap_or_clone(event);
        event.metadata.extra.get_or_insert_default().lease = Some(hold);
        Arc::new(event)
    }

    /// What ties an event to the letter on the broker, if there is one.
    fn hold(&self, letter: &DeadLetter) -> Option<Arc<dyn Lease>> {
        letter.event.lease()?; // what was not read for a group was kept by nobody
        self.remote()?.letters()?.hold(&letter.name)
    }

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
    /// Returns how many of these it took, for which there was room: the first ones.
    fn handle_again(self: &Arc<Self>, events: impl Iterator<Item = Arc<Event>>) -> usize {
        if self.executor().is_inline() {
            let taken = |event: &Arc<Event>| matches!(self.offer(event), Offer::Queued { .. });
            return events.take_while(taken).count();
        }
        let (notify, taken) = self.mailbox().readmit(events.map(Delivery::first).collect());
        if notify {
            self.executor().schedule(self);
        }
        taken
    }
}
