//! What a component's handlers cannot handle just now degrades it.

use serde::Deserialize;

use super::Inner;
use crate::registry::record::{Entry, What};

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

fn is_breaker(entry: &Entry) -> bool {
    entry.what == What::Breaker
}

impl Inner {
    pub(super) fn breaker(&self, event: &BreakerEvent) {
        let Some(component) = &event.component else { return };
        let Ok(slot) = self.registry.get(component) else { return };
        let key = format!("breaker:{}", event.subscription);
        slot.breaker_changed(&event.subscription, &event.state);
        if event.state == "open" {
            let text = format!("circuit breaker of {} is open", event.subscription);
            slot.degrade(&key, text, |record| {
                record.last(slot.name(), is_breaker).map(|entry| entry.id)
            });
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
                let text = format!("events of {} wait: {error}", event.subscription);
                slot.degrade(&key, text, |record| {
                    record.last(slot.name(), is_breaker).map(|entry| entry.id)
                });
            }
            None => {
                slot.relieve(&key);
            }
        }
    }
}
