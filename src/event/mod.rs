//! Events: what travels through the bus, in memory and on the wire.
//!
//! An [`Event`] is immutable and shared by an `Arc`; its payload is encoded once, when it is
//! published, and decoded by each handler that looks at it.

mod id;
mod lease;
mod metadata;
mod payload;
mod wire;

use std::fmt;
use std::sync::Arc;

pub use id::{Id, IdSource};
pub use lease::{Lease, Letter};
pub use metadata::{Extra, Lineage, Metadata, Priority, ReplyTo};
pub use payload::{Encoder, MAX_DEPTH, Node, Payload, PayloadError};

pub use wire::{Decoder, MetadataOf};

use crate::topic::Topic;

/// The categories of the requirement; others are allowed.
pub const KNOWN_CATEGORIES: [&str; 5] = ["system", "market_data", "analysis", "trading", "user"];

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// Unique and time-ordered; `evt_…` on the wire.
    pub id: Id,
    /// What happened.
    pub topic: Topic,
    /// When it was published, in Unix milliseconds.
    pub timestamp: i64,
    /// How long after that it was here to be handled, in milliseconds: where it was delayed,
    /// replayed, or read from a broker; below zero where another clock is ahead. Not told to
    /// others. It is narrow to cost no room.
    pub late: i32,
    /// Which component published it; stamped by the core.
    pub producer: Arc<str>,
    /// Schema version of the payload, from 1.
    pub version: u32,
    /// What is to be known about it.
    pub payload: Payload,
    /// Priority, lineage and the like.
    pub metadata: Metadata,
}

/// How long after `timestamp` it is `unix_ms`, as far as that can be told.
fn late(unix_ms: i64, timestamp: i64) -> i32 {
    let late = unix_ms.saturating_sub(timestamp);
    late.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

impl Event {
    /// Since when it is here to be handled, in Unix milliseconds.
    pub fn arrived(&self) -> i64 {
        self.timestamp.saturating_add(self.late.into())
    }

    /// The first segment of the type.
    pub fn category(&self) -> &str {
        self.topic.category()
    }

    /// The chain of events it belongs to: its parent's, or its own id.
    pub fn correlation_id(&self) -> &Id {
        self.metadata.lineage.as_ref().map_or(&self.id, |lineage| &lineage.correlation_id)
    }

    /// The event whose handling published it.
    pub fn causation_id(&self) -> Option<&Id> {
        self.metadata.lineage.as_ref().and_then(|lineage| lineage.causation_id.as_ref())
    }

    /// The partition key, if it has one.
    pub fn key(&self) -> Option<&Arc<str>> {
        self.metadata.extra.as_ref().and_then(|extra| extra.key.as_ref())
    }

    /// What ties it to the place that it was read from, if it was.
    pub fn lease(&self) -> Option<&Arc<dyn Lease>> {
        self.metadata.extra.as_ref().and_then(|extra| extra.lease.as_ref())
    }

    /// Its handling has ended for good: it may be forgotten where it was read from.
    #[inline]
    pub fn settle(&self) {
        if let Some(lease) = self.lease() {
            lease.settle();
        }
    }

    /// The same event, which is here to be handled since `unix_ms`.
    #[must_use]
    pub fn arriving(mut self: Arc<Self>, unix_ms: i64) -> Arc<Event> {
        let late = late(unix_ms, self.timestamp);
        Arc::make_mut(&mut self).late = late;
        self
    }

    /// When it loses its worth, in Unix milliseconds.
    pub fn deadline(&self) -> Option<i64> {
        self.metadata.extra.as_ref().and_then(|extra| extra.deadline)
    }

    /// Whether it has lost its worth at `unix_ms`.
    pub fn is_expired(&self, unix_ms: i64) -> bool {
        self.deadline().is_some_and(|deadline| unix_ms >= deadline)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.topic, self.id)
    }
}
