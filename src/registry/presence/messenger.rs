//! Telling others of us, and listening to what they tell.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::announcement::{Announcement, Told, cut};
use super::inquiry::QUESTION;
use super::others::{Others, Service};
use super::table::{Entry, Heard};
use crate::bus::{Executor, Options, Role, Subscription};
use crate::clock::{Clock, Instant};
use crate::config::PresenceSettings;
use crate::error::Result;
use crate::event::Event;
use crate::registry::{Monitor, Registry};

/// What a process says of itself.
pub(super) const ANNOUNCEMENT: &str = "system.presence.announcement";

/// The least time between two announcements: what changes together is told together.
const GAP: Duration = Duration::from_millis(50);

/// Who is new is answered within this, by each process at a moment of its own.
const SPREAD_MS: u64 = 40;

/// What names this process to others.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The machine; looked up where it is empty.
    pub host: String,
    /// The process there.
    pub pid: u32,
}

/// What a framework tells others of itself, and hears of them; clones are handles to the same
/// one.
#[derive(Clone)]
pub struct Presence(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) registry: Registry,
    pub(super) monitor: Monitor,
    pub(super) others: Others,
    /// What does not change in what we say.
    we: Announcement,
    interval: Duration,
    number: AtomicU64,
    ignored: AtomicU64,
    ears: Mutex<Vec<Arc<Subscription>>>,
    running: Mutex<Option<CancellationToken>>,
    wake: Arc<Notify>,
    due: Mutex<Due>,
    known: Mutex<Known>,
}

/// What is to be told, and when.
#[derive(Debug, Default)]
struct Due {
    /// When to announce, if before the interval is over.
    at: Option<Instant>,
    /// Whether everybody is to be asked.
    asks: bool,
    /// When we announced last, and how often we had heard ourselves by then.
    last: Option<(Instant, u64)>,
    /// When we last looked.
    looked: Option<Instant>,
}

/// What is announced.
#[derive(Clone, Copy, Debug)]
enum Word {
    /// We are here; whether all are asked for theirs, and whether all our subscriptions are read.
    Here { asks: bool, read: bool },
    /// We are gone.
    Goodbye,
}

/// What others are known to have, as it was told here.
#[derive(Debug, Default)]
struct Known {
    ready: HashMap<(Arc<str>, String), Service>,
    /// Since when somebody of a name can take work.
    since: HashMap<String, Instant>,
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("we", &self.0.we.instance).finish_non_exhaustive()
    }
}

impl Presence {
    /// The presence of what `registry` holds; nothing is told yet.
    pub fn new(
        registry: Registry,
        monitor: Monitor,
        settings: &PresenceSettings,
        who: Identity,
    ) -> Presence {
        let (bus, clock) = (registry.bus().clone(), registry.bus().clock().clone());
        let instance = match (settings.instance.as_str(), bus.address()) {
            ("", Some(address)) => Arc::from(address),
            // In virtual time every run is the same run.
            ("", None) if clock.is_virtual() => Arc::from("virtual"),
            ("", None) => format!("{:016x}", fastrand::u64(..)).into(),
            (given, _) => Arc::from(given),
        };
        let system = registry.0.config.read().settings().system.clone();
        let we = Announcement {
            instance,
            incarnation: u64::try_from(clock.unix_ms()).unwrap_or_default(),
            number: 0,
            system: system.name,
            version: system.version,
            host: if who.host.is_empty() { host() } else { who.host },
            pid: who.pid,
            lease: settings.lease.as_secs_f64(),
            asks: false,
            leaves: false,
            components: Vec::new(),
        };
        Presence(Arc::new(Inner {
            others: registry.0.others.clone(),
            registry,
            monitor,
            we,
            interval: settings.interval,
            number: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            ears: Mutex::default(),
            running: Mutex::default(),
            wake: Arc::default(),
            due: Mutex::default(),
            known: Mutex::default(),
        }))
    }

    /// What names this process to others.
    pub fn instance(&self) -> &Arc<str> {
        &self.0.we.instance
    }

    /// How many announcements could not be read, or found no room.
    pub fn ignored(&self) -> u64 {
        self.0.ignored.load(Ordering::Relaxed)
    }

    /// Announces this process from now on, and listens to others; nothing on a bus that reaches
    /// no other process.
    ///
    /// # Errors
    /// As [`Bus::subscribe`](crate::bus::Bus::subscribe).
    pub fn start(&self) -> Result<()> {
        let bus = self.0.registry.bus();
        if !bus.capabilities().shared {
            return Ok(());
        }
        let token = {
            let mut running = self.0.running.lock();
            if running.is_some() {
                return Ok(());
            }
            running.insert(CancellationToken::new()).clone()
        };
        for (name, pattern) in [
            ("tiebeam.presence", "system.presence.*"),
            ("tiebeam.presence.states", "system.component.*"),
            ("tiebeam.presence.health", "system.health.changed"),
            ("tiebeam.presence.transport", "system.transport.connected"),
        ] {
            let abroad = pattern == "system.presence.*";
            let options = Options { capacity: 1, internal: true, abroad, ..Options::named(name) };
            let ear = Arc::new(Ear(Arc::downgrade(&self.0)));
            self.0.ears.lock().push(bus.subscribe(pattern, options, ear)?);
        }
        {
            let mut due = self.0.due.lock();
            (due.at, due.asks) = (Some(bus.clock().now()), true);
        }
        let (inner, wake) = (Arc::downgrade(&self.0), self.0.wake.clone());
        let clock = bus.clock().clone();
        self.0.registry.0.spawner.spawn(Box::pin(keep(inner, wake, clock, token)));
        Ok(())
    }

