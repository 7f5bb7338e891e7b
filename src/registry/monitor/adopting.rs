//! What changes while the system runs: the limits of what is measured, and what is promised.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::promises::{Promises, Seen, promised_by};
use super::running::key_of;
use super::{Monitor, Phase, Source, Watched, measured};
use crate::config::{Config, MeasuredSettings};

impl Monitor {
    /// Takes on the limits and the promises of another revision. All else that section `health`
    /// says counts from the next start on.
    pub fn adopt(&self, config: &Config) {
        let limits = config.settings().health.limits.clone();
        let other = {
            let mut known = self.0.limits.lock();
            let other = *known != limits;
            known.clone_from(&limits);
            other
        };
        if other {
            self.0.process.limit(&self.0.settings, &limits);
            if self.phase() == Phase::Installed {
                self.0.process.run(self.0.registry.bus().clock());
                self.tell_of_process();
            }
        }
        let all: Vec<Arc<Watched>> = self.0.watched.lock().values().cloned().collect();
        for watched in all {
            if other {
                self.limit(&watched, &limits);
            }
            self.promise(&watched, config);
            if self.phase() == Phase::Installed {
                self.tell(&watched);
            }
        }
    }

    /// Has the checks of what is measured go by these limits. Those whose limits are others begin
    /// anew, and one of the component's own is left alone.
    pub(super) fn limit(&self, watched: &Arc<Watched>, limits: &MeasuredSettings) {
        let wanted = measured::of_component(&self.0.settings, limits);
        let (mut gone, mut new, mut measured) = (Vec::new(), Vec::new(), Vec::new());
        {
            let mut known = watched.known.lock();
            for at in (0..known.entries.len()).rev() {
                let entry = known.entries[at].clone();
                let Source::Measured(measure) = entry.source else { continue };
                measured.push(measure);
                let stays = |(other, check): &(measured::Measure, crate::health::Check)| {
                    *other == measure && check.limits == entry.check.limits
                };
                if !wanted.iter().any(stays) {
                    known.remove(at);
                    gone.push(entry.check.name.clone());
                }
            }
            for (measure, check) in wanted {
                if known.place_of(&check.name).is_none() {
                    new.push(known.push(&self.0.settings, check, Source::Measured(measure)));
                }
            }
        }
        for name in gone {
            watched.slot.relieve(&key_of(&name));
        }
        for entry in &new {
            // What there was before anybody asked for it is not judged.
            if let Source::Measured(measure) = entry.source
                && !measured.contains(&measure)
            {
                let _ = measure.take(self.0.registry.bus(), watched.slot.name(), &watched.before);
            }
        }
        let token = self.0.running.lock().clone();
        if let Some(token) = token.filter(|_| watched.looping.load(Ordering::Acquire)) {
            new.iter().for_each(|entry| self.spawn_loop(watched, entry, token.clone()));
        }
    }

    /// Has a component promise what this says. What it promised before in the same way goes on.
    fn promise(&self, watched: &Arc<Watched>, config: &Config) {
        let name = watched.slot.name();
        let said = promised_by(config, name);
        let bus = self.0.registry.bus();
        let delays = {
            let promises = watched.promises.lock();
            if promises.as_ref().map(Promises::said) == said.as_ref() {
                return;
            }
            promises.as_ref().is_some_and(Promises::has_delay)
        };
        // What has waited before a delay was promised is not held against it.
        let seen = Seen::of(bus, name, !delays);
        let news = {
            let mut promises = watched.promises.lock();
            let before = promises.take();
            let (next, news) = Promises::changed(said, before, seen, bus.clock().now(), name);
            *promises = next;
            news
        };
        for told in news {
            bus.emit("system.slo.ok", &told);
        }
        let token = self.0.running.lock().clone();
        if let Some(token) = token.filter(|_| watched.looping.load(Ordering::Acquire)) {
            self.watch_promises(watched, token);
        }
    }
}
