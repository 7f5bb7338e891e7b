//! What a breaker tells whoever watches it.

use super::state::State;
use crate::clock::Instant;

/// Something worth telling happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// Too many calls fail; comes before the transition that follows from it.
    FailureRateExceeded {
        /// Failed calls in percent.
        rate: f64,
    },
    /// Too many calls are slow; comes before the transition that follows from it.
    SlowRateExceeded {
        /// Slow calls in percent.
        rate: f64,
    },
    /// The state changed.
    Transition {
        /// The state that was left.
        from: State,
        /// The state that was entered.
        to: State,
        /// The number of the new state; it grows by one or more with each change.
        generation: u64,
        /// When it changed.
        at: Instant,
    },
}

/// Hears a breaker's signals.
///
/// Signals come in order, one at a time and after the breaker's lock is released: an observer may
/// use the breaker. A panic in an observer is caught and logged.
pub trait Observer: Send + Sync {
    /// `breaker` is the breaker's name.
    fn on_signal(&self, breaker: &str, signal: &Signal);
}
