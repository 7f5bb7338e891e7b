//! What is kept of a failure.

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
}
