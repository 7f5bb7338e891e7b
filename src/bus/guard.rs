//! The breaker on consumption: while a handler keeps failing, reading pauses.
//!
//! An open breaker burns no messages: they stay in the mailbox. When it may be tried again,
//! the mailbox gives out just as many deliveries as the breaker admits probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Core;
use super::delivery::Failure;
use super::mailbox::Intake;
use super::subscription::Subscription;
use crate::resilience::CircuitBreaker;
use crate::resilience::breaker::State;

/// A circuit breaker that guards one subscription's handler.
#[derive(Debug)]
pub struct Guard {
    breaker: CircuitBreaker,
    /// Whether there was a failure since the last success: successes of a healthy handler need
    /// not be counted one by one.
    failing: AtomicBool,
    tripped: AtomicBool,
    probes: usize,
}

impl Guard {
    /// Guards with `breaker`, which admits `probes` at a time when half-open.
    pub fn new(breaker: CircuitBreaker, probes: usize) -> Self {
        Guard { breaker, failing: AtomicBool::new(false), tripped: AtomicBool::new(false), probes }
    }

    /// The breaker, for metrics and administration.
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// An attempt failed. Only what another attempt might cure counts against the handler:
    /// a permanent error says something about the event, an internal one about the code.
    pub(super) fn failed(&self, core: &Core, subscription: &Arc<Subscription>, failure: &Failure) {
        if !failure.category.is_retryable() {
            // Not a verdict; while half-open, another probe may give one.
            subscription.allow_one_more();
            return;
        }
        self.failing.store(true, Ordering::Release);
        if let Ok(permit) = self.breaker.acquire() {
            permit.failure(Duration::ZERO, format!("{}: {}", failure.error_type, failure.message));
            match self.breaker.state() {
                State::Open => {
                    subscription.set_intake(Intake::Stopped);
                    self.arm(core, subscription);
                    self.tripped.store(true, Ordering::Release);
                    self.announce(core, subscription, "open", Some(failure));
                }
                // A rule that forgives a failed probe: the verdict needs another one.
                State::HalfOpen => subscription.allow_one_more(),
                _ => {}
            }
        }
    }

    /// At least one attempt succeeded.
    pub(super) fn succeeded(&self, subscription: &Arc<Subscription>) {
        if !self.failing.load(Ordering::Acquire) {
            return;
        }
        // Refused when it opened meanwhile: the result is late, and tells nothing.
        let Ok(permit) = self.breaker.acquire() else { return };
        permit.success(Duration::ZERO);
        if self.breaker.state() != State::Closed {
            subscription.allow_one_more();
            return;
        }
        self.failing.store(false, Ordering::Release);
        if self.tripped.swap(false, Ordering::AcqRel) {
            subscription.set_intake(Intake::Free);
            if let Some(bus) = subscription.bus() {
                self.announce(&bus.0, subscription, "closed", None);
            }
        }
    }

    /// Tries again when the breaker may let a probe through.
    fn arm(&self, core: &Core, subscription: &Arc<Subscription>) {
        let after = self.breaker.retry_after().unwrap_or_default();
        let (subscription, probes) = (Arc::downgrade(subscription), self.probes);
        core.clock
            .schedule(after, move || {
                if let Some(subscription) = subscription.upgrade() {
                    subscription.set_intake(Intake::Probing(probes));
                }
            })
            .detach();
    }

    fn announce(
        &self,
        core: &Core,
        subscription: &Subscription,
        state: &'static str,
        cause: Option<&Failure>,
    ) {
        tracing::warn!(
            target: "tiebeam::bus",
            subscription = subscription.name(),
            component = subscription.component().map(|name| &**name),
            "circuit breaker is {state}"
        );
        core.emit(
            if state == "open" { "system.circuit_breaker.open" } else { "system.circuit_breaker.closed" },
            &serde_json::json!({
                "subscription": subscription.name(),
                "component": subscription.component(),
                "state": state,
                "retry_after_ms": self.breaker.retry_after().map(|after| after.as_millis() as u64),
                "last_error": cause.map(|failure| format!("{}: {}", failure.error_type, failure.message)),
            }),
        );
    }
}
