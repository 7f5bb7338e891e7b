//! An event on its way, and what its publisher hears of it.

use std::fmt;
use std::sync::Arc;

use crate::clock::Instant;
use crate::error::{Error, Kind};
use crate::event::Event;
use crate::transport::outcome::{Outcome, Pending};

/// Why an event could not be sent in time.
#[derive(Clone, Copy, Debug)]
pub struct Late<'a> {
    /// What its publisher gets.
    pub kind: Kind,
    /// What is the matter with the broker, if that is known.
    pub trouble: Option<&'a str>,
}

impl<'a> Late<'a> {
    /// The broker does not answer.
    pub fn without_answer(trouble: Option<&'a str>) -> Late<'a> {
        Late { kind: Kind::Dependency, trouble }
    }
}

/// An event on its way to the place `P`.
pub struct Item<P> {
    /// The event.
    pub event: Arc<Event>,
    /// Where it goes.
    pub place: P,
    /// Whether it went out over a connection that was lost before the answer came.
    pub unanswered: bool,
    /// How often it went out.
    pub sends: u32,
    /// The lane in which it waits.
    pub(super) lane: Option<Arc<str>>,
    /// How many came before it.
    pub(super) number: u64,
    pub(super) until: Instant,
    pub(super) pending: Pending,
}

impl<P> Item<P> {
    /// The broker has it.
    pub fn accepted(self) {
        self.pending.settle(Ok(()));
    }

    /// It will not be tried again; `error` is why.
    pub fn failed(self, error: Error) {
        self.fail(error);
    }

    fn fail(&self, error: Error) {
        let outcome = if self.unanswered { Outcome::Unknown } else { Outcome::Refused };
        // That the broker takes nothing just now says nothing of what it was sent before.
        let over = matches!(error.kind(), Kind::Dependency | Kind::Closed | Kind::BrokerBlocked);
        let kind = if self.unanswered && over { Kind::OutcomeUnknown } else { error.kind() };
        let id = self.event.id.to_string();
        let error = Error::new(kind, "publish", error.message())
            .with("outcome", outcome.as_str())
            .with("event_id", id);
        self.pending.settle(Err(error));
    }

    /// Whether it is what the core tells of itself.
    pub(super) fn is_ours(&self) -> bool {
        self.event.topic.category() == "system"
    }

    /// Whether its time is over at `now`, or its publisher has heard so already.
    pub fn is_late(&self, now: Instant) -> bool {
        now >= self.until || self.pending.is_settled()
    }

    /// Whether its time is over at `now`, and its publisher has not heard so.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.until && !self.pending.is_settled()
    }

    /// Tells the publisher that its time is over, if it is; whether it is.
    pub fn expire(&self, now: Instant, why: Late<'_>) -> bool {
        if now < self.until {
            return false;
        }
        if !self.pending.is_settled() {
            let trouble = why.trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
            let said = format!("the broker did not take the event in time{trouble}");
            self.fail(Error::new(why.kind, "publish", said));
        }
        true
    }
}

impl<P> fmt::Debug for Item<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item({})", self.event)
    }
}
