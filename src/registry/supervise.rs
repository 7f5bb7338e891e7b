//! Carrying out what a [`Supervisor`] decides: restarts, and giving up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use serde::Serialize;

use super::directory::Registry;
use super::graph::StartPlan;
use super::slot::Slot;
use super::start::Outcome;
use super::supervision::{Cause, Strategy, Supervisor, Verdict, default_backoff};
use crate::error::{Error, Kind, Result};
use crate::lifecycle::State;

/// The payload of `system.supervisor.restarting` and `system.supervisor.gave_up`.
#[derive(Serialize)]
struct Notice<'a> {
    component: &'a str,
    cause: Cause,
    error: String,
    attempt: Option<u32>,
    after_ms: u64,
}

impl Registry {
    /// A component that was at work has failed with `error`. It is failed at once; what comes
    /// then is supervision's, in the background. False if it was not at work, or supervision is
    /// at work on it already.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown name.
    pub fn component_failed(&self, name: &str, cause: Cause, error: Error) -> Result<bool> {
        let slot = self.get(name)?;
        if slot.recovering.swap(true, Ordering::AcqRel) {
            return Ok(false);
        }
        if !slot.fail_at_work(error, "restart") {
            slot.recovering.store(false, Ordering::Release);
            return Ok(false);
        }
        let registry = self.clone();
        self.0.spawner.spawn(Box::pin(async move {
            registry.recover(&slot, cause).await;
            slot.recovering.store(false, Ordering::Release);
        }));
        Ok(true)
    }

    /// Gives a component up for good: whatever else was tried did not help.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown name.
    pub fn give_up(&self, name: &str, error: Error) -> Result<()> {
        let slot = self.get(name)?;
        slot.fail_at_work(error, "give_up");
        let registry = self.clone();
        self.0.spawner.spawn(Box::pin(async move {
            let Ok(plan) = registry.plan() else { return };
            registry.tell_wanting(&slot, &plan);
            registry.give_up_now(&slot, &plan, Cause::Watchdog, &[]).await;
        }));
        Ok(())
    }

    /// Carries verdicts out until the component runs, is left alone or is given up.
    async fn recover(&self, slot: &Arc<Slot>, mut cause: Cause) {
        let Ok(plan) = self.plan() else { return };
        let supervisor = self.supervisor_of(slot.name());
        let group = self.0.options.supervision.strategy != Strategy::OneForOne;
        loop {
            let why = slot.status().cause;
            self.tell_wanting(slot, &plan);
            self.park_dependents(slot, &plan, &why).await;
            let members = self.members(slot, &plan, group);
            let order: Vec<&str> = members.iter().map(String::as_str).collect();
            let now = self.0.clock.now();
            let verdict = supervisor.lock().on_exit(slot.name(), cause, now, &order);
            let (stop, affected, after, attempt) = match verdict {
                Verdict::Leave => return,
                Verdict::GiveUp { stop, .. } => {
                    return self.give_up_now(slot, &plan, cause, &stop).await;
                }
                Verdict::Restart { stop, affected, after, attempt } => {
                    (stop, affected, after, attempt)
                }
            };
            let notice = Notice {
                component: slot.name(),
                cause,
                error: why.clone(),
                attempt: Some(attempt),
                after_ms: after.as_millis() as u64,
            };
            slot.emit("system.supervisor.restarting", &notice);
            self.stop_several(&stop, &format!("restarting with {}", slot.name())).await;
            // A failed stop is told as an event; the start that follows is the better news.
            let until = self.0.clock.now().saturating_add(self.0.options.service_timeout);
            let _ = self.stop_one(slot, until, &format!("restarting: {why}")).await;
            self.0.clock.sleep(after).await;
            if self.is_closing() || !slot.with(|known| known.wanted) {
                return;
            }
            slot.with(|known| known.restarts += 1);
            let results = self.start_set(&plan, affected).await;
            let own = results.iter().find(|(name, _)| name == slot.name());
            match own.map(|(_, outcome)| outcome) {
                Some(Outcome::Failed(error)) => {
                    cause = match error.kind() {
                        Kind::Timeout => Cause::Timeout,
                        _ => Cause::Error,
                    };
                }
                Some(Outcome::Up) => {
                    supervisor.lock().on_running(slot.name(), self.0.clock.now());
                    return self.resume(&plan).await;
                }
                // Blocked: it comes back with what it depends on. Interrupted: somebody else's.
                Some(Outcome::Blocked(_) | Outcome::Interrupted) | None => return,
            }
        }
    }

