//! What is kept of a failure.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Category;

/// What a failed handler left behind: text, never the exception itself, which would keep its
/// frames and everything in them alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What to do about it.
    pub category: Category,
    /// The exception's class, or the error's kind.
    pub error_type: String,
    /// What it said.
    pub message: String,
    /// Where it came from, formatted and bounded.
    pub traceback: Option<String>,
    /// How long whoever failed asks to wait: a server that is busy, a circuit breaker inside of
    /// the handler.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// The circuit breaker inside of the handler that refused what that wanted to do.
    #[serde(skip)]
    pub refused_by: Option<Arc<str>>,
}

impl Failure {
    /// A failure without a traceback.
    pub fn new(
        category: Category,
        error_type: impl Into<String>,
        message: impl Into<String>,
    ) -> Failure {
        let (error_type, message) = (error_type.into(), message.into());
        Failure {
            category,
            error_type,
            message,
            traceback: None,
            retry_after: None,
            refused_by: None,
        }
    }
}
