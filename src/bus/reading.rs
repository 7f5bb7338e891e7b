//! A subscription under its guard: how reading pauses, resumes, and is told of.

use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use super::guard::Reader;
use super::intake::Intake;
use super::subscription::Subscription;
use crate::sync::{AtomicBool, Ordering};

impl Subscription {
    /// At least one attempt succeeded.
    #[inline]
    pub(super) fn succeeded(self: &Arc<Self>) {
        if self.failing().load(Ordering::Acquire)
            && let Some(guard) = &self.options().policy.guard
        {
            guard.recovers(self);
        }
    }
}

impl Reader for Arc<Subscription> {
    fn failing(&self) -> &AtomicBool {
        Subscription::failing(self)
    }

    fn set_intake(&self, intake: Intake) {
        if self.mailbox().set_intake(intake) {
            self.executor().schedule(self);
        }
    }

    fn allow_one_more(&self) {
        if self.mailbox().allow_one_more() {
            self.executor().schedule(self);
        }
    }

    fn probe_after(&self, wait: Duration) {
        let Some(owner) = self.owner() else { return };
        let subscription = Arc::downgrade(self);
        owner
            .clock()
            .schedule(wait, move || {
                if let Some(subscription) = subscription.upgrade()
                    && let Some(guard) = &subscription.options().policy.guard
                {
                    subscription.set_intake(guard.probes());
                }
            })
            .detach();
    }

    fn announce(
        &self,
        state: &'static str,
        retry_after: Option<Duration>,
        cause: Option<&Failure>,
    ) {
        tracing::warn!(
            target: "tiebeam::bus",
            subscription = self.name(),
            component = self.component().map(|name| &**name),
            "circuit breaker is {state}"
        );
        let Some(owner) = self.owner() else { return };
        let topic = match state {
            "open" => "system.circuit_breaker.open",
            _ => "system.circuit_breaker.closed",
        };
        let told = serde_json::json!({
            "subscription": self.name(),
            "component": self.component(),
            "state": state,
            "retry_after_ms": retry_after.map(|after| after.as_millis() as u64),
            "last_error": cause.map(|f| format!("{}: {}", f.error_type, f.message)),
        });
        owner.tell(topic, told, None);
    }
}
