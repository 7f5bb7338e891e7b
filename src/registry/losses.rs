//! What a component does without something it depends on, and when it counts on it again.
//!
//! Entered at once, left with hysteresis: a dependency that comes and goes must not have
//! everybody change their ways each time.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::directory::Registry;
use super::graph::StartPlan;
use super::hook;
use super::slot::Slot;
use crate::clock::Instant;

/// What a component does while a dependency is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// It stops, and resumes by itself.
    Stop,
    /// It goes on with reduced functionality.
    Degrade,
    /// It goes on as if nothing had happened.
    Ignore,
}

/// When a dependency that is back counts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Return {
    /// It must have been at work for so long.
    pub after: Duration,
    /// It must have passed so many health checks in a row.
    pub passes: u32,
}

/// The payload of `system.dependency.lost` and `system.dependency.regained`.
#[derive(Serialize)]
struct Notice<'a> {
    component: &'a str,
    dependency: &'a str,
    cause: &'a str,
}

impl Registry {
    /// What `slot` leans on here, with what it does without; and whether it is a hard dependency.
    pub(super) fn leans(&self, slot: &Slot, plan: &StartPlan) -> Vec<(String, Loss, bool)> {
        let Some(step) = plan.step(slot.name()) else { return Vec::new() };
        let hard = step.hard.iter().map(|name| (name, Loss::Stop, true));
        let optional = step.optional.iter().map(|name| (name, Loss::Degrade, false));
        let said = |name: &str, usual: Loss| {
            let on_loss = &slot.descriptor().on_loss;
            let of_group = || {
                let dependency = self.get(name).ok()?;
                dependency.descriptor().groups.iter().rev().find_map(|g| on_loss.get(g).copied())
            };
            on_loss.get(name).copied().or_else(of_group).unwrap_or(usual)
        };
        hard.chain(optional)
            .map(|(name, usual, hard)| (name.clone(), said(name, usual), hard))
            .collect()
    }

    /// Whom the end of `name` stops: those who do not go on without it, and those who do not
    /// without them, in start order.
    pub(super) fn stopped_by(&self, name: &str, plan: &StartPlan) -> Vec<String> {
        let mut down = vec![name.to_owned()];
        // Dependents come later in the start order, so that one pass finds them all.
        for step in plan.steps() {
            let Ok(slot) = self.get(&step.name) else { continue };
            let leans = self.leans(&slot, plan);
            if leans.iter().any(|(on, loss, _)| *loss == Loss::Stop && down.contains(on)) {
                down.push(step.name.clone());
            }
        }
        down.remove(0);
        down
    }

    /// Those who go on without `slot` are degraded while it is away, and recover with it.
    pub(super) fn tell_leaning(&self, slot: &Arc<Slot>, plan: &StartPlan) {
        for step in plan.steps() {
            if !step.hard.iter().chain(&step.optional).any(|name| name == slot.name()) {
                continue;
            }
            let Ok(leaning) = self.get(&step.name) else { continue };
            let leans = self.leans(&leaning, plan);
            if !leans.iter().any(|(on, loss, _)| on == slot.name() && *loss == Loss::Degrade) {
                continue;
            }
            let status = slot.status();
            if status.state.is_operational() {
                self.regained(&leaning, slot, status.started);
            } else if leaning.state().is_operational() {
                let text = format!("without {}: {} ({})", slot.name(), status.state, status.cause);
                self.lost(&leaning, slot.name(), text);
            }
        }
    }

    /// `slot` has to do without `name` from now on.
    pub(super) fn lost(&self, slot: &Arc<Slot>, name: &str, cause: String) {
        self.lost_as(slot, &format!("wants:{name}"), name, cause);
    }

    /// The same, with the key of the reason to be degraded.
    pub(super) fn lost_as(&self, slot: &Arc<Slot>, key: &str, name: &str, cause: String) {
        slot.degrade(key, cause.clone(), |record| record.last_state(name));
        let (news, told) = slot.with(|known| {
            let before = known.without.insert(name.to_owned(), known.lives);
            (before.is_none(), before == Some(known.lives))
        });
        if news {
            self.tell_dependency(slot, name, true, &cause);
        } else if !told {
            // A loss is told once; a new life of the component has not heard of it.
            self.call_dependency(slot, name, true);
        }
    }

