//! What components promise, whether they keep it, and who is told when they do not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::rounds::until_ended;
use super::{Monitor, Watched};
use crate::bus::{Bus, Spread, Tally, Watcher};
use crate::clock::Instant;
use crate::config::{Config, SlaSettings};
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

impl Promise {
    /// What is told of its alert, which was another one before.
    fn told(
        &mut self,
        component: &str,
        before: Option<Urgency>,
        now: Instant,
    ) -> serde_json::Value {
        json!({
            "component": component,
            "objective": self.what.as_str(),
            "target": self.slo.objective().target(),
            "burn_rate": self.slo.burn(now, SHOWN),
            "remaining": self.slo.remaining(now),
            "from": before.map(Urgency::as_str),
            "to": self.alert.map(Urgency::as_str),
        })
    }
}

/// The promises of one component.
pub(super) struct Promises {
    said: SlaSettings,
    all: Vec<Promise>,
    seen: Seen,
}

/// What was counted of the events of a component, asked for without a lock: handlers that have
/// ended are let go of there.
#[derive(Default)]
pub(super) struct Seen {
    tally: Tally,
    spread: Spread,
    /// The longest wait that is news.
    delay: Option<Duration>,
}

impl Seen {
    /// What there is by now; the delay where it is asked for, which is no news then any more.
    pub(super) fn of(bus: &Bus, component: &str, delay: bool) -> Seen {
        Seen {
            tally: bus.tally_of(component),
            spread: bus.durations_of(component),
            delay: delay.then(|| bus.delay_of(component, Watcher::Promise)).flatten(),
        }
    }
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
            said: said.clone(),
            all: all.into_iter().flatten().filter_map(promise).collect(),
            seen: Seen::default(),
        }
    }

    /// Whether it promises how long events wait.
    pub(super) fn has_delay(&self) -> bool {
        self.all.iter().any(|promise| matches!(promise.what, What::Delay(_)))
    }

    /// What was said.
    pub(super) fn said(&self) -> &SlaSettings {
        &self.said
    }

    /// What is promised from now on, instead of what was `before`: what stays the same goes on.
    /// Returns what is to be told of alerts that end by that, too.
    pub(super) fn changed(
        said: Option<SlaSettings>,
        before: Option<Promises>,
        seen: Seen,
        now: Instant,
        component: &str,
    ) -> (Option<Promises>, Vec<serde_json::Value>) {
        let mut next = said.as_ref().map(Promises::new);
        if let Some(next) = &mut next {
            next.seen = seen;
        }
        let mut news = Vec::new();
        for mut promise in before.into_iter().flat_map(|before| before.all) {
            let all = next.iter_mut().flat_map(|next| &mut next.all);
            let same = |other: &&mut Promise| {
                other.what == promise.what && other.slo.objective() == promise.slo.objective()
            };
            match { all }.find(same) {
                Some(place) => *place = promise,
                None => {
                    if let Some(alert) = promise.alert.take() {
                        news.push(promise.told(component, Some(alert), now));
                    }
                }
            }
        }
        (next, news)
    }

    /// Counts what happened since the last look; returns what is to be told of each alert that
    /// is another than before, with its topic.
    pub(super) fn look(
        &mut self,
        seen: Seen,
        component: &str,
        now: Instant,
    ) -> Vec<(&'static str, serde_json::Value)> {
        let before = std::mem::replace(&mut self.seen, seen);
        let Seen { tally, spread, delay } = &self.seen;
        let lost = |tally: &Tally| tally.dead_lettered + tally.dropped + tally.expired;
        let good = tally.delivered.saturating_sub(before.tally.delivered);
        let bad = lost(tally).saturating_sub(lost(&before.tally));
        let ran = spread.since(&before.spread);
        // What was handled inside of `publish` has not waited.
        let delay = delay.or((good > 0).then_some(Duration::ZERO));
        let mut news = Vec::new();
        for promise in &mut self.all {
            match promise.what {
                What::Availability => promise.slo.record(now, good, bad),
                What::Latency(limit) => {
                    let within = ran.within(limit);
                    promise.slo.record(now, within, ran.count() - within);
                }
                // Each look is one event: whether anything that was handled since, or waits, has
                // waited too long. Where there was nothing, it is none.
                What::Delay(limit) => {
                    if let Some(delay) = delay {
                        let late = u64::from(delay > limit);
                        promise.slo.record(now, 1 - late, late);
                    }
                }
            }
            let alert = promise.slo.alert(now);
            let before = std::mem::replace(&mut promise.alert, alert);
            if before != alert {
                let topic = match alert {
                    Some(Urgency::Page) => "system.slo.page",
                    Some(Urgency::Ticket) => "system.slo.ticket",
                    None => "system.slo.ok",
                };
                news.push((topic, promise.told(component, before, now)));
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

/// What a component promises by this configuration.
pub(super) fn promised_by(config: &Config, component: &str) -> Option<SlaSettings> {
    let entry = config.components().iter().find(|entry| entry.name == component)?;
    entry.sla.clone()
}

impl Monitor {
    pub(super) fn promises_of(&self, component: &str) -> Option<Promises> {
        promised_by(&self.0.registry.0.config.read(), component).as_ref().map(Promises::new)
    }

    /// Looks at what a component promises again and again, as long as it does and nobody else looks.
    pub(super) fn watch_promises(&self, watched: &Arc<Watched>, token: CancellationToken) {
        let idle = watched.promises.lock().is_none();
        if idle || watched.promising.swap(true, Ordering::AcqRel) {
            return;
        }
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
        let bus = self.0.registry.bus();
        let name = watched.slot.name();
        let Some(delays) = watched.promises.lock().as_ref().map(Promises::has_delay) else {
            return; // it promises nothing at present
        };
        let seen = Seen::of(bus, name, delays);
        let news = match &mut *watched.promises.lock() {
            Some(promises) => promises.look(seen, name, bus.clock().now()),
            None => return,
        };
        for (topic, told) in news {
            bus.emit(topic, &told);
            self.tell(watched);
        }
    }
}
