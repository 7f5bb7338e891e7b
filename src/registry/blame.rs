//! Which change of a configuration may be behind what goes wrong: one that changed what the
//! component reads, and after which nothing has been seen to be well.

use super::component::ComponentConfig;
use super::directory::Registry;
use super::record::{Id, What};
use super::slot::{Known, Slot};
use crate::error::Result;

impl Known {
    /// The change that may be behind what goes wrong at this moment.
    pub(super) fn suspect(&self) -> Option<Id> {
        self.changed.filter(|_| self.cleared.is_empty())
    }
}

impl Slot {
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
            known.changed = Some(change);
            known.cleared.clear();
        });
    }

    /// A health check has passed.
    pub(super) fn check_passed(&self, check: &str) {
        self.with(|known| {
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