    /// Says goodbye, and listens no more. Idempotent.
    pub fn leave(&self) {
        let Some(token) = self.0.running.lock().take() else { return };
        token.cancel();
        self.announce(Word::Goodbye);
        let ears = std::mem::take(&mut *self.0.ears.lock());
        ears.iter().for_each(|ear| {
            ear.cancel();
        });
    }

    /// Every component of this process and, where `remote`, of all others.
    pub fn services(&self, remote: bool) -> Vec<Service> {
        let (clock, we) = (self.0.registry.bus().clock(), &self.0.we);
        let slots = self.0.registry.slots();
        let mut services: Vec<Service> = self
            .told()
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
        let subscriptions = bus.subscriptions();
        let reports = self.0.monitor.brief();
        let tell = |slot: &Arc<crate::registry::Slot>| {
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
            cut(&mut cause, super::announcement::MAX_CAUSE);
            let responds = subscriptions.iter().filter(|s| {
                s.options().role == Role::Responder
                    && s.component().is_some_and(|name| **name == *slot.name())
            });
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

    fn announce(&self, word: Word) {
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
    fn tell_soon(&self, asks: bool, after: Duration) {
        let now = self.0.registry.bus().clock().now();
        let mut due = self.0.due.lock();
        let earliest = due.last.map_or(now, |(last, _)| last.saturating_add(GAP).max(now));
        let at = earliest.max(now.saturating_add(after));
        due.at = Some(due.at.map_or(at, |other| other.min(at)));
        due.asks |= asks;
        drop(due);
        self.0.wake.notify_one();
    }

    /// Does what is due, and says when the next thing is.
    async fn turn(&self) -> Instant {
        let bus = self.0.registry.bus();
        let clock = bus.clock();
        self.listen_to_ourselves(clock.now());
        let (due, asks) = {
            let mut due = self.0.due.lock();
            let now = clock.now();
            let regular =
                due.last.is_none_or(|(last, _)| now >= last.saturating_add(self.0.interval));
            let is_due = regular || due.at.is_some_and(|at| now >= at);
            if is_due {
                due.at = None;
            }
            (is_due, is_due && std::mem::take(&mut due.asks))
        };
        if due {
            // What we call ready is read: whoever hears of it may publish to it at once. What the
            // broker refuses to have read is told elsewhere, and is no reason to wait.
            let read = clock.timeout(self.0.interval, bus.ready()).await.is_ok();
            if self.0.running.lock().is_some() {
                self.announce(Word::Here { asks, read });
            }
        }
        let now = clock.now();
        let over = self.0.others.with(|table| table.pass(now, self.0.interval));
        let steady = self.act(&over, now);
        let due = self.0.due.lock();
        let regular = due.last.map_or(now, |(last, _)| last.saturating_add(self.0.interval));
        let pass = self.0.others.with(|table| table.next_pass());
        [due.at, pass, steady].into_iter().flatten().fold(regular, Instant::min)
    }

    /// Silence means something only as long as we hear what we say ourselves.
    fn listen_to_ourselves(&self, now: Instant) {
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
        let deaf = bus.trouble().is_some() || stood_still || unheard;
        let changed = self.0.others.with(|table| {
            let before = table.is_deaf();
            match deaf {
                true => table.deafen(),
                false if last.is_some_and(|(_, echoes)| bus.echoes() > echoes) => table.listen(now),
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
    fn act(&self, over: &[Entry], now: Instant) -> Option<Instant> {
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

    fn hear(&self, event: &Event) {
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

/// Until `token` ends it, or there is nobody left.
async fn keep(inner: Weak<Inner>, wake: Arc<Notify>, clock: Clock, token: CancellationToken) {
    loop {
        let woken = wake.notified();
        let next = {
            let Some(inner) = inner.upgrade() else { return };
            let presence = Presence(inner);
            let turn = presence.turn();
            let cancelled = token.cancelled();
            futures_util::pin_mut!(turn, cancelled);
            match select(turn, cancelled).await {
                Either::Left((next, _)) => next,
                Either::Right(_) => return,
            }
        };
        let (sleep, cancelled) = (clock.sleep_until(next), token.cancelled());
        futures_util::pin_mut!(woken, cancelled);
        if let Either::Right((Either::Right(_), _)) = select(sleep, select(woken, cancelled)).await
        {
            return;
        }
    }
}

/// Hears inside `publish`, or where the transport brings what it reads; it is short.
struct Ear(Weak<Inner>);

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ear")
    }
}

impl Executor for Ear {
    fn schedule(&self, _subscription: &Arc<Subscription>) {}

    fn is_inline(&self) -> bool {
        true
    }

    fn run_inline(&self, subscription: &Arc<Subscription>, event: &Arc<Event>) {
        if let Some(inner) = self.0.upgrade() {
            let presence = Presence(inner);
            match event.topic.as_str() {
                ANNOUNCEMENT => presence.hear(event),
                QUESTION => presence.answer(event),
                "system.transport.connected" => presence.tell_soon(true, Duration::ZERO),
                _ => presence.tell_soon(false, Duration::ZERO),
            }
        }
        subscription.handled_inline(event);
    }

    fn describe(&self) -> &'static str {
        "core"
    }
}

/// What this machine calls itself.
fn host() -> String {
    let asked = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = asked.ok().or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let mut name = name.trim().to_owned();
    cut(&mut name, 64);
    if name.is_empty() { "unknown".into() } else { name }
}
