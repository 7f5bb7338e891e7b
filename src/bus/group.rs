//! Groups: subscriptions that share their events, each event going to one of them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::admission::Published;
use super::core::Core;
use super::lanes::Delivery;
use super::mailbox::Offer;
use super::router::Route;
use super::subscription::Subscription;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::sync::{AtomicUsize, Ordering};

/// What the members of one group have in common.
#[derive(Debug)]
pub(super) struct Group {
    pub name: Arc<str>,
    /// Whose turn it is with an event that has no key.
    next: AtomicUsize,
}

impl Group {
    pub fn new(name: Arc<str>) -> Group {
        Group { name, next: AtomicUsize::new(0) }
    }
}

/// The members of one group that want the events of one topic; at least two.
#[derive(Debug)]
pub(super) struct Rivals {
    pub group: Arc<Group>,
    pub members: Box<[Arc<Subscription>]>,
}

/// Who of `members` gets `event`: by its key always the same one, as long as they stay the same
/// (and if one leaves, only its keys move); else the next in turn, or one after it that has room.
/// None when no filter accepts it.
pub(super) fn choose<'a>(
    group: &Group,
    members: &'a [Arc<Subscription>],
    event: &Event,
) -> Option<&'a Arc<Subscription>> {
    let takers = || members.iter().filter(|member| member.accepts(event));
    if let Some(key) = members.first()?.key_of(event) {
        return takers().max_by_key(|member| {
            let mut hasher = DefaultHasher::new();
            (&*key, member.id()).hash(&mut hasher);
            hasher.finish()
        });
    }
    let turn = group.next.fetch_add(1, Ordering::Relaxed) % members.len();
    let in_turn = || members[turn..].iter().chain(&members[..turn]);
    let takers = || in_turn().filter(|member| member.accepts(event));
    takers().find(|member| member.mailbox().has_room()).or_else(|| takers().next())
}

/// Adds `item` to what `taker` is to get at once: one that is quick must not get ahead of us.
pub(super) fn give_part<T>(
    parts: &mut Vec<(Arc<Subscription>, Vec<T>)>,
    taker: &Arc<Subscription>,
    item: T,
) {
    match parts.iter_mut().find(|(other, _)| other.id() == taker.id()) {
        Some((_, part)) => part.push(item),
        None => parts.push((taker.clone(), vec![item])),
    }
}

impl Core {
    /// Delivers to everybody on the route, and to one member of each group.
    pub(super) fn deliver_route(&self, event: Arc<Event>, route: &Route) -> Result<Published> {
        let Some(rivals) = &route.rivals else { return self.deliver(event, &route.targets) };
        let mut targets = route.targets.to_vec();
        targets.extend(rivals.iter().filter_map(|rivals| {
            // What nobody accepts is booked as filtered, by one of them.
            choose(&rivals.group, &rivals.members, &event).or(rivals.members.first()).cloned()
        }));
        self.deliver(event, &targets)
    }
}

impl Subscription {
    /// Hands deliveries that its end overtook to other members of its group, where they come
    /// before what is new; returns those that nobody takes. What is handed over stands in the
    /// books of whoever gets it.
    pub(super) fn bequeath(&self, left: Vec<Delivery>) -> Vec<Delivery> {
        let (Some(group), Some(owner)) = (self.group(), self.owner()) else { return left };
        let mut kept = Vec::new();
        let mut heirs = owner.members(group);
        // One that ends as well would hand it back.
        heirs.retain(|heir| heir.id() != self.id() && heir.is_active());
        let mut left = left;
        while !left.is_empty() {
            // Each heir gets its part at once, in order.
            let mut parts: Vec<(Arc<Subscription>, Vec<Delivery>)> = Vec::new();
            for delivery in left {
                let topic = &delivery.event.topic;
                let wanting: Vec<_> = heirs.iter().filter(|h| h.wants(topic)).cloned().collect();
                let Some(heir) = choose(group, &wanting, &delivery.event) else {
                    kept.push(delivery);
                    continue;
                };
                give_part(&mut parts, heir, delivery);
            }
            // An heir that ends at this moment is none.
            left = Vec::new();
            for (heir, part) in parts {
                if let Err(back) = heir.adopt(part) {
                    heirs.retain(|other| other.id() != heir.id());
                    left.extend(back);
                }
            }
        }
        kept
    }

    /// An event that chose this member as it ended: another one takes it.
    pub(super) fn pass_on(&self, event: &Arc<Event>) -> Offer {
        let left = self.bequeath(vec![Delivery::first(event.clone())]);
        if left.is_empty() { Offer::Queued { notify: false } } else { Offer::Closed }
    }

    fn adopt(self: &Arc<Self>, part: Vec<Delivery>) -> std::result::Result<(), Vec<Delivery>> {
        if self.mailbox().adopt(part)? {
            self.executor().schedule(self);
        }
        Ok(())
    }

    /// Refuses a member whose keys are others than those of the group.
    pub(super) fn check_rival(&self, other: &Subscription) -> Result<()> {
        let path = |of: &Subscription| match &of.options().key {
            Some(key) => format!("key={:?}", key.as_str()),
            None => "the key of the publish".to_owned(),
        };
        let (mine, theirs) = (path(self), path(other));
        if mine == theirs {
            return Ok(());
        }
        let group = self.options().group.as_deref().unwrap_or_default();
        Err(Error::new(
            Kind::Configuration,
            "subscribe",
            format!(
                "the members of the group `{group}` share one key, by which events find their \
                 member: {} has {theirs}, and {} would have {mine}",
                other.name(),
                self.name()
            ),
        ))
    }
}
