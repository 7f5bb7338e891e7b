//! Who needs whom at this moment: what blocks a component, and what it has to do without.

use super::directory::Registry;
use super::graph::StartPlan;
use super::slot::Slot;

impl Registry {
    /// The root of what keeps `slot` from starting, with the cause.
    pub(super) fn blocker(&self, slot: &Slot, plan: &StartPlan) -> Option<(String, String)> {
        let step = plan.step(slot.name())?;
        for name in &step.hard {
            let Ok(dependency) = self.get(name) else { continue };
            let status = dependency.status();
            if status.state.is_operational() {
                continue;
            }
            return Some(match status.blocked_by {
                Some(root) => (root, status.cause),
                None => (name.clone(), format!("blocked by {name}: {}", status.cause)),
            });
        }
        self.blocker_elsewhere(step)
    }

    /// Optional dependencies that do not work, with a reason to be degraded.
    pub(super) fn missing(&self, slot: &Slot, plan: &StartPlan) -> Vec<(String, String)> {
        let Some(step) = plan.step(slot.name()) else { return Vec::new() };
        let absent =
            step.absent.iter().map(|name| (name.clone(), format!("without {name}: absent")));
        let down = step.optional.iter().filter_map(|name| {
            let status = self.get(name).ok()?.status();
            let cause = format!("without {name}: {} ({})", status.state, status.cause);
            (!status.state.is_operational()).then(|| (name.clone(), cause))
        });
        absent.chain(down).chain(self.missing_elsewhere(step)).collect()
    }

    /// Those that want `slot` are degraded without it and recover with it.
    pub(super) fn tell_wanting(&self, slot: &Slot, plan: &StartPlan) {
        let status = slot.status();
        let key = format!("wants:{}", slot.name());
        for step in plan.steps().filter(|step| step.optional.iter().any(|n| n == slot.name())) {
            let Ok(wanting) = self.get(&step.name) else { continue };
            if status.state.is_operational() {
                wanting.relieve(&key);
            } else if wanting.state().is_operational() {
                let (name, state) = (slot.name(), status.state);
                wanting.degrade(&key, format!("without {name}: {state} ({})", status.cause));
            }
        }
    }
}
