//! A component's figures, and its last error.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use crate::clock::Instant;
use crate::error::Category;

/// The last error of a component, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// What to do about it.
    pub category: Category,
    /// The exception's class, or the error's kind.
    pub error_type: String,
    /// What it said.
    pub message: String,
    /// When, in Unix milliseconds.
    pub at: i64,
}

/// A component's figures, counted by whoever does the counted thing.
#[derive(Debug, Default)]
pub struct Meters {
    published: AtomicU64,
    errors: AtomicU64,
    last_error: Mutex<Option<LastError>>,
    last_loss: Mutex<Option<Instant>>,
}

impl Meters {
    /// The component published `count` events.
    pub fn published(&self, count: u64) {
        self.published.fetch_add(count, Ordering::Relaxed);
    }

    /// A failed attempt or hook; `lost_at` when it was the last word on an event.
    pub fn failed(&self, error: LastError, lost_at: Option<Instant>) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock() = Some(error);
        if lost_at.is_some() {
            *self.last_loss.lock() = lost_at;
        }
    }

    /// Events published.
    pub fn events_published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Failed attempts and hooks.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// The last error, if there was one.
    pub fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().clone()
    }

    /// When an event was last given up.
    pub fn last_loss(&self) -> Option<Instant> {
        *self.last_loss.lock()
    }
}
