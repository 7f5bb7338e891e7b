//! Who needs whom at this moment: what blocks a component, and what it has to do without.

use super::directory::Registry;
use super::graph::StartPlan;
use super::losses::Loss;
use super::slot::Slot;

impl Registry {
    /// The root of what keeps `slot` from starting, with the cause.
    ///
    /// A hard dependency must be there for the first start, whatever the component does without
    /// it later.
    pub(super) fn blocker(&self, slot: &Slot, plan: &StartPlan) -> Option<(String, String)> {
        let step = plan.step(slot.name())?;
        let new = slot.status().started.is_none();
        for (name, loss, hard) in self.leans(slot, plan) {
            let Ok(dependency) = self.get(&name) else { continue };
            let status = dependency.status();
            if status.state.is_operational() || !(loss == Loss::Stop || (hard && new)) {
                continue;
            }
            return Some(match status.blocked_by {
                Some(root) => (root, status.cause),
                None => (name.clone(), format!("blocked by {name}: {}", status.cause)),
            });
        }
        self.blocker_elsewhere(step)
    }

    /// What the component goes on without and is not there, with a reason to be degraded.
    pub(super) fn missing(&self, slot: &Slot, plan: &StartPlan) -> Vec<(String, String)> {
        let Some(step) = plan.step(slot.name()) else { return Vec::new() };
        let ignored = |name: &&String| slot.descriptor().on_loss.get(*name) != Some(&Loss::Ignore);
        let absent = step.absent.iter().filter(ignored);
        let absent = absent.map(|name| (name.clone(), format!("without {name}: absent")));
        let leans = self.leans(slot, plan).into_iter();
        let down = leans.filter(|(_, loss, _)| *loss == Loss::Degrade).filter_map(|(name, ..)| {
            let status = self.get(&name).ok()?.status();
            let cause = format!("without {name}: {} ({})", status.state, status.cause);
            (!status.state.is_operational()).then_some((name, cause))
        });
        absent.chain(down).chain(self.missing_elsewhere(step)).collect()
    }
}
