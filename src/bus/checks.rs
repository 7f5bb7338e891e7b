//! Options of a subscription that make no sense, refused before it exists.

use super::overflow::Overflow;
use super::subscription::Options;
use crate::error::{Error, Kind, Result};

impl Options {
    /// Refuses what cannot be meant.
    pub(super) fn check(&self) -> Result<()> {
        for (name, value) in [("capacity", self.capacity), ("concurrency", self.concurrency)] {
            if value == 0 {
                return refused(format!("{name} must be at least 1, got 0"));
            }
        }
        match (self.overflow, self.sample_interval) {
            (Overflow::Sample, None) => refused(
                "overflow=\"sample\" needs sample_interval=, the seconds in which at most one \
                 event of each topic and key is handled",
            ),
            (Overflow::Sample, Some(interval)) if interval.is_zero() => refused(
                "sample_interval must be above zero; for the newest event without an interval, \
                 use overflow=\"latest\"",
            ),
            (Overflow::Sample, Some(_)) | (_, None) => Ok(()),
            (other, Some(_)) => refused(format!(
                "sample_interval= belongs to overflow=\"sample\", and overflow is {:?}",
                other.as_str()
            )),
        }
    }
}

fn refused(message: impl Into<String>) -> Result<()> {
    Err(Error::new(Kind::Configuration, "subscribe", message))
}
