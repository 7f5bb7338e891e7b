//! What open circuit breakers mean for the components whose handlers are behind them.

use std::sync::Arc;

use super::Monitor;
use crate::bus::Subscription;
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

    pub(super) fn breakers(&self, slot: &Slot) -> Vec<(String, &'static str)> {
        let own = self.0.registry.bus().subscriptions_of(slot.name());
        let state = |s: &Arc<Subscription>| {
            let guard = s.options().policy.guard.as_ref()?;
            let state: breaker::State = guard.breaker().state();
            Some((s.name().to_owned(), state.as_str()))
        };
        own.iter().filter_map(state).collect()
    }
}
