//! What a component's handlers cannot handle just now degrades it.

use serde::Deserialize;

use super::Inner;

/// A breaker has another state.
#[derive(Deserialize)]
pub(super) struct BreakerEvent {
    component: Option<String>,
    subscription: String,
    state: String,
}

/// Events wait for a breaker inside of a handler, or do so no more.
#[derive(Deserialize)]
pub(super) struct WaitingEvent {
    component: Option<String>,
    subscription: String,
    subscription_id: u64,
    /// Present as long as they wait.
    #[serde(default)]
    last_error: Option<String>,
}

impl Inner {
    pub(super) fn breaker(&self, event: &BreakerEvent) {
        let Some(component) = &event.component else { return };
        let Ok(slot) = self.registry.get(component) else { return };
        let key = format!("breaker:{}", event.subscription);
        if event.state == "open" {
            slot.degrade(&key, format!("circuit breaker of {} is open", event.subscription));
        } else {
            slot.relieve(&key);
        }
    }

    /// Events wait for a breaker inside of a handler, or do so no more.
    pub(super) fn waiting(&self, event: &WaitingEvent) {
        let Some(component) = &event.component else { return };
        let Ok(slot) = self.registry.get(component) else { return };
        let key = format!("waiting:{}", event.subscription_id);
        match &event.last_error {
            Some(error) => {
                slot.degrade(&key, format!("events of {} wait: {error}", event.subscription))
            }
            None => slot.relieve(&key),
        }
    }
}
