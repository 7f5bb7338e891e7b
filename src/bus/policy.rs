//! What a subscription brings against failures.

use std::sync::Arc;

use super::guard::Guard;
use crate::resilience::RetryPolicy;

/// What happens after failures of one subscription's handler.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// How often and when to try again; without it the first failure is the last.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Pauses consumption while the handler keeps failing.
    pub guard: Option<Arc<Guard>>,
    /// Whether the handler has a fallback to run after the last failure.
    pub fallback: bool,
}
