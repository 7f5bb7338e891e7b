//! Asking many: one request for all responders of its type.

use std::sync::Arc;
use std::time::Duration;

use super::admission::Admission;
use super::core::Core;
use super::draft::Draft;
use super::failure::Failure;
use super::gather::Wanted;
use super::handle::Bus;
use super::options::Role;
use super::reply::PendingReplies;
use super::subscription::Subscription;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::sync::Ordering;
use crate::topic::Topic;

/// A request to many on its way.
#[derive(Debug)]
pub struct RequestedMany {
    /// The request as an event.
    pub event: Arc<Event>,
    /// Its replies.
    pub replies: PendingReplies,
    /// Who was asked.
    pub responders: Vec<Arc<Subscription>>,
    /// Places in line before mailboxes that were full; dropping them gives them up.
    pub admissions: Vec<Admission>,
}

impl Bus {
    /// Sends a request to all of its responders, for the first `wanted.n` replies.
    ///
    /// # Errors
    /// `Kind::NoResponder` at once when there are fewer than that; else as [`Bus::request`]. A
    /// responder whose mailbox is full, and fails then, counts as one that failed.
    pub fn request_many(
        &self,
        draft: Draft<'_>,
        timeout: Duration,
        wanted: Wanted,
    ) -> Result<RequestedMany> {
        let core = &self.0;
        core.check_open("request")?;
        let topic = Topic::parse(draft.event_type)?;
        let responders = core.responders(&topic, wanted.n)?;
        let asked = responders.len();
        let (id, replies) = core.requests.open_many(timeout, &topic, (wanted, asked));
        let event = core.stamp_request(draft, topic, timeout, id)?;
        core.published.fetch_add(1, Ordering::Relaxed);
        let mut admissions = Vec::new();
        for responder in &responders {
            match core.deliver(event.clone(), std::slice::from_ref(responder)) {
                Ok(published) => admissions.extend(published.admission),
                Err(error) => core.requests.answer(&event, Err(failure(responder, &error))),
            }
        }
        Ok(RequestedMany { event, replies, responders, admissions })
    }
}

impl Core {
    /// Everybody who responds to `topic`, where they are at least `n`.
    fn responders(&self, topic: &Topic, n: usize) -> Result<Vec<Arc<Subscription>>> {
        let serving = self.servers.lock().get(topic).cloned().unwrap_or_default();
        if serving.first().is_none_or(|first| first.options().role != Role::Responder) {
            return Err(self.nobody(topic, Role::Responder));
        }
        let there = serving.len();
        if there < n {
            let said = format!("n is {n}, but `{topic}` has {there} responder(s)");
            return Err(Error::new(Kind::NoResponder, "request", said)
                .with("event_type", topic.as_str())
                .with("n", n.to_string())
                .with("responders", there.to_string()));
        }
        Ok(serving)
    }
}

/// What is kept of a request that did not reach one of its responders.
fn failure(responder: &Subscription, error: &Error) -> Failure {
    Failure::new(
        error.category(),
        format!("{:?}", error.kind()),
        format!("{}: {}", responder.name(), error.message()),
    )
}
