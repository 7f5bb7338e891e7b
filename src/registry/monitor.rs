//! Watching health: checks in the background, verdicts with memory, and what follows from them.

mod broker;
mod report;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use futures_util::future::{BoxFuture, Either, join_all, select};
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use self::report::{Place, RemoteHealth, SystemHealth};
use super::component::HealthAnswer;
use super::directory::Registry;
use super::hook;
use super::record::What;
use super::slot::Slot;
use super::supervision::Cause;
use crate::bus::Subscription;
use crate::config::HealthSettings;
use crate::error::{Error, Kind, Result};
use crate::health::{
    Check, CheckKind, CheckState, Escalation, HealthReport, Outcome, Remedy, Thresholds, Verdict,
};
use crate::resilience::breaker;

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
}

struct Watched {
    slot: Arc<Slot>,
    checks: Vec<Check>,
    /// One for each check, held while it runs: never twice at once.
    gates: Vec<tokio::sync::Mutex<()>>,
    known: Mutex<Known>,
    /// Whether its loops run.
    looping: AtomicBool,
}

struct Known {
    states: Vec<CheckState>,
    escalations: Vec<Escalation>,
    /// What was told last.
    told: Verdict,
    /// Whether recovery ended; when the component is at work again, somebody started it.
    gave_up: bool,
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
            registry,
            settings,
            watched: Mutex::default(),
            running: Mutex::default(),
            ear: Mutex::default(),
        }))
    }

    /// Watches every component that is registered, each check by itself in the background.
    /// Those registered later are watched after [`Monitor::watch`] or another start.
    pub fn start(&self) {
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
        for index in 0..watched.checks.len() {
            let (inner, watched) = (Arc::downgrade(&self.0), Arc::downgrade(&watched));
            let clock = self.0.registry.bus().clock().clone();
            let token = token.clone();
            let Some(period) = watched.upgrade().map(|w| w.checks[index].period) else { continue };
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
                    if !run_due(&inner, &watched, index).await {
                        return;
                    }
                }
            }));
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
        let mut checks: Vec<Check> = own.into_iter().collect();
        checks.extend(slot.component().checks());
        let states =
            checks.iter().map(|check| CheckState::new(check.clone(), settings.history_length));
        // As many failures as make it a failure, whether the check says so or the configuration.
        let escalation =
            |check: &Check| Escalation::new(check.thresholds.fail, settings.recovery_attempts);
        let known = Known {
            states: states.collect(),
            escalations: checks.iter().map(escalation).collect(),
            told: Verdict::Unknown,
            gave_up: false,
        };
        let watched = Arc::new(Watched {
            slot: slot.clone(),
            gates: checks.iter().map(|_| tokio::sync::Mutex::default()).collect(),
            checks,
            known: Mutex::new(known),
            looping: AtomicBool::new(false),
        });
        all.insert(slot.name().to_owned(), watched.clone());
        watched
    }

    /// Runs every check of a component now, beside their schedule.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown name.
    pub async fn check_now(&self, name: &str) -> Result<HealthReport> {
        let watched = self.watched(&self.0.registry.get(name)?);
        join_all((0..watched.checks.len()).map(|index| self.run(&watched, index))).await;
        self.report(name)
    }

    /// Runs one check and does what follows from it. Nothing is asked of a component that is
    /// not at work.
    async fn run(&self, watched: &Watched, index: usize) {
        let (slot, check) = (&watched.slot, &watched.checks[index]);
        let _gate = watched.gates[index].lock().await;
        if slot.state().is_operational() {
            let clock = self.0.registry.bus().clock();
            let (at, at_ms) = (clock.now(), clock.unix_ms());
            let result =
                hook::run(clock, check.timeout, slot.name(), OWN_CHECK, || ask(slot, check)).await;
            let took = clock.now().saturating_since(at);
            // It stopped or was restarted meanwhile: this is about nobody any more.
            let same_life = slot.status().started.is_some_and(|started| started <= at);
            if slot.state().is_operational() && same_life {
                let outcome = outcome_of(result);
                let (step, remedy) = {
                    let mut known = watched.known.lock();
                    let step = known.states[index].record(at, at_ms, took, outcome.clone());
                    if std::mem::take(&mut known.gave_up) {
                        known.escalations.iter_mut().for_each(Escalation::passed);
                    }
                    // With what was measured judged, which the check itself did not do.
                    let raw = known.states[index].history().last().map(|record| record.raw);
                    let escalation = &mut known.escalations[index];
                    let remedy = match raw {
                        Some(Verdict::Fail) if restarts_help(check) => escalation.failed(),
                        Some(Verdict::Fail) => Remedy::Wait,
                        _ => {
                            escalation.passed();
                            Remedy::Wait
                        }
                    };
                    known.gave_up = remedy == Remedy::GiveUp;
                    (step.verdict, remedy)
                };
                self.follow(slot, check, step, &outcome, remedy);
            }
        }
        self.tell(watched);
    }

    fn follow(
        &self,
        slot: &Slot,
        check: &Check,
        verdict: Verdict,
        outcome: &Outcome,
        remedy: Remedy,
    ) {
        let key = format!("check:{}", check.name);
        let message = outcome.message.as_deref().unwrap_or(verdict.as_str());
        let passed = !matches!(verdict, Verdict::Warn | Verdict::Fail | Verdict::OutOfService);
        let cause = if passed {
            slot.with(|known| {
                known.changed = None;
                known.passes = known.passes.saturating_add(1);
            });
            None
        } else {
            let changed = slot.with(|known| {
                known.passes = 0;
                known.changed
            });
            let text = format!("check {} did not pass: {message}", check.name);
            Some(slot.note(What::Check, text, changed))
        };
        self.0.registry.look_at_dependency(slot.name());
        match check.criticality.contribution(verdict) {
            Verdict::Warn | Verdict::Fail | Verdict::OutOfService => {
                slot.degrade(&key, format!("{}: {message}", check.name), |_| cause);
            }
            Verdict::Pass | Verdict::Unknown => {
                slot.relieve(&key);
            }
        }
        let error = || {
            let text = format!("`{}` is unhealthy: {}: {message}", slot.name(), check.name);
            let error = Error::new(Kind::Transient, "health check", text);
            error.with("component", slot.name()).with("hook", OWN_CHECK)
        };
        // Both fail only for a component that is gone.
        let _ = match remedy {
            Remedy::Wait => Ok(true),
            Remedy::Recover { .. } => {
                self.0.registry.failed_because(slot.name(), Cause::Watchdog, error(), cause)
            }
            Remedy::GiveUp => {
                self.0.registry.give_up_because(slot.name(), error(), cause).map(|()| true)
            }
        };
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

    /// A component whose handler is behind an open breaker is degraded until that closes.
    fn look_at_breakers(&self, slot: &Slot) {
        let breakers = self.breakers(slot);
        for (name, _) in breakers.iter().filter(|(_, s)| matches!(*s, "open" | "forced_open")) {
            let text = format!("circuit breaker of {name} is open");
            slot.degrade(&format!("breaker:{name}"), text, |record| {
                record.last(slot.name(), |e| e.what == What::Breaker).map(|entry| entry.id)
            });
        }
        for key in slot.status().degradations.keys() {
            let Some(name) = key.strip_prefix("breaker:") else { continue };
            // Half-open is not closed: it stays degraded until a probe has succeeded.
            let shut = |state: &str| matches!(state, "open" | "half_open" | "forced_open");
            if !breakers.iter().any(|(other, state)| other == name && shut(state)) {
                slot.relieve(key);
            }
        }
    }

    fn breakers(&self, slot: &Slot) -> Vec<(String, &'static str)> {
        let subscriptions = self.0.registry.bus().subscriptions();
        let own =
            subscriptions.iter().filter(|s| s.component().is_some_and(|c| **c == *slot.name()));
        own.filter_map(|s| {
            let guard = s.options().policy.guard.as_ref()?;
            let state: breaker::State = guard.breaker().state();
            Some((s.name().to_owned(), state.as_str()))
        })
        .collect()
    }
}

