//! Who gets the events of a type, and why others do not.

use std::sync::Arc;

use serde::Serialize;

use super::handle::Bus;
use super::options::Role;
use crate::error::{Result, did_you_mean};
use crate::topic::Topic;

/// Who gets the events of one type, and why others do not.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The type asked about.
    pub event_type: String,
    /// Subscriptions, responders and command handlers that match.
    pub receivers: Vec<Receiver>,
    /// Subscriptions that do not match, with the reason.
    pub others: Vec<(String, String)>,
    /// A near type that somebody listens to, when nobody listens to this one.
    pub suggestion: Option<String>,
}

/// One receiver in an [`Explanation`].
#[derive(Clone, Debug, Serialize)]
pub struct Receiver {
    /// The subscription's name.
    pub name: String,
    /// Its pattern.
    pub pattern: String,
    /// `subscriber`, `responder` or `command_handler`.
    pub role: &'static str,
    /// What runs its handler.
    pub runs: &'static str,
    /// Whether a filter decides event by event.
    pub filtered: bool,
    /// How many events wait for it.
    pub queued: usize,
    /// The most attempts an event gets.
    pub max_attempts: u32,
    /// How its deliveries are settled.
    pub ack: &'static str,
    /// Its group.
    pub group: Option<String>,
    /// Among how many the events of its group are shared, itself included.
    pub shared_by: usize,
}

impl Bus {
    /// Says who gets an event of this type, and why others do not; with `internal`, of the core's
    /// own subscriptions, too.
    ///
    /// # Errors
    /// `Kind::Topic` for a malformed type.
    pub fn explain(&self, event_type: &str, internal: bool) -> Result<Explanation> {
        let topic = Topic::parse(event_type)?;
        let mut subscriptions = self.subscriptions();
        subscriptions.retain(|subscription| internal || !subscription.options().internal);
        let (matching, others): (Vec<_>, Vec<_>) =
            subscriptions.iter().partition(|s| s.wants(&topic));
        let suggestion = if matching.is_empty() {
            did_you_mean(event_type, others.iter().map(|s| s.pattern().as_str())).map(str::to_owned)
        } else {
            None
        };
        Ok(Explanation {
            event_type: event_type.to_owned(),
            receivers: matching
                .iter()
                .map(|s| Receiver {
                    name: s.name().to_owned(),
                    pattern: s.pattern().to_string(),
                    role: match s.options().role {
                        Role::Subscriber => "subscriber",
                        Role::Responder => "responder",
                        Role::CommandHandler => "command_handler",
                    },
                    runs: s.executor().describe(),
                    filtered: s.options().filter.is_some(),
                    queued: s.depth(),
                    ack: s.options().ack.as_str(),
                    group: s.options().group.as_deref().map(str::to_owned),
                    shared_by: matching
                        .iter()
                        .filter(|other| match (s.group(), other.group()) {
                            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
                            _ => other.id() == s.id(),
                        })
                        .count(),
                    max_attempts: match (s.options().role, &s.options().policy.retry) {
                        (Role::Responder, _) | (_, None) => 1,
                        (_, Some(retry)) => retry.max_attempts().unwrap_or(u32::MAX),
                    },
                })
                .collect(),
            others: others
                .into_iter()
                .map(|s| {
                    let reason = if s.pattern().matches(&topic) {
                        "excludes this type: another handler of its component takes it".into()
                    } else {
                        format!("pattern `{}` does not match", s.pattern())
                    };
                    (s.name().to_owned(), reason)
                })
                .collect(),
            suggestion,
        })
    }
}
