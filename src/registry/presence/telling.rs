//! Telling others of us: what, and when.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::announcement::{ANNOUNCEMENT, Announcement, MAX_CAUSE, Told, cut};
use super::messenger::Presence;
use super::others::Service;
use crate::bus::Role;
use crate::clock::Instant;
use crate::health::Verdict;
use crate::registry::Slot;

/// The least time between two announcements: what changes together is told together.
const GAP: Duration = Duration::from_millis(50);

/// What is to be told, and when.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// When to announce, if before the interval is over.
    pub at: Option<Instant>,
    /// Whether everybody is to be asked.
    pub asks: bool,
    /// When we announced last, and how often we had heard ourselves by then.
    pub last: Option<(Instant, u64)>,
    /// When we last looked.
    pub looked: Option<Instant>,
}

/// What is announced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    /// We are here; whether all are asked for theirs, and whether all our subscriptions are read.
    Here { asks: bool, read: bool },
    /// We are gone.
    Goodbye,
}

impl Presence {
    /// Every component of this process and, where `remote`, of all others.
    pub fn services(&self, remote: bool) -> Vec<Service> {
        let (clock, we) = (self.0.registry.bus().clock(), &self.0.we);
        let slots = self.0.registry.slots();
        let mut own = self.told();
        for told in &mut own {
            // Who looks it up here has heard that it runs, perhaps before its checks have answered:
            // unknown is not unhealthy.
            told.ready |= told.state.is_operational() && told.health == Verdict::Unknown.as_str();
        }
        let mut services: Vec<Service> = own
            .iter()
            .zip(&slots)
            .map(|(told, slot)| {
                let age = clock.now().saturating_since(slot.status().since).as_millis();
                let since = clock.unix_ms().saturating_sub(i64::try_from(age).unwrap_or(i64::MAX));
                Service::of(we, told, since, false)
            })
            .collect();
        if remote {
            services.extend(self.0.others.services());
        }
        services
    }

    /// What we say of each component.
    fn told(&self) -> Vec<Told> {
        let bus = self.0.registry.bus();
        let reports = self.0.monitor.brief();
        let tell = |slot: &Arc<Slot>| {
            let (descriptor, status) = (slot.descriptor(), slot.status());
            let report = reports.iter().find(|report| report.component_id == slot.name());
            let (health, ready) =
                report.map_or(("unknown", false), |r| (r.health.as_str(), r.ready));
            let plain = status.degradations.is_empty() && status.state.is_operational();
            let mut cause = match status.degradations.values().next() {
                _ if plain => String::new(),
                Some(reason) => reason.clone(),
                None => status.cause,
            };
            cut(&mut cause, MAX_CAUSE);
            let own = bus.subscriptions_of(slot.name());
            let responds = own.iter().filter(|s| s.options().role == Role::Responder);
            Told {
                name: slot.name().to_owned(),
                version: descriptor.version.clone(),
                state: status.state,
                health: health.to_owned(),
                ready,
                cause,
                capabilities: descriptor.capabilities.clone(),
                types: descriptor.types.clone(),
                responds: responds.map(|s| s.pattern().as_str().to_owned()).collect(),
            }
        };
        self.0.registry.slots().iter().map(tell).collect()
    }

    pub(super) fn announce(&self, word: Word) {
        let bus = self.0.registry.bus();
        let number = self.0.number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut said = Announcement { number, ..self.0.we.clone() };
        match word {
            Word::Goodbye => said.leaves = true,
            Word::Here { asks, read } => {
                said.asks = asks;
                said.components = self.told();
                said.components.iter_mut().for_each(|told| told.ready &= read);
            }
        }
        if !said.fit() && number == 1 {
            tracing::warn!(
                target: "tiebeam::presence",
                "this process has more to say of itself than others read: not all is announced"
            );
        }
        {
            let mut due = self.0.due.lock();
            due.last = Some((bus.clock().now(), bus.echoes()));
        }
        bus.emit(ANNOUNCEMENT, &said);
    }

    /// Has what changed told soon.
    pub(super) fn tell_soon(&self, asks: bool, after: Duration) {
        let now = self.0.registry.bus().clock().now();
        let mut due = self.0.due.lock();
        let earliest = due.last.map_or(now, |(last, _)| last.saturating_add(GAP).max(now));
        let at = earliest.max(now.saturating_add(after));
        due.at = Some(due.at.map_or(at, |other| other.min(at)));
        due.asks |= asks;
        drop(due);
        self.0.wake.notify_one();
    }
}
