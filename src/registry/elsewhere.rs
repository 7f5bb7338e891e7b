//! What components need of others that run in other processes: waited for at a start, missed
//! when it is gone, and never started or stopped from here.

use super::directory::Registry;
use super::graph::{StartPlan, Step};
use super::slot::Slot;
use crate::error::{Error, Kind};

impl Registry {
    /// What runs elsewhere and keeps a component from starting, with the cause.
    pub(super) fn blocker_elsewhere(&self, step: &Step) -> Option<(String, String)> {
        let others = &self.0.others;
        let name = step.hard_elsewhere.iter().find(|name| !others.is_ready(name))?;
        let cause = format!(
            "it depends on `{name}`, which is in another part of the system, and {}; start the \
             part that runs it (`tiebeam run ... --only {name}`) with the same \
             event_bus.connection_string and event_bus.channel_prefix",
            others.why_not(name)
        );
        Some((name.clone(), cause))
    }

    /// Whether `name` is what a component depends on elsewhere.
    pub(super) fn runs_elsewhere(&self, slot: &Slot, plan: &StartPlan, name: &str) -> bool {
        plan.step(slot.name()).is_some_and(|step| step.hard_elsewhere.iter().any(|n| n == name))
    }

    /// Waits until all that a component depends on elsewhere is ready, for `service_timeout`.
    pub(super) async fn await_elsewhere(&self, slot: &Slot, plan: &StartPlan) {
        let Some(step) = plan.step(slot.name()) else { return };
        let mut changes = self.0.others.watch();
        let waited = async {
            let mut told = None;
            while let Some((name, _)) = self.blocker_elsewhere(step) {
                let why = self.0.others.why_not(&name);
                slot.with(|known| known.cause = format!("waiting for `{name}`: {why}"));
                if told.as_ref() != Some(&name) {
                    tracing::info!(
                        target: "tiebeam::registry",
                        component = slot.name(),
                        "waiting for `{name}`, which is in another part of the system: {why}"
                    );
                    told = Some(name);
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = self.0.clock.timeout(self.0.options.service_timeout, waited).await;
    }

    /// Tells that a component could not start because of what runs elsewhere.
    pub(super) fn report_missing(&self, slot: &Slot, cause: &str) {
        let limit = self.0.options.service_timeout.as_secs_f64();
        let said = format!("`{}` has not started within {limit} s: {cause}", slot.name());
        let error = Error::new(Kind::Dependency, "start", said).with("hook", "start");
        slot.report(&error, "blocked");
    }

    /// Optional dependencies elsewhere that are not ready, with a reason to be degraded.
    pub(super) fn missing_elsewhere(&self, step: &Step) -> Vec<(String, String)> {
        let missing = step.optional_elsewhere.iter().filter(|name| !self.0.others.is_ready(name));
        missing.map(|name| (name.clone(), self.without(name))).collect()
    }

    /// Looks what others have to offer now: who misses something is degraded, and recovers when
    /// that is there again and `steady`; who waited for it starts.
    pub(super) fn look_elsewhere(&self, steady: &impl Fn(&str) -> bool) {
        let Ok(plan) = self.plan() else { return };
        let mut waiting = false;
        for step in plan.steps() {
            let hard = step.hard_elsewhere.iter().map(|name| (name, format!("needs:{name}")));
            let optional = step.optional_elsewhere.iter().map(|n| (n, format!("wants:{n}")));
            let Ok(slot) = self.get(&step.name) else { continue };
            for (name, key) in hard.chain(optional) {
                let ready = self.0.others.is_ready(name);
                if !slot.state().is_operational() {
                    waiting |= ready && slot.with(|known| known.blocked_by.is_some());
                } else if !ready {
                    if !slot.with(|known| known.degradations.contains_key(&key)) {
                        self.lost_as(&slot, &key, name, self.without(name));
                    }
                } else if steady(name) {
                    slot.relieve(&key);
                    self.found_again(&slot, name);
                }
            }
        }
        if waiting && !self.is_closing() {
            let registry = self.clone();
            self.0.spawner.spawn(Box::pin(async move { registry.resume(&plan).await }));
        }
    }

    fn without(&self, name: &str) -> String {
        format!("without {name}: {}", self.0.others.why_not(name))
    }
}
