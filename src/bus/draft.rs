//! An event before it is stamped: what its publisher says about it.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::event::{Event, Extra, Id, IdSource, Lineage, Metadata, Payload, Priority, ReplyTo};
use crate::topic::Topic;

/// The most metadata an event may carry, in bytes of JSON.
const MAX_METADATA: usize = 8 * 1024;

/// What is to be published.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// The type.
    pub event_type: &'a str,
    /// The content.
    pub payload: Payload,
    /// Its id; a new one if absent.
    pub id: Option<Id>,
    /// Who publishes; the core itself if absent.
    pub producer: Option<Arc<str>>,
    /// Schema version of the payload.
    pub version: u32,
    /// Which lane it takes.
    pub priority: Priority,
    /// Events of one key keep their order.
    pub key: Option<Arc<str>>,
    /// The chain it belongs to; the parent's, or its own id, if absent.
    pub correlation_id: Option<Id>,
    /// When it loses its worth, in Unix milliseconds; never later than the parent's.
    pub deadline: Option<i64>,
    /// Further metadata.
    pub metadata: Option<Box<serde_json::Map<String, serde_json::Value>>>,
    /// The event whose handling publishes this one.
    pub parent: Option<&'a Event>,
}

/// Where the reply to a request goes, and when it is no longer waited for, in Unix milliseconds.
pub(super) struct Reply {
    to: ReplyTo,
    expires: i64,
}

impl Reply {
    /// To `to`, for `limit` from now.
    pub fn to(to: ReplyTo, limit: Duration, unix_ms: i64) -> Reply {
        let millis = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        Reply { to, expires: unix_ms.saturating_add(millis) }
    }
}

impl<'a> Draft<'a> {
    /// A draft with nothing but type and content.
    pub fn new(event_type: &'a str, payload: Payload) -> Self {
        Draft {
            event_type,
            payload,
            id: None,
            producer: None,
            version: 1,
            priority: Priority::Normal,
            key: None,
            correlation_id: None,
            deadline: None,
            metadata: None,
            parent: None,
        }
    }

    /// The same draft without its borrows.
    pub(super) fn with_type<'b>(self, event_type: &'b str, parent: Option<&'b Event>) -> Draft<'b> {
        Draft {
            event_type,
            payload: self.payload,
            id: self.id,
            producer: self.producer,
            version: self.version,
            priority: self.priority,
            key: self.key,
            correlation_id: self.correlation_id,
            deadline: self.deadline,
            metadata: self.metadata,
            parent,
        }
    }

    /// The event, shared from the start: it is built where it stays.
    pub(super) fn stamp(
        self,
        topic: Topic,
        ids: &IdSource,
        unix_ms: i64,
        core_producer: &Arc<str>,
        reply: Option<Reply>,
    ) -> Result<Arc<Event>> {
        let id = self.id.unwrap_or_else(|| ids.next(unix_ms));
        let parent = self.parent;
        let inherited = parent.and_then(|parent| parent.metadata.extra.as_ref());
        let deadline = match (self.deadline, inherited.and_then(|extra| extra.deadline)) {
            (Some(own), Some(inherited)) => Some(own.min(inherited)),
            (own, inherited) => own.or(inherited),
        };
        let deadline = match (&reply, deadline) {
            (Some(reply), Some(deadline)) => Some(deadline.min(reply.expires)),
            (Some(reply), None) => Some(reply.expires),
            (None, deadline) => deadline,
        };
        let traceparent = inherited.and_then(|extra| extra.traceparent.clone());
        let plain = self.key.is_none()
            && deadline.is_none()
            && traceparent.is_none()
            && self.metadata.as_ref().is_none_or(|metadata| metadata.is_empty());
        let extra = if plain {
            None
        } else {
            let other = self.metadata.map_or_else(Default::default, |metadata| *metadata);
            let reply_to = reply.map(|reply| reply.to);
            let key = self.key;
            let extra = Extra { key, deadline, reply_to, traceparent, other, lease: None };
            Some(Box::new(check_size(extra)?))
        };
        let metadata = Metadata {
            priority: self.priority,
            lineage: match parent {
                None => Lineage::of(&id, self.correlation_id, None),
                Some(parent) => Lineage::of(
                    &id,
                    self.correlation_id.or_else(|| Some(parent.correlation_id().clone())),
                    Some(parent.id.clone()),
                ),
            },
            retry_count: 0,
            extra,
        };
        Ok(Arc::new(Event {
            id,
            topic,
            timestamp: unix_ms,
            late: 0,
            producer: self.producer.unwrap_or_else(|| core_producer.clone()),
            version: self.version,
            payload: self.payload,
            metadata,
        }))
    }
}

fn check_size(extra: Extra) -> Result<Extra> {
    let key = extra.key.as_ref().map_or(0, |key| key.len());
    let other = if extra.other.is_empty() {
        0
    } else {
        serde_json::to_string(&extra.other).map_or(usize::MAX, |text| text.len())
    };
    if key.saturating_add(other) > MAX_METADATA {
        return Err(Error::new(
            Kind::Payload,
            "publish",
            format!(
                "metadata: {} bytes, the limit is {MAX_METADATA}; put large values into the payload",
                key.saturating_add(other)
            ),
        )
        .with("path", "metadata"));
    }
    Ok(extra)
}
