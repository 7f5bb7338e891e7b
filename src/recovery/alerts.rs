//! Alerts: what somebody must look at, told once and counted after that.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::ErrorEvent;
use crate::bus::Bus;
use crate::clock::Instant;
use crate::error::Category;

/// Alerts about the same thing are told once in this time.
const QUIET: Duration = Duration::from_secs(60);

/// How many things may be alerted about before old ones are forgotten.
const REMEMBERED: usize = 1_000;

/// The payload of `system.alert`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Alert {
    pub(super) component: Option<String>,
    /// `configuration_error`, `internal_error`, `critical_event_lost`, `component_failed`,
    /// `supervisor_gave_up` or `slo_burning`.
    pub(super) reason: &'static str,
    pub(super) category: Category,
    pub(super) error_type: String,
    pub(super) message: String,
    pub(super) event_id: Option<String>,
    pub(super) correlation_id: Option<String>,
    /// How often it happened since it was last told, this time included.
    pub(super) count: u64,
}

/// What was last told about one thing.
struct Told {
    at: Instant,
    held_back: u64,
}

/// What has been told, by component and type of error.
#[derive(Default)]
pub(super) struct Alerts {
    told: Mutex<HashMap<(Option<String>, String), Told>>,
}

impl Alerts {
    /// Tells of `alert`, or counts it towards the next of its kind.
    pub(super) fn tell(&self, bus: &Bus, mut alert: Alert) {
        let now = bus.clock().now();
        {
            let mut told = self.told.lock();
            if told.len() >= REMEMBERED {
                told.retain(|_, last| now.saturating_since(last.at) < QUIET);
            }
            let key = (alert.component.clone(), alert.error_type.clone());
            match told.get_mut(&key) {
                Some(last) if now.saturating_since(last.at) < QUIET => {
                    last.held_back += 1;
                    return;
                }
                Some(last) => {
                    alert.count += std::mem::take(&mut last.held_back);
                    last.at = now;
                }
                None => {
                    told.insert(key, Told { at: now, held_back: 0 });
                }
            }
        }
        tracing::error!(
            target: "tiebeam::recovery",
            component = alert.component.as_deref(),
            reason = alert.reason,
            count = alert.count,
            "alert: {}: {}", alert.error_type, alert.message
        );
        bus.emit("system.alert", &alert);
    }
}

/// Why somebody must look at this failure, if so.
pub(super) fn alert_reason(error: &ErrorEvent) -> Option<&'static str> {
    let lost = matches!(error.action.as_str(), "dead_letter" | "fault");
    match error.category {
        Category::Configuration => Some("configuration_error"),
        Category::Internal => Some("internal_error"),
        _ if lost && error.priority.as_deref() == Some("critical") => Some("critical_event_lost"),
        // Nobody restarts what failed to start.
        _ if error.hook.is_some() && error.action == "failed" => Some("component_failed"),
        _ => None,
    }
}
