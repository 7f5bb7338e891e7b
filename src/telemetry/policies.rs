//! The breakers of a system's policies, as metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::exposition::Exposition;
use crate::registry::Registry;
use crate::resilience::breaker::State;

/// One family: the state of each, by its policy and its own name.
pub(super) fn breakers(out: &mut Exposition, registry: &Registry) {
    let mut found: BTreeMap<(Arc<str>, String), State> = BTreeMap::new();
    for one in registry.policy_breakers() {
        let (key, state) = ((one.policy, one.breaker.name().to_owned()), one.breaker.state());
        let shown = found.entry(key).or_insert(state);
        *shown = shown.strictest(state);
    }
    let about = "A circuit breaker of a policy.";
    let mut family = out.states("tiebeam_policy_circuit_breaker_state", about);
    for ((policy, name), state) in &found {
        let labels = [("policy", &**policy), ("name", name.as_str())];
        family.add_state(&labels, State::ALL.map(State::as_str), state.as_str());
    }
}
