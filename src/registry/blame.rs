//! Which change of a configuration may be behind what goes wrong: one that changed what the
//! component reads, and after which nothing has been seen to be well.
//!
//! Well is what passes a check that the component has of its own, and what one of its handlers
//! handles with success. That nothing was looked at says nothing, nor what the core measures, which
//! may be of before. Handlers' successes are looked up when somebody asks: events do nothing for it.

use super::component::ComponentConfig;
use super::directory::Registry;
use super::record::{Id, What};
use super::slot::{Known, Slot};
use crate::error::Result;

impl Slot {
    /// The change that may be behind what goes wrong at this moment.
    pub(super) fn suspect(&self, known: &mut Known) -> Option<Id> {
        self.look_back(known);
        known.changed.filter(|_| !known.well)
    }

    /// Looks whether one of its handlers has handled an event well since the last change. To be
    /// asked before they end, too: nobody knows then.
    pub(super) fn look_back(&self, known: &mut Known) {
        if known.changed.is_none() || known.well {
            return;
        }
        let before = |id: u64| known.handled.get(&id).copied().unwrap_or(0);
        let well = self.handled().into_iter().any(|(id, well, _)| well > before(id));
        known.well = well;
    }

    /// Of each of its handlers, how many events it has handled well, and how many are under way.
    fn handled(&self) -> Vec<(u64, u64, u64)> {
        self.bus().map_or_else(Vec::new, |bus| bus.handled_well_of(self.name()))
    }

    /// Notes that it is to be configured with something else than before, if that is so.
    pub(super) fn change_to(&self, config: &ComponentConfig) -> Option<Id> {
        let revised = self.with(|known| {
            let differs = known.applied.as_ref().is_some_and(|value| *value != config.value);
            differs.then_some(known.revised)
        })?;
        let text = format!("configured with revision {}", config.snapshot.revision());
        Some(self.note(What::Configuration, text, revised))
    }

    /// It has applied that.
    pub(super) fn adopted(&self, config: &ComponentConfig, change: Option<Id>) {
        self.with(|known| known.applied = Some(config.value.clone()));
        if let Some(change) = change {
            self.has_changed(change);
        }
    }

    /// What goes wrong from now on may come from that.
    fn has_changed(&self, change: Id) {
        self.with(|known| {
            (known.changed, known.well) = (Some(change), false);
            known.cleared.clear();
            // What is under way has begun before.
            let begun = self.handled().into_iter().map(|(id, well, more)| (id, well + more));
            known.handled = begun.collect();
        });
    }

    /// A health check has passed, by which the component vouches for itself or not.
    pub(super) fn check_passed(&self, check: &str, vouches: bool) {
        self.with(|known| {
            known.well |= vouches;
            known.failing_checks.remove(check);
            if known.changed.is_some() && !known.cleared.contains(check) {
                known.cleared.insert(check.to_owned());
            }
        });
    }

    /// Notes that a health check did not pass. What was wrong before a change does not come from
    /// that.
    pub(super) fn check_failed(&self, check: &str, text: String) -> Id {
        let because = self.with(|known| {
            let changed = known.changed.filter(|_| !known.cleared.contains(check));
            *known.failing_checks.entry(check.to_owned()).or_insert(changed)
        });
        self.note(What::Check, text, because)
    }
}

impl Registry {
    /// A component was told of a change of what it reads beside its own section.
    ///
    /// # Errors
    /// [`crate::error::Kind::Configuration`] for an unknown name.
    pub fn told_of_change(&self, name: &str, path: &str) -> Result<()> {
        let slot = self.get(name)?;
        let text = format!("told of a change of {path}");
        slot.has_changed(slot.note(What::Configuration, text, self.revision()));
        Ok(())
    }
}
