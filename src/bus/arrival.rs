//! What arrives from a broker, and to whom it goes here.

use std::sync::{Arc, Weak};

use super::admission::{Admission, Published};
use super::core::Core;
use super::dead_letters::DeadLetter;
use super::failure::Failure;
use super::group::{Group, choose};
use super::mailbox::Offer;
use super::options::Role;
use super::owner::Owner as _;
use super::subscription::Subscription;
use crate::error::Category;
use crate::event::Event;
use crate::transport::carrier::Later;
use crate::transport::{Entry, Sink};

/// For one group: each event goes to one of its members here.
pub(super) struct Shared {
    core: Weak<Core>,
    name: Arc<str>,
    /// Whose turn it is.
    turns: Group,
}

impl Shared {
    pub fn new(core: Weak<Core>, name: Arc<str>) -> Shared {
        Shared { core, turns: Group::new(name.clone()), name }
    }
}

impl Sink for Shared {
    fn take(&self, entries: Vec<Entry>) -> Later<'_, ()> {
        Box::pin(async move {
            let Some(core) = self.core.upgrade() else { return };
            let (members, now) = (core.sharing(&self.name), core.clock.unix_ms());
            let mut lines = Vec::new();
            for Entry { event, deliveries } in entries {
                let event = Arc::new(event).arriving(now);
                let wanting: Vec<_>;
                let taker = match &members[..] {
                    // Most often there is one here, and nothing to choose.
                    [only] => only.wants(&event.topic).then_some(only),
                    _ => {
                        let wants = members.iter().filter(|m| m.wants(&event.topic));
                        wanting = wants.cloned().collect();
                        choose(&self.turns, &wanting, &event).or(wanting.first())
                    }
                };
                match taker {
                    // The whole category is read; this is none of the group's.
                    None if !members.is_empty() => event.settle(),
                    None => {} // its last member has just gone: the broker keeps it
                    Some(taker) => lines.extend(hand_over(&core, taker, &event, deliveries)),
                }
            }
            drop(core); // the bus may end meanwhile
            wait(lines).await;
        })
    }

    fn waits(&self) -> bool {
        let Some(core) = self.core.upgrade() else { return true };
        !core.sharing(&self.name).iter().any(|member| member.options().overflow.lets_go())
    }
}

/// For commands and requests: to whoever serves their type here.
pub(super) struct Calls(pub Weak<Core>);

impl Sink for Calls {
    fn take(&self, entries: Vec<Entry>) -> Later<'_, ()> {
        Box::pin(async move {
            let Some(core) = self.0.upgrade() else { return };
            let (mut lines, now) = (Vec::new(), core.clock.unix_ms());
            for Entry { event, deliveries } in entries {
                let event = Arc::new(event).arriving(now);
                let serving = [Role::Responder, Role::CommandHandler]
                    .into_iter()
                    .find_map(|role| core.server(event.topic.as_str(), role).ok());
                if let Some((_, server)) = serving {
                    lines.extend(hand_over(&core, &server, &event, deliveries));
                }
            }
            drop(core);
            wait(lines).await;
        })
    }
}

/// For those who get a copy of every event.
pub(super) struct Copies(pub Weak<Core>);

impl Sink for Copies {
    fn take(&self, entries: Vec<Entry>) -> Later<'_, ()> {
        Box::pin(async move {
            let Some(core) = self.0.upgrade() else { return };
            let (mut lines, now) = (Vec::new(), core.clock.unix_ms());
            for Entry { event, .. } in entries {
                if core.is_own(&event) {
                    core.heard_itself();
                    continue;
                }
                let event = Arc::new(event).arriving(now);
                lines.extend(core.deliver_copies(&event, false));
            }
            drop(core);
            wait(lines).await;
        })
    }
}

/// For replies to requests of this process.
pub(super) struct Replies(pub Weak<Core>);

impl Sink for Replies {
    fn take(&self, entries: Vec<Entry>) -> Later<'_, ()> {
        if let Some(core) = self.0.upgrade() {
            entries.iter().for_each(|entry| core.replied(&entry.event));
        }
        Box::pin(std::future::ready(()))
    }
}

/// Gives an event to `taker`; a place in line where there is no room.
fn hand_over(
    core: &Core,
    taker: &Arc<Subscription>,
    event: &Arc<Event>,
    deliveries: u64,
) -> Option<Admission> {
    if deliveries > core.settings.max_deliveries {
        give_up(core, taker, event, deliveries);
        return None;
    }
    match taker.offer(event) {
        Offer::Full => Some(Admission::line_up(event, vec![taker.clone()])),
        // Dropped unsettled where it has ended, it comes again.
        Offer::Queued { .. } | Offer::Dropped { .. } | Offer::Closed => None,
    }
}

/// Nobody who was given it came to an end with it.
fn give_up(core: &Core, taker: &Arc<Subscription>, event: &Arc<Event>, deliveries: u64) {
    let failure = Failure::new(
        Category::Internal,
        "GivenOutTooOften",
        format!(
            "it was given out {deliveries} times, and nobody came to an end with it: its handler \
             may have ended its process"
        ),
    );
    tracing::error!(
        target: "tiebeam::bus", event_id = %event.id, subscription = taker.name(),
        "given up: {}", failure.message
    );
    let attempts = u32::try_from(deliveries).unwrap_or(u32::MAX);
    let (why, now) = ((attempts, "deliveries"), core.clock.unix_ms());
    core.keep(DeadLetter::of(taker, event.clone(), why, failure, now));
}

/// Waits for room, as a publisher in memory would.
async fn wait(lines: Vec<Admission>) {
    for line in lines {
        let _ = line.await; // a subscription that ended leaves its events with the broker
    }
}

impl Core {
    /// The members of a group here.
    fn sharing(&self, group: &str) -> Vec<Arc<Subscription>> {
        let subscriptions = self.subscriptions.read();
        let member =
            |s: &&Arc<Subscription>| s.shares() && s.options().group.as_deref() == Some(group);
        subscriptions.values().filter(member).cloned().collect()
    }

    /// Delivers to those here who get a copy of every event; places in line where there is no
    /// room. What the machinery itself listens to tells of this process: it hears only its `own`
    /// of the core's events.
    fn deliver_copies(&self, event: &Arc<Event>, own: bool) -> Vec<Admission> {
        let Ok(route) = self.router.route(event.topic.as_str()) else { return Vec::new() };
        let foreign = !own && event.category() == "system";
        let targets = route
            .targets
            .iter()
            .filter(|target| !target.shares())
            .filter(|target| !foreign || !target.options().internal || target.options().abroad);
        let offered = |target: &Arc<Subscription>| match target.offer(event) {
            Offer::Full => Some(Admission::line_up(event, vec![target.clone()])),
            _ => None,
        };
        targets.filter_map(offered).collect()
    }

    /// One of our own events has come back from the broker.
    fn heard_itself(&self) {
        if let Some(remote) = self.remote() {
            remote.count_echo();
        }
    }

    /// An event of the core's own: to the listeners here at once, and to other processes.
    pub(super) fn deliver_own(&self, event: Arc<Event>) -> Published {
        let lost = |admission: Admission| admission.give_up().err();
        for error in self.deliver_copies(&event, true).into_iter().filter_map(lost) {
            tracing::error!(
                target: "tiebeam::bus", topic = %event.topic, "an event of the core was lost: {error}"
            );
        }
        self.tell_others(&event);
        Published { event, admission: None, duplicate: false }
    }
}
