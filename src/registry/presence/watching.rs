//! Listening to what others tell: who is there, who is gone, and what follows from that here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::announcement::Announcement;
use super::messenger::Presence;
use super::others::Service;
use super::table::{Entry, Heard};
use crate::clock::Instant;
use crate::event::Event;

/// Who is new is answered within this, by each process at a moment of its own.
const SPREAD_MS: u64 = 40;

/// What others are known to have, as it was told here.
#[derive(Debug, Default)]
pub(super) struct Known {
    ready: HashMap<(Arc<str>, String), Service>,
    /// Since when somebody of a name can take work.
    since: HashMap<String, Instant>,
}

impl Presence {
    /// Silence means something only as long as we hear what we say ourselves.
    pub(super) fn listen_to_ourselves(&self, now: Instant) {
        let bus = self.0.registry.bus();
        let (last, looked) = {
            let mut due = self.0.due.lock();
            (due.last, due.looked.replace(now))
        };
        let stood_still =
            looked.is_some_and(|at| now.saturating_since(at) > self.0.interval.saturating_mul(2));
        let unheard = last.is_some_and(|(at, echoes)| {
            bus.echoes() <= echoes && now.saturating_since(at) >= self.0.interval
        });
        let echoed = last.is_some_and(|(_, echoes)| bus.echoes() > echoes);
        // Trouble may be that of one subscription alone; what came back came all the way.
        let deaf = (bus.trouble().is_some() && !echoed) || stood_still || unheard;
        let changed = self.0.others.with(|table| {
            let before = table.is_deaf();
            match deaf {
                true => table.deafen(),
                false if echoed => table.listen(now),
                false => {}
            }
            before != table.is_deaf()
        });
        if changed && deaf {
            tracing::warn!(
                target: "tiebeam::presence",
                "this process does not hear what it says over the broker: until it does, nobody \
                 who is silent counts as gone"
            );
        }
    }

    /// Tells here what became of others, and does what follows from that; says when more may.
    pub(super) fn act(&self, over: &[Entry], now: Instant) -> Option<Instant> {
        let services = self.0.others.services();
        let ready: HashMap<(Arc<str>, String), Service> = services
            .iter()
            .filter(|service| service.is_ready())
            .map(|s| ((s.instance.clone(), s.told.name.clone()), s.clone()))
            .collect();
        let (mut found, mut lost) = (Vec::new(), Vec::new());
        let since = {
            let mut known = self.0.known.lock();
            found.extend(ready.iter().filter(|(key, _)| !known.ready.contains_key(*key)));
            known.ready.retain(|key, service| {
                let stays = ready.contains_key(key);
                if !stays {
                    lost.push(service.clone());
                }
                stays
            });
            known.ready.extend(found.iter().map(|(key, s)| ((*key).clone(), (*s).clone())));
            let names: HashSet<&String> = ready.keys().map(|(_, name)| name).collect();
            known.since.retain(|name, _| names.contains(name));
            for name in names {
                known.since.entry(name.clone()).or_insert(now);
            }
            known.since.clone()
        };
        let bus = self.0.registry.bus();
        for (_, service) in &found {
            tracing::info!(
                target: "tiebeam::presence",
                service = service.told.name.as_str(), host = service.host.as_str(), pid = service.pid,
                "a service is there"
            );
            bus.emit_here("system.service_discovered", service);
        }
        for service in &lost {
            let there = services.iter().find(|other| {
                other.instance == service.instance && other.told.name == service.told.name
            });
            let expired = over.iter().any(|entry| entry.said.instance == service.instance);
            let (reason, cause) = match there {
                Some(there) => ("not_ready", format!("{} {}", there.told.state, there.told.cause)),
                None if expired => ("lease", "its process fell silent".to_owned()),
                None => ("goodbye", "its process stopped".to_owned()),
            };
            let cause = cause.trim_end();
            tracing::warn!(
                target: "tiebeam::presence",
                service = service.told.name.as_str(), host = service.host.as_str(), pid = service.pid,
                reason, "a service is gone: {cause}"
            );
            let mut told = json!(service);
            (told["reason"], told["cause"]) = (json!(reason), json!(cause));
            bus.emit_here("system.service_lost", &told);
        }
        if !over.is_empty() {
            self.0.others.changed();
        }
        let steady = |name: &str| {
            since.get(name).is_some_and(|at| now.saturating_since(*at) >= self.0.interval)
        };
        self.0.registry.look_elsewhere(&steady);
        since.values().map(|at| at.saturating_add(self.0.interval)).filter(|at| *at > now).min()
    }

    pub(super) fn hear(&self, event: &Event) {
        let size = event.payload.len();
        let said = match Announcement::read(event.payload.to_json_value(), size) {
            Ok(said) => said,
            Err(why) => return self.ignore(&format!("no announcement: {why}")),
        };
        if said.instance == self.0.we.instance {
            if said.incarnation > self.0.we.incarnation {
                self.ignore(&format!(
                    "process {} on {} announces itself as `{}`, as this one does; give each its \
                     own `service_registry.presence.instance`",
                    said.pid, said.host, said.instance
                ));
            }
            return;
        }
        let (asks, clock) = (said.asks, self.0.registry.bus().clock());
        let heard = self.0.others.with(|table| table.hear(said, clock.now(), clock.unix_ms()));
        match heard {
            Heard::Full => self.ignore("too many processes announce themselves"),
            Heard::Stale | Heard::Renewed => {}
            Heard::New | Heard::Anew | Heard::Changed | Heard::Left => {
                self.0.others.changed();
                self.0.wake.notify_one();
            }
        }
        if asks && heard != Heard::Stale {
            let own = self.0.we.instance.bytes().fold(self.0.we.incarnation, |seed, byte| {
                seed.wrapping_mul(31).wrapping_add(u64::from(byte))
            });
            self.tell_soon(false, Duration::from_millis(own % SPREAD_MS));
        }
    }

    fn ignore(&self, why: &str) {
        let times = self.0.ignored.fetch_add(1, Ordering::Relaxed) + 1;
        // What comes again and again is told less and less often.
        if times.is_power_of_two() {
            tracing::warn!(target: "tiebeam::presence", times, "ignored: {why}");
        }
    }
}
