//! How a subscription wants to be served, and what is refused of that before it exists.

use std::sync::Arc;
use std::time::Duration;

use super::ack::Ack;
use super::key::KeyPath;
use super::manual::Manual;
use super::overflow::Overflow;
use super::policy::Policy;
use crate::error::{Error, Kind, Result};
use crate::filter::Filter;
use crate::topic::Pattern;
use crate::transport::Start;

/// What the handler is for, which decides how events reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Gets every matching event.
    Subscriber,
    /// Answers requests of one type; one of several responders gets each request.
    Responder,
    /// The one handler of a command.
    CommandHandler,
}

/// How a subscription wants to be served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name for people: `component.handler`.
    pub name: String,
    /// The component it belongs to.
    pub component: Option<Arc<str>>,
    /// Topics it does not want although they match its pattern.
    pub exclude: Vec<Pattern>,
    /// Which of the matching events it takes.
    pub filter: Option<Filter>,
    /// Where an event's key is found; absent, it is the one that the event was published with.
    pub key: Option<KeyPath>,
    /// How many events may wait.
    pub capacity: usize,
    /// What happens when more come.
    pub overflow: Overflow,
    /// How often an event of one topic and key is handled at most; for `Overflow::Sample`.
    pub sample_interval: Option<Duration>,
    /// How many handlers may run at once; 1 keeps the order, more keep it by key.
    pub concurrency: usize,
    /// How long a handler may take.
    pub timeout: Option<Duration>,
    /// What happens after failures.
    pub policy: Policy,
    /// When a delivery counts as done, and what its failure means.
    pub ack: Ack,
    /// Where decisions are made; for `Ack::Manual`, and for this subscription alone.
    pub manual: Option<Arc<Manual>>,
    /// Where its group begins if nobody has read for that yet.
    pub start: Start,
    /// The group it belongs to; none means that it gets every event itself.
    pub group: Option<Arc<str>>,
    /// Whether the group's events are shared between its members on this bus.
    pub competing: bool,
    /// What the handler is for.
    pub role: Role,
    /// A subscription of the core's own machinery: its failures are logged, and publish no
    /// error events, which would come back to it.
    pub internal: bool,
    /// Of the core's own machinery: it hears what other processes tell, too.
    pub abroad: bool,
}

impl Options {
    /// A subscriber that takes every event of its topics, one after the other, and tries each
    /// once.
    pub fn named(name: impl Into<String>) -> Options {
        Options {
            name: name.into(),
            component: None,
            exclude: Vec::new(),
            filter: None,
            key: None,
            capacity: 10_000,
            overflow: Overflow::Block,
            sample_interval: None,
            concurrency: 1,
            timeout: None,
            policy: Policy::default(),
            ack: Ack::default(),
            manual: None,
            start: Start::Now,
            group: None,
            competing: false,
            role: Role::Subscriber,
            internal: false,
            abroad: false,
        }
    }

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
