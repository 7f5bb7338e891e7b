//! Watching health: checks in the background, verdicts with memory, and what follows from them.

mod added;
mod adopting;
mod breakers;
mod broker;
mod lives;
mod measured;
mod promises;
mod report;
mod rounds;
mod running;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use self::measured::ProcessHealth;
use self::measured::{Before, Measure, ProcessWatch};
pub use self::promises::PromiseHealth;
use self::promises::Promises;
pub use self::report::{Look, Place, RemoteHealth, SystemHealth};
use super::directory::Registry;
use super::slot::Slot;
use crate::bus::Subscription;
use crate::clock::Instant;
use crate::config::{HealthSettings, MeasuredSettings};
use crate::health::{Check, CheckKind, CheckState, Escalation, Thresholds, Verdict};

/// The name of the check that [`Component::health_check`](super::Component::health_check) is.
const OWN_CHECK: &str = "health_check";

/// Watches the components of a registry; clones are handles to the same one.
#[derive(Clone)]
pub struct Monitor(Arc<Inner>);

struct Inner {
    registry: Registry,
    settings: HealthSettings,
    /// Those of the revision in force.
    limits: Mutex<MeasuredSettings>,
    watched: Mutex<HashMap<String, Arc<Watched>>>,
    /// Ends the loops of the present run.
    running: Mutex<Option<CancellationToken>>,
    /// Hear what the transport tells of itself, and components of their lives.
    ears: Mutex<Vec<Arc<Subscription>>>,
    phase: Mutex<Phase>,
    process: ProcessWatch,
    /// Told when a check has answered.
    answered: Notify,
}

/// How far the system is in its life, as probes ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its components are still to start.
    Expected,
    /// They were all told to start.
    Installed,
    /// They were told to stop.
    Ending,
}

/// A monitor that does not keep its system in being.
#[derive(Clone, Debug)]
pub struct WeakMonitor(Weak<Inner>);

impl WeakMonitor {
    /// The monitor, while there is one.
    pub fn upgrade(&self) -> Option<Monitor> {
        self.0.upgrade().map(Monitor)
    }
}

struct Watched {
    slot: Arc<Slot>,
    known: Mutex<Known>,
    /// What had been measured at the last look.
    before: Mutex<Before>,
    /// What it promises, if anything.
    promises: Mutex<Option<Promises>>,
    /// Whether somebody looks at that.
    promising: AtomicBool,
    /// Whether its loops run.
    looping: AtomicBool,
    /// The life that it is at work in, or was last: a new one has its checks asked at once.
    lives: watch::Sender<u64>,
    /// Ends its loops: it was taken out.
    gone: CancellationToken,
}

/// One check of a component.
struct Entry {
    check: Check,
    source: Source,
    /// Held while it runs: never twice at once.
    gate: tokio::sync::Mutex<()>,
    /// Ends its loop: it was taken out.
    gone: CancellationToken,
}

/// Who knows how it is.
enum Source {
    /// The component, which is asked.
    Asked,
    /// The core.
    Measured(Measure),
    /// The component, which tells; since when it has been silent.
    Told(Mutex<Instant>),
}

struct Known {
    /// The checks; with each, in the same place, what is known of it, and what is done about it.
    entries: Vec<Arc<Entry>>,
    states: Vec<CheckState>,
    escalations: Vec<Escalation>,
    /// The life of the component that the states are about.
    life: u64,
    /// What was told last.
    told: Verdict,
    /// Whether recovery ended; when the component is at work again, somebody started it.
    gave_up: bool,
}

impl Known {
    fn push(&mut self, settings: &HealthSettings, check: Check, source: Source) -> Arc<Entry> {
        self.states.push(CheckState::new(check.clone(), settings.history_length));
        // As many failures as make it a failure, whether the check says so or the configuration.
        self.escalations.push(Escalation::new(check.thresholds.fail, settings.recovery_attempts));
        let entry = Entry::new(check, source);
        self.entries.push(entry.clone());
        entry
    }

    /// Another check takes the place of one of its name. What was done about that goes on: a
    /// component that makes it anew with each start is given up for it in the end.
    fn replace(
        &mut self,
        at: usize,
        settings: &HealthSettings,
        check: Check,
        source: Source,
    ) -> Arc<Entry> {
        self.states[at] = self.states[at].replaced(check.clone(), settings.history_length);
        self.entries[at].gone.cancel();
        self.entries[at] = Entry::new(check, source);
        self.entries[at].clone()
    }

    /// One is no more.
    fn remove(&mut self, at: usize) {
        self.entries.remove(at).gone.cancel();
        self.states.remove(at);
        self.escalations.remove(at);
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.check.name == name)
    }

    /// Where `entry` is, unless it was removed.
    fn position(&self, entry: &Arc<Entry>) -> Option<usize> {
        self.entries.iter().position(|other| Arc::ptr_eq(other, entry))
    }
}

impl Entry {
    fn new(check: Check, source: Source) -> Arc<Entry> {
        let (gate, gone) = (tokio::sync::Mutex::default(), CancellationToken::new());
        Arc::new(Entry { check, source, gate, gone })
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("phase", &self.phase.lock()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("watched", &self.0.watched.lock().keys()).finish()
    }
}

impl Monitor {
    /// A monitor that does nothing yet.
    pub fn new(registry: Registry, settings: HealthSettings) -> Monitor {
        Monitor(Arc::new(Inner {
            process: ProcessWatch::new(&settings),
            registry,
            limits: Mutex::new(settings.limits.clone()),
            settings,
            watched: Mutex::default(),
            running: Mutex::default(),
            ears: Mutex::default(),
            phase: Mutex::new(Phase::Expected),
            answered: Notify::new(),
        }))
    }

