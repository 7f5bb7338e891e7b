//! Attempts that a circuit breaker inside of the handler refused.
//!
//! They are none: nothing was tried, and a refusal says nothing of the event. It waits until the
//! breaker may let it through, and is given up by nobody meanwhile. Others go on: what they want
//! may be behind another breaker.

use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use super::lanes::Delivery;
use super::options::Role;
use super::owner::Owner;
use super::subscription::Subscription;
use crate::sync::Ordering;

/// How long is waited at least: a breaker that is about to close says nothing, or next to it.
const LEAST: Duration = Duration::from_millis(10);

/// At most: it may be closed by hand at any time.
const MOST: Duration = Duration::from_secs(30);

/// Where a breaker does not say.
const USUAL: Duration = Duration::from_secs(1);

impl Subscription {
    /// Whether an event that a breaker refused waits for it. Whoever asked is told at once; a
    /// fallback is there for just that; and what is handled inside `publish` has no place to wait.
    pub(super) fn waits_after(&self, failure: &Failure) -> bool {
        let options = self.options();
        failure.refused
            && options.role != Role::Responder
            && !options.policy.fallback
            && !self.executor().is_inline()
    }

    /// Has `delivery` wait.
    pub(super) fn wait_for_breaker(
        self: &Arc<Self>,
        owner: &dyn Owner,
        delivery: Delivery,
        failure: &Failure,
    ) {
        let after = failure.retry_after.unwrap_or(USUAL).clamp(LEAST, MOST);
        let event = delivery.event.clone();
        let due = owner.clock().now().saturating_add(after);
        if let Err(delivery) = self.mailbox().park(delivery, due) {
            self.give_up(vec![delivery]);
            return;
        }
        let subscription = Arc::downgrade(self);
        let again = move || {
            if let Some(subscription) = subscription.upgrade()
                && subscription.mailbox().unpark(due)
            {
                subscription.executor().schedule(&subscription);
            }
        };
        owner.clock().schedule_at(due, again).detach();
        if self.is_waiting().swap(true, Ordering::AcqRel) {
            return; // it is known
        }
        tracing::warn!(
            target: "tiebeam::bus",
            component = self.component().map(|name| &**name),
            subscription = self.name(),
            event_id = %event.id,
            retry_in_ms = after.as_millis() as u64,
            "events wait: {}: {}", failure.error_type, failure.message
        );
        let told = serde_json::json!({
            "subscription": self.name(),
            "component": self.component(),
            "event_id": event.id.to_string(),
            "retry_in_ms": after.as_millis() as u64,
            "last_error": format!("{}: {}", failure.error_type, failure.message),
        });
        owner.tell("system.handler_waiting", told, Some(&event));
    }

    /// Something came through, after something that was refused.
    #[cold]
    pub(super) fn came_through(self: &Arc<Self>) {
        if self.mailbox().has_parked() || !self.is_waiting().swap(false, Ordering::AcqRel) {
            return;
        }
        tracing::info!(
            target: "tiebeam::bus",
            component = self.component().map(|name| &**name),
            subscription = self.name(),
            "events are handled again"
        );
        let Some(owner) = self.owner() else { return };
        let told = serde_json::json!({
            "subscription": self.name(),
            "component": self.component(),
        });
        owner.tell("system.handler_resumed", told, None);
    }
}