    /// `slot` can count on `name` again, if it had to do without.
    pub(super) fn found_again(&self, slot: &Arc<Slot>, name: &str) {
        if slot.with(|known| known.without.remove(name).is_some()) {
            self.tell_dependency(slot, name, false, "it is back");
        }
    }

    /// A new life begins: what it has to do without, and what it can count on again.
    pub(super) fn take_stock(&self, slot: &Arc<Slot>, plan: &StartPlan) {
        for (name, cause) in self.missing(slot, plan) {
            self.lost(slot, &name, cause);
        }
        let back: Vec<String> = slot.with(|known| {
            let away = |name: &&String| {
                ["wants", "needs"]
                    .iter()
                    .any(|kind| known.degradations.contains_key(&format!("{kind}:{name}")))
            };
            known.without.keys().filter(|name| !away(name)).cloned().collect()
        });
        back.iter().for_each(|name| self.found_again(slot, name));
    }

    /// `dependency` is there again: what leans on it recovers if that is so for long enough.
    fn regained(&self, leaning: &Arc<Slot>, dependency: &Arc<Slot>, since: Option<Instant>) {
        let key = format!("wants:{}", dependency.name());
        if !leaning.with(|known| known.degradations.contains_key(&key)) {
            return;
        }
        let Return { after, passes } = leaning.descriptor().recover.unwrap_or_default();
        let (life, passed) = dependency.with(|known| (known.lives, known.passes));
        let due = since.unwrap_or_else(|| self.0.clock.now()).saturating_add(after);
        if due > self.0.clock.now() {
            let wait = (dependency.name().to_owned(), life);
            if leaning.with(|known| known.awaited.insert(wait.clone())) {
                self.look_again(leaning.clone(), wait, due);
            }
        } else if passed >= passes && leaning.relieve(&key) {
            self.found_again(leaning, dependency.name());
        }
    }

    fn look_again(&self, leaning: Arc<Slot>, wait: (String, u64), due: Instant) {
        let weak = Arc::downgrade(&self.0);
        let (clock, ended) = (self.0.clock.clone(), self.ended_token());
        self.0.spawner.spawn(Box::pin(async move {
            let over = ended.cancelled();
            futures_util::pin_mut!(over);
            futures_util::future::select(clock.sleep_until(due), over).await;
            leaning.with(|known| known.awaited.remove(&wait));
            let Some(registry) = weak.upgrade().map(Registry) else { return };
            registry.look_at_dependency(&wait.0);
        }));
    }

    /// Looks whether those who lean on `name` may count on it again.
    pub(super) fn look_at_dependency(&self, name: &str) {
        if let (Ok(slot), Ok(plan)) = (self.get(name), self.plan())
            && slot.state().is_operational()
            && !self.is_closing()
        {
            self.tell_leaning(&slot, &plan);
        }
    }

    /// Tells of a loss or a return on the bus, and the component itself.
    fn tell_dependency(&self, slot: &Arc<Slot>, dependency: &str, lost: bool, cause: &str) {
        let topic = if lost { "system.dependency.lost" } else { "system.dependency.regained" };
        slot.emit(topic, &Notice { component: slot.name(), dependency, cause });
        self.call_dependency(slot, dependency, lost);
    }

    /// Has the component itself hear of it, after what it is still to hear of.
    fn call_dependency(&self, slot: &Arc<Slot>, dependency: &str, lost: bool) {
        let busy = slot.with(|known| {
            known.calls.push_back((dependency.to_owned(), lost));
            std::mem::replace(&mut known.calling, true)
        });
        if busy {
            return;
        }
        let (slot, clock) = (slot.clone(), self.0.clock.clone());
        let limit = self.0.options.service_timeout;
        // One call after the other, in the order of what happened.
        self.0.spawner.spawn(Box::pin(async move {
            loop {
                let next = slot.with(|known| {
                    let next = known.calls.pop_front();
                    known.calling = next.is_some();
                    next
                });
                let Some((name, lost)) = next else { return };
                let hook = if lost { "dependency_lost" } else { "dependency_regained" };
                let component = slot.component();
                let call = hook::run(&clock, limit, slot.name(), hook, || {
                    component.dependency(&name, lost)
                });
                if let Err(error) = call.await {
                    slot.report(&error, "kept");
                }
            }
        }));
    }
}
