//! Watching health: checks in the background, verdicts with memory, and what follows from them.

mod added;
mod breakers;
mod broker;
mod measured;
mod promises;
mod report;
mod running;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use serde_json::json;
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
use crate::config::HealthSettings;
use crate::health::{Check, CheckKind, CheckState, Escalation, Thresholds, Verdict};

/// The name of the check that [`Component::health_check`](super::Component::health_check) is.
const OWN_CHECK: &str = "health_check";

/// Watches the components of a registry; clones are handles to the same one.
#[derive(Clone)]
pub struct Monitor(Arc<Inner>);

struct Inner {
    registry: Registry,
    settings: HealthSettings,
    watched: Mutex<HashMap<String, Arc<Watched>>>,
    /// Ends the loops of the present run.
    running: Mutex<Option<CancellationToken>>,
    /// Hears what the transport tells of itself.
    ear: Mutex<Option<Arc<Subscription>>>,
    phase: Mutex<Phase>,
    process: ProcessWatch,
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
    promises: Option<Mutex<Promises>>,
    /// Whether its loops run.
    looping: AtomicBool,
}

/// One check of a component.
struct Entry {
    check: Check,
    source: Source,
    /// Held while it runs: never twice at once.
    gate: tokio::sync::Mutex<()>,
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
        let entry = Arc::new(Entry { check, source, gate: tokio::sync::Mutex::default() });
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
        self.states[at] = CheckState::new(check.clone(), settings.history_length);
        self.entries[at] = Arc::new(Entry { check, source, gate: tokio::sync::Mutex::default() });
        self.entries[at].clone()
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.check.name == name)
    }

    /// Where `entry` is, unless it was removed.
    fn position(&self, entry: &Arc<Entry>) -> Option<usize> {
        self.entries.iter().position(|other| Arc::ptr_eq(other, entry))
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
            settings,
            watched: Mutex::default(),
            running: Mutex::default(),
            ear: Mutex::default(),
            phase: Mutex::new(Phase::Expected),
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

    pub(super) fn phase(&self) -> Phase {
        *self.0.phase.lock()
    }

    /// Watches every component that is registered, each check by itself in the background.
    /// Those registered later are watched after [`Monitor::watch`] or another start.
    pub fn start(&self) {
        *self.0.phase.lock() = Phase::Installed;
        let mut running = self.0.running.lock();
        if running.is_some() {
            return;
        }
        let token = CancellationToken::new();
        *running = Some(token.clone());
        drop(running);
        for slot in self.0.registry.slots() {
            self.spawn_loops(&slot, &token);
        }
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
            if let Some(ear) = self.0.ear.lock().take() {
                ear.cancel();
            }
            for watched in self.0.watched.lock().values() {
                watched.looping.store(false, Ordering::Release);
            }
        }
    }

    /// Forgets a component that was unregistered; its loops end.
    pub fn forget(&self, name: &str) {
        self.0.watched.lock().remove(name);
    }

    fn spawn_loops(&self, slot: &Arc<Slot>, token: &CancellationToken) {
        let watched = self.watched(slot);
        if watched.looping.swap(true, Ordering::AcqRel) {
            return;
        }
        let entries = watched.known.lock().entries.clone();
        for entry in entries {
            self.spawn_loop(&watched, &entry, token.clone());
        }
        if watched.promises.is_some() {
            self.watch_promises(&watched, token.clone());
        }
    }

    fn spawn_loop(&self, watched: &Arc<Watched>, entry: &Arc<Entry>, token: CancellationToken) {
        if let Source::Told(_) = entry.source {
            return self.spawn_silence(watched, entry, token);
        }
        let period = entry.check.period;
        let weak = (Arc::downgrade(&self.0), Arc::downgrade(watched), Arc::downgrade(entry));
        let clock = self.0.registry.bus().clock().clone();
        self.0.registry.0.spawner.spawn(Box::pin(async move {
            let mut due = clock.now();
            loop {
                // Always a whole number of periods: after a slow run or a gap (suspend)
                // what was missed is skipped, and the phase stays.
                let late = clock.now().saturating_since(due).as_nanos();
                let periods = (late / period.as_nanos() + 1).min(u128::from(u32::MAX)) as u32;
                due = due.saturating_add(period.saturating_mul(periods));
                let sleep = clock.sleep_until(due);
                let cancelled = token.cancelled();
                futures_util::pin_mut!(cancelled);
                if let Either::Right(_) = select(sleep, cancelled).await {
                    return;
                }
                if !run_due(&weak).await {
                    return;
                }
            }
        }));
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
            told: Verdict::Unknown,
            gave_up: false,
        };
        for check in own.into_iter().chain(slot.component().checks()) {
            known.push(settings, check, Source::Asked);
        }
        for (measure, check) in measured::of_component(settings) {
            // One of the component's own, of the same name, is meant instead.
            if known.place_of(&check.name).is_none() {
                known.push(settings, check, Source::Measured(measure));
            }
        }
        let watched = Arc::new(Watched {
            slot: slot.clone(),
            known: Mutex::new(known),
            before: Mutex::default(),
            promises: self.promises_of(slot.name()),
            looping: AtomicBool::new(false),
        });
        all.insert(slot.name().to_owned(), watched.clone());
        watched
    }

    /// Tells when the verdict over a component is another than before.
    fn tell(&self, watched: &Watched) {
        self.look_at_breakers(&watched.slot);
        self.look_at_broker_for(&watched.slot);
        let report = self.report_of(watched, None);
        let before = std::mem::replace(&mut watched.known.lock().told, report.health);
        if before != report.health {
            let change = json!({
                "component": report.component_id,
                "from": before,
                "to": report.health,
                "status": report.status,
                "reasons": report.details.get("reasons").unwrap_or(&json!([])),
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

/// One scheduled run; false when there is nobody left to run it for.
async fn run_due((inner, watched, entry): &(Weak<Inner>, Weak<Watched>, Weak<Entry>)) -> bool {
    let (Some(inner), Some(watched), Some(entry)) =
        (inner.upgrade(), watched.upgrade(), entry.upgrade())
    else {
        return false;
    };
    Monitor(inner).run(&watched, &entry).await;
    true
}
