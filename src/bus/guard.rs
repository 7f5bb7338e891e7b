//! The breaker on consumption: while a handler keeps failing, reading pauses.
//!
//! An open breaker burns no messages: they stay in the mailbox. When it may be tried again,
//! the mailbox gives out just as many deliveries as the breaker admits probes.

use std::time::Duration;

use super::failure::Failure;
use super::intake::Intake;
use crate::resilience::CircuitBreaker;
use crate::resilience::breaker::State;
use crate::sync::{AtomicBool, Ordering};

/// A circuit breaker that guards one subscription's handler.
#[derive(Debug)]
pub struct Guard {
    breaker: CircuitBreaker,
    tripped: AtomicBool,
    /// Whether a timer is set that will let probes through.
    armed: AtomicBool,
    probes: usize,
}

impl Guard {
    /// Guards with `breaker`, which admits `probes` at a time when half-open.
    pub fn new(breaker: CircuitBreaker, probes: usize) -> Self {
        let [tripped, armed] = [const { AtomicBool::new(false) }; 2];
        Guard { breaker, tripped, armed, probes }
    }

    /// The breaker, for metrics and administration.
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// An attempt failed. Only what another attempt might cure counts against the handler:
    /// a permanent error says something about the event, an internal one about the code.
    pub(super) fn failed(&self, reader: &impl Reader, failure: &Failure) {
        if !failure.category.is_retryable() {
            // Not a verdict; while half-open, another probe may give one.
            reader.allow_one_more();
            return;
        }
        reader.failing().store(true, Ordering::Release);
        let Ok(permit) = self.breaker.acquire() else { return self.rejected(reader) };
        permit.failure(Duration::ZERO, format!("{}: {}", failure.error_type, failure.message));
        match self.breaker.state() {
            State::Open => {
                self.pause(reader);
                self.tripped.store(true, Ordering::Release);
                reader.announce("open", self.breaker.retry_after(), Some(failure));
            }
            // A rule that forgives a failed probe: the verdict needs another one.
            State::HalfOpen => reader.allow_one_more(),
            _ => {}
        }
    }

    /// At least one attempt succeeded, after one that failed.
    pub(super) fn recovers(&self, reader: &impl Reader) {
        let Ok(permit) = self.breaker.acquire() else { return self.rejected(reader) };
        permit.success(Duration::ZERO);
        if self.breaker.state() != State::Closed {
            reader.allow_one_more();
            return;
        }
        reader.failing().store(false, Ordering::Release);
        if self.tripped.swap(false, Ordering::AcqRel) {
            reader.set_intake(Intake::Free);
            reader.announce("closed", None, None);
        }
    }

    /// The result came while the breaker was open, and tells nothing. If it opened because its
    /// probes took too long, this is where we notice.
    fn rejected(&self, reader: &impl Reader) {
        if self.tripped.load(Ordering::Acquire) {
            self.pause(reader);
        }
    }

    /// Stops reading until the breaker may let a probe through.
    fn pause(&self, reader: &impl Reader) {
        reader.set_intake(Intake::Stopped);
        if !self.armed.swap(true, Ordering::AcqRel) {
            reader.probe_after(self.breaker.retry_after().unwrap_or_default());
        }
    }

    /// The wait is over; how many deliveries may be read now.
    pub(super) fn probes(&self) -> Intake {
        self.armed.store(false, Ordering::Release);
        Intake::Probing(self.probes)
    }
}

/// Whose reading a guard pauses and resumes.
pub(super) trait Reader {
    /// Whether there was a failure since the last success: successes of a healthy handler need
    /// not be counted one by one.
    fn failing(&self) -> &AtomicBool;

    /// Lets deliveries through, or not.
    fn set_intake(&self, intake: Intake);

    /// Allows another probe for one that told nothing.
    fn allow_one_more(&self);

    /// Sets the intake to [`Guard::probes`] after a while.
    fn probe_after(&self, wait: Duration);

    /// Tells that the breaker is `open` or `closed`.
    fn announce(&self, state: &'static str, retry_after: Option<Duration>, cause: Option<&Failure>);
}
