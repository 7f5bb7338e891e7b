//! What keeps one failure from becoming many: waiting, giving up, refusing.
//!
//! Everything here decides; nothing here sleeps or runs a caller's code.

mod backoff;
pub mod breaker;
mod budget;
mod bulkhead;
mod rate_limit;
mod retry;

pub use backoff::{Backoff, Curve, Draws, Jitter};
pub use breaker::{BreakerSettings, CircuitBreaker};
pub use budget::{BudgetRule, BudgetedCall, RetryBudget};
pub use bulkhead::{Acquire, Bulkhead, BulkheadSettings, NoPlace, Place};
pub use rate_limit::{RateExceeded, RateLimit, RateLimiter, Reservation};
pub use retry::{Attempt, Decision, GiveUp, RetryPolicy, RetryPolicyBuilder};
