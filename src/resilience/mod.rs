//! What keeps one failure from becoming many: waiting, giving up, refusing.
//!
//! Everything here decides; nothing here sleeps or runs a caller's code.

mod backoff;
pub mod breaker;
mod buckets;
mod budget;
mod retry;

pub use backoff::{Backoff, Curve, Draws, Jitter};
pub use breaker::{BreakerSettings, CircuitBreaker};
pub use budget::{BudgetRule, BudgetedCall, RetryBudget};
pub use retry::{Attempt, Decision, GiveUp, RetryPolicy, RetryPolicyBuilder};