    /// The same, for who must not keep it.
    pub fn downgrade(&self) -> WeakMonitor {
        WeakMonitor(Arc::downgrade(&self.0))
    }

    /// Whose health this is about.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// What section `health` says, as it was at the start.
    pub fn settings(&self) -> &HealthSettings {
        &self.0.settings
    }

    pub(super) fn phase(&self) -> Phase {
        *self.0.phase.lock()
    }

    /// Watches every component that is registered, each check by itself in the background: from
    /// when the component is at work.
    pub fn begin(&self) {
        let token = {
            let mut running = self.0.running.lock();
            if running.is_some() {
                return;
            }
            running.insert(CancellationToken::new()).clone()
        };
        if let Err(error) = self.watch_lives() {
            tracing::warn!(target: "tiebeam::health", "new lives of components are seen late: {error}");
        }
        for slot in self.0.registry.slots() {
            self.spawn_loops(&slot, &token);
        }
    }

    /// The same, and the process and the broker besides: all components were told to start. Those
    /// registered later are watched after [`Monitor::watch`].
    pub fn start(&self) {
        let before = std::mem::replace(&mut *self.0.phase.lock(), Phase::Installed);
        self.begin();
        let token = self.0.running.lock().clone();
        let Some(token) = token.filter(|_| before != Phase::Installed) else { return };
        self.watch_process(token);
        if let Err(error) = self.watch_broker() {
            tracing::warn!(target: "tiebeam::health", "trouble of the broker is seen late: {error}");
        }
    }

    /// Watches one more component while the monitor runs.
    pub fn watch(&self, slot: &Arc<Slot>) {
        let token = self.0.running.lock().clone();
        if let Some(token) = token {
            self.spawn_loops(slot, &token);
        }
    }

    /// Ends all loops; the last results stay.
    pub fn stop(&self) {
        *self.0.phase.lock() = Phase::Ending;
        if let Some(token) = self.0.running.lock().take() {
            token.cancel();
            for ear in std::mem::take(&mut *self.0.ears.lock()) {
                ear.cancel();
            }
            self.0.answered.notify_waiters();
            for watched in self.0.watched.lock().values() {
                watched.looping.store(false, Ordering::Release);
                watched.promising.store(false, Ordering::Release);
            }
        }
    }

    /// After a stop that was not for good: the components are still to start.
    pub fn expect_start(&self) {
        *self.0.phase.lock() = Phase::Expected;
    }

    /// Forgets a component that was unregistered; its loops end.
    pub fn forget(&self, name: &str) {
        if let Some(watched) = self.0.watched.lock().remove(name) {
            watched.gone.cancel();
            watched.known.lock().entries.iter().for_each(|entry| entry.gone.cancel());
        }
    }

    /// The figures kept for a component, made on first use.
    fn watched(&self, slot: &Arc<Slot>) -> Arc<Watched> {
        let mut all = self.0.watched.lock();
        let same = all.get(slot.name()).filter(|watched| Arc::ptr_eq(&watched.slot, slot));
        if let Some(watched) = same {
            return watched.clone();
        }
        let settings = &self.0.settings;
        // Not liveness: what a component says of itself is often about something else.
        let own = Check::builder(OWN_CHECK, CheckKind::Readiness)
            .period(settings.check_interval)
            .timeout(settings.check_timeout)
            .thresholds(health_thresholds(settings))
            .build();
        let mut known = Known {
            entries: Vec::new(),
            states: Vec::new(),
            escalations: Vec::new(),
            life: 0,
            told: Verdict::Unknown,
            gave_up: false,
        };
        for check in own.into_iter().chain(slot.component().checks()) {
            known.push(settings, check, Source::Asked);
        }
        let limits = self.0.limits.lock().clone();
        for (measure, check) in measured::of_component(settings, &limits) {
            // One of the component's own, of the same name, is meant instead.
            if known.place_of(&check.name).is_none() {
                known.push(settings, check, Source::Measured(measure));
            }
        }
        known.begin_anew(slot.with(|known| known.lives), false);
        let watched = Arc::new(Watched {
            slot: slot.clone(),
            known: Mutex::new(known),
            before: Mutex::default(),
            promises: Mutex::new(self.promises_of(slot.name())),
            promising: AtomicBool::new(false),
            looping: AtomicBool::new(false),
            lives: watch::Sender::new(0),
            gone: CancellationToken::new(),
        });
        all.insert(slot.name().to_owned(), watched.clone());
        watched
    }

    /// Tells when the verdict over a component is another than before.
    fn tell(&self, watched: &Watched) {
        self.look_at_breakers(&watched.slot);
        self.look_at_broker_for(&watched.slot);
        let health = self.verdict_of(watched);
        let before = {
            let mut known = watched.known.lock();
            if (known.told, health) == (Verdict::Unknown, Verdict::OutOfService) {
                return; // that it does not work yet is no news
            }
            std::mem::replace(&mut known.told, health)
        };
        if before != health {
            let change = json!({
                "component": watched.slot.name(),
                "from": before,
                "to": health,
                "status": watched.slot.state(),
                "reasons": self.reasons_of(watched),
            });
            watched.slot.emit("system.health.changed", &change);
        }
    }
}

/// How many results in a row change the verdict of a check that does not say so itself. Fewer
/// failures than the threshold change nothing.
pub fn health_thresholds(settings: &HealthSettings) -> Thresholds {
    let fail = settings.failure_threshold.max(1);
    Thresholds { success: settings.success_threshold.max(1), warn: fail, fail }
}
