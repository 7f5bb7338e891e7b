//! What `system.handler_stalled` and `system.handler_recovered` say.

use serde::Serialize;

use crate::bus::Subscription;
use crate::event::Event;

/// A handler that holds up the thread it runs on.
#[derive(Serialize)]
pub(super) struct Stalled<'a> {
    subscription: &'a str,
    component: Option<&'a str>,
    event_id: Option<String>,
    event_type: Option<&'a str>,
    seconds: f64,
    action: &'static str,
    /// Where it stands: its own line, and from there inwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<&'a [String]>,
}

impl<'a> Stalled<'a> {
    pub(super) fn new(
        subscription: &'a Subscription,
        event: Option<&'a Event>,
        seconds: f64,
        action: &'static str,
    ) -> Stalled<'a> {
        Stalled {
            subscription: subscription.name(),
            component: subscription.component().map(|name| &**name),
            event_id: event.map(|event| event.id.to_string()),
            event_type: event.map(|event| event.topic.as_str()),
            seconds,
            action,
            stack: None,
        }
    }

    pub(super) fn at(self, stack: &'a [String]) -> Stalled<'a> {
        Stalled { stack: Some(stack), ..self }
    }
}
