//! What ties an event to the place that it was read from.

use std::fmt;
use std::sync::Arc;

/// What is kept of an event that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// What it is called; no other letter is.
    pub name: Arc<str>,
    /// In JSON.
    pub text: String,
}

/// An event that is kept elsewhere, as on a broker, until its handling has ended.
///
/// Only the first call of each counts. Dropped unsettled, the event stays where it is kept, and
/// comes again.
pub trait Lease: Send + Sync + fmt::Debug {
    /// It was handled, or is not wanted any more: it may be forgotten.
    fn settle(&self);

    /// It was given up: this is to be kept in its place.
    fn bury(&self, letter: Letter);

    /// Nobody is at work on it any more: it may be given to somebody else.
    fn release(&self);
}
