//! Options of a subscription that make no sense, refused before it exists.

use super::ack::Ack;
use super::overflow::Overflow;
use super::subscription::{Options, Role};
use crate::error::{Error, Kind, Result};

impl Options {
    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// `Kind::Configuration`, saying what it is and what may be meant instead.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("capacity", self.capacity), ("concurrency", self.concurrency)] {
            if value == 0 {
                return refused(format!("{name} must be at least 1, got 0"));
            }
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return refused("timeout must be above zero: it is what one attempt may take");
        }
        let ack = self.ack.as_str();
        if !self.ack.retries() && self.policy.retry.is_some() {
            return refused(format!(
                "ack={ack:?} settles an event at its first failure, so that retry= has nothing to \
                 do; leave one of them out"
            ));
        }
        if self.ack == Ack::Manual && self.policy.fallback {
            return refused(
                "ack=\"manual\" leaves the decision to the handler, so that fallback= has nothing \
                 to do; leave one of them out",
            );
        }
        if (self.ack == Ack::Manual) != self.manual.is_some() {
            return refused("ack=\"manual\" goes with a place where decisions are made");
        }
        if self.role == Role::Responder && self.ack != Ack::default() {
            return refused("a responder settles a request by its reply; leave ack= out");
        }
        if self.group.as_ref().is_some_and(|group| group.is_empty()) {
            return refused("a group has a name; for every event, leave group= out");
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