/// How many results in a row change the verdict of a check that does not say so itself. Fewer
/// failures than the threshold change nothing.
pub fn health_thresholds(settings: &HealthSettings) -> Thresholds {
    let fail = settings.failure_threshold.max(1);
    Thresholds { success: settings.success_threshold.max(1), warn: fail, fail }
}

/// Restarting mends the component itself, not what it depends on and not a shortage.
fn restarts_help(check: &Check) -> bool {
    use crate::health::Criticality;
    let outside = [CheckKind::Dependency, CheckKind::Resource];
    check.criticality == Criticality::Critical && !outside.contains(&check.kinds[0])
}

fn ask<'a>(slot: &'a Slot, check: &'a Check) -> BoxFuture<'a, Result<HealthAnswer>> {
    if check.name == OWN_CHECK {
        slot.component().health_check()
    } else {
        slot.component().run_check(&check.name)
    }
}

fn outcome_of(result: Result<HealthAnswer>) -> Outcome {
    match result {
        Ok(HealthAnswer { verdict, message, value, details }) => {
            Outcome { verdict: Some(verdict), message, value, details }
        }
        Err(error) => Outcome::new(Verdict::Fail).with_message(error.message()),
    }
}

/// One scheduled run; false when there is nobody left to run it for.
async fn run_due(inner: &Weak<Inner>, watched: &Weak<Watched>, index: usize) -> bool {
    let (Some(inner), Some(watched)) = (inner.upgrade(), watched.upgrade()) else { return false };
    Monitor(inner).run(&watched, index).await;
    true
}
