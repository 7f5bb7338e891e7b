//! What components promise, whether they keep it, and who is told when they do not.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::rounds::until_ended;
use super::{Monitor, Watched};
use crate::bus::{Bus, Spread, Tally, Watcher};
use crate::clock::Instant;
use crate::config::SlaSettings;
use crate::health::{BURN_RULES, Objective, Slo, Urgency};

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Events are handled.
    Availability,
    /// Handlers take at most so long.
    Latency(Duration),
    /// Events wait at most so long.
    Delay(Duration),
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            What::Availability => "availability",
            What::Latency(_) => "latency",
            What::Delay(_) => "delay",
        }
    }
}

/// How one promise is kept.
#[derive(Clone, Debug, Serialize)]
pub struct PromiseHealth {
    /// `availability`, `latency` or `delay`.
    pub objective: &'static str,
    /// The share of events for which it is to hold.
    pub target: f64,
    /// The share of the error budget of the period that is left; below zero when overdrawn.
    pub remaining: f64,
    /// How many times faster than allowed the budget goes, in the last hour; null for too few
    /// events.
    pub burn_rate: Option<f64>,
    /// `page`, `ticket` or null.
    pub alert: Option<&'static str>,
}

struct Promise {
    what: What,
    slo: Slo,
    alert: Option<Urgency>,
}

/// The promises of one component.
pub(super) struct Promises {
    all: Vec<Promise>,
    tally: Tally,
    spread: Spread,
}

/// An hour, the window that is shown.
const SHOWN: Duration = BURN_RULES[0].long;

impl Promises {
    pub(super) fn new(said: &SlaSettings) -> Promises {
        let all = [
            said.availability.map(|target| (What::Availability, target)),
            said.latency.map(|limit| (What::Latency(limit), said.target)),
            said.delay.map(|limit| (What::Delay(limit), said.target)),
        ];
        let promise = |(what, target)| {
            // The configuration was found valid.
            let objective = Objective::new(target, said.period, said.min_events).ok()?;
            Some(Promise { what, slo: Slo::new(objective), alert: None })
        };
        Promises {
            all: all.into_iter().flatten().filter_map(promise).collect(),
            tally: Tally::default(),
            spread: Spread::default(),
        }
    }

    /// Counts what happened since the last look; returns what is to be told of each alert that
    /// is another than before, with its topic.
    pub(super) fn look(
        &mut self,
        bus: &Bus,
        component: &str,
        now: Instant,
    ) -> Vec<(&'static str, serde_json::Value)> {
        let (tally, spread) = (bus.tally_of(component), bus.durations_of(component));
        let lost = |tally: &Tally| tally.dead_lettered + tally.dropped + tally.expired;
        let good = tally.delivered.saturating_sub(self.tally.delivered);
        let bad = lost(&tally).saturating_sub(lost(&self.tally));
        let ran = spread.since(&self.spread);
        (self.tally, self.spread) = (tally, spread);
        let mut news = Vec::new();
        for Promise { what, slo, alert } in &mut self.all {
            match *what {
                What::Availability => slo.record(now, good, bad),
                What::Latency(limit) => {
                    let within = ran.within(limit);
                    slo.record(now, within, ran.count() - within);
                }
                // Each look is one event: whether anything that was handled since, or waits, has
                // waited too long. Where there was nothing, it is none.
                What::Delay(limit) => {
                    if let Some(delay) = bus.delay_of(component, Watcher::Promise) {
                        let late = u64::from(delay > limit);
                        slo.record(now, 1 - late, late);
                    }
                }
            }
            let before = std::mem::replace(alert, slo.alert(now));
            if before != *alert {
                let topic = match alert {
                    Some(Urgency::Page) => "system.slo.page",
                    Some(Urgency::Ticket) => "system.slo.ticket",
                    None => "system.slo.ok",
                };
                let told = json!({
                    "component": component,
                    "objective": what.as_str(),
                    "target": slo.objective().target(),
                    "burn_rate": slo.burn(now, SHOWN),
                    "remaining": slo.remaining(now),
                    "from": before.map(Urgency::as_str),
                    "to": alert.map(Urgency::as_str),
                });
                news.push((topic, told));
            }
        }
        news
    }

    /// How each is kept.
    pub(super) fn health(&mut self, now: Instant) -> Vec<PromiseHealth> {
        let all = self.all.iter_mut().map(|Promise { what, slo, alert }| PromiseHealth {
            objective: what.as_str(),
            target: slo.objective().target(),
            remaining: slo.remaining(now),
            burn_rate: slo.burn(now, SHOWN),
            alert: alert.map(Urgency::as_str),
        });
        all.collect()
    }
}

impl Monitor {
    pub(super) fn promises_of(&self, component: &str) -> Option<Mutex<Promises>> {
        let config = self.0.registry.0.config.read();
        let entry = config.components().iter().find(|entry| entry.name == component)?;
        entry.sla.as_ref().map(|said| Mutex::new(Promises::new(said)))
    }

    pub(super) fn watch_promises(&self, watched: &Arc<Watched>, token: CancellationToken) {
        let gone = watched.gone.clone();
        let (inner, watched) = (Arc::downgrade(&self.0), Arc::downgrade(watched));
        let clock = self.0.registry.bus().clock().clone();
        let period = self.0.settings.check_interval;
        self.0.registry.0.spawner.spawn(Box::pin(async move {
            while until_ended(&token, &gone, clock.sleep(period)).await.is_some() {
                let (Some(inner), Some(watched)) = (inner.upgrade(), watched.upgrade()) else {
                    return;
                };
                Monitor(inner).look_at_promises(&watched);
            }
        }));
    }

    fn look_at_promises(&self, watched: &Watched) {
        let Some(promises) = &watched.promises else { return };
        let bus = self.0.registry.bus();
        let news = promises.lock().look(bus, watched.slot.name(), bus.clock().now());
        for (topic, told) in news {
            bus.emit(topic, &told);
            self.tell(watched);
        }
    }
}