    /// The stop hook runs, and the component ends as failed, with the cause.
    async fn give_up_now(&self, slot: &Arc<Slot>, plan: &StartPlan, cause: Cause, stop: &[String]) {
        let error = slot.status();
        let why = format!("gave up: {}", error.cause);
        slot.with(|known| known.given_up = true);
        self.stop_several(stop, &format!("{} was given up", slot.name())).await;
        self.park_dependents(slot, plan, &why).await;
        {
            let _gate = slot.gate.lock().await;
            let entered = slot.with(|known| known.start_entered);
            if slot.state() == State::Failed && entered {
                let until = self.0.clock.now().saturating_add(self.0.options.service_timeout);
                if self.run_stop(slot, until, "cleaning up").await.is_ok() {
                    // Nothing may follow stopping but these two, and stopped it is not.
                    let _ = slot.enter(State::Failed, why.clone());
                }
            }
            slot.with(|known| {
                known.cause.clone_from(&why);
                known.error = error.error.clone();
            });
        }
        let notice =
            Notice { component: slot.name(), cause, error: why, attempt: None, after_ms: 0 };
        slot.emit("system.supervisor.gave_up", &notice);
    }

    async fn stop_several(&self, names: &[String], cause: &str) {
        for name in names {
            let Ok(slot) = self.get(name) else { continue };
            let until = self.0.clock.now().saturating_add(self.0.options.service_timeout);
            let _ = self.stop_one(&slot, until, cause).await;
        }
    }

    /// Whom the supervisor of `slot` stands over, in start order.
    fn members(&self, slot: &Slot, plan: &StartPlan, group: bool) -> Vec<String> {
        if !group {
            return vec![slot.name().to_owned()];
        }
        let wanted = |name: &&str| self.get(name).is_ok_and(|slot| slot.with(|k| k.wanted));
        plan.order().filter(wanted).map(str::to_owned).collect()
    }

    /// One supervisor per component, or one over all if they go down together.
    fn supervisor_of(&self, name: &str) -> Arc<Mutex<Supervisor>> {
        let policy = &self.0.options.supervision;
        let key = if policy.strategy == Strategy::OneForOne { name } else { "" };
        let mut supervisors = self.0.supervisors.lock();
        if let Some(supervisor) = supervisors.get(key) {
            return supervisor.clone();
        }
        let mut policy = policy.clone();
        for slot in self.slots() {
            if let Some(restart) = slot.descriptor().restart {
                policy.restart_of.entry(slot.name().to_owned()).or_insert(restart);
            }
        }
        // Different seeds, so that components do not wait in step.
        let seed = name.bytes().fold(self.0.options.seed, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let supervisor = Arc::new(Mutex::new(Supervisor::new(policy, default_backoff(seed))));
        supervisors.insert(key.to_owned(), supervisor.clone());
        supervisor
    }

    /// Forgets the past of a component that was given up, so that it may be started anew.
    pub(super) fn forgive(&self, slot: &Slot) {
        if !slot.with(|known| std::mem::take(&mut known.given_up)) {
            return;
        }
        let name = slot.name();
        let key =
            if self.0.options.supervision.strategy == Strategy::OneForOne { name } else { "" };
        if let Some(supervisor) = self.0.supervisors.lock().get(key) {
            supervisor.lock().reset();
        }
    }
}
