//! What open circuit breakers mean for the components whose handlers are behind them.

use indexmap::IndexMap;

use super::Monitor;
use crate::registry::Slot;
use crate::registry::record::What;
use crate::resilience::breaker;

impl Monitor {
    /// A component whose handler is behind an open breaker is degraded until that closes.
    pub(super) fn look_at_breakers(&self, slot: &Slot) {
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

    /// The states of the breakers before its handlers, by the name of those; of several of one
    /// name, the one that lets least through.
    pub(super) fn breakers(&self, slot: &Slot) -> Vec<(String, &'static str)> {
        let mut found: IndexMap<String, breaker::State> = IndexMap::new();
        for subscription in self.0.registry.bus().subscriptions_of(slot.name()) {
            let Some(guard) = &subscription.options().policy.guard else { continue };
            let state = guard.breaker().state();
            let known = found.entry(subscription.name().to_owned()).or_insert(state);
            *known = known.strictest(state);
        }
        found.into_iter().map(|(name, state)| (name, state.as_str())).collect()
    }
}
