//! What a subscription asks of the bus it is on.

use std::sync::Arc;

use super::dead_letters::DeadLetter;
use super::group::Group;
use super::requests::Answer;
use super::subscription::Subscription;
use crate::clock::Clock;
use crate::event::Event;

/// The bus, as far as its subscriptions know it.
pub(super) trait Owner: Send + Sync {
    /// The clock that retries and probes wait by.
    fn clock(&self) -> &Clock;

    /// Takes the subscription off the routes; its books are kept.
    fn forget(&self, subscription: u64);

    /// Who shares events in `group`, in the order in which they subscribed; nobody once the bus
    /// is closed.
    fn members(&self, group: &Arc<Group>) -> Vec<Arc<Subscription>>;

    /// Lets go of subscriptions that have ended, and whose last handlers are done.
    fn release_ended(&self);

    /// Publishes an event of the core's own, caused by `parent`, if anybody listens.
    fn tell(&self, topic: &str, payload: serde_json::Value, parent: Option<&Event>);

    /// Answers the request that `event` is.
    fn answer(&self, event: &Event, answer: Answer);

    /// Keeps a delivery that was given up.
    fn keep(&self, letter: DeadLetter);
}
