//! What an event carries beside its payload.

use std::sync::Arc;

use super::{Id, Lease};

/// How urgent an event is. The order of the variants is the order of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Can wait.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before normal ones.
    High,
    /// Before all others.
    Critical,
}

impl Priority {
    /// Every priority, the most urgent first: the order in which lanes are served.
    pub const BY_URGENCY: [Priority; 4] =
        [Priority::Critical, Priority::High, Priority::Normal, Priority::Low];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
            Priority::Critical => "critical",
        }
    }

    /// Parses the name on the wire.
    pub fn parse(name: &str) -> Option<Priority> {
        Priority::BY_URGENCY.into_iter().find(|priority| priority.as_str() == name)
    }
}

/// Priority and lineage; the rarely used rest stands aside so that most events stay small.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// Which lane the event takes.
    pub priority: Priority,
    /// Where it comes from; absent where it begins a chain of its own.
    pub lineage: Option<Box<Lineage>>,
    /// How often handling was tried before.
    pub retry_count: u32,
    /// What only some events have.
    pub extra: Option<Box<Extra>>,
}

/// Where an event comes from.
#[derive(Clone, Debug)]
pub struct Lineage {
    /// The chain of events it belongs to.
    pub correlation_id: Id,
    /// The event whose handling published it.
    pub causation_id: Option<Id>,
}

impl Lineage {
    /// The lineage of the event `own`; none where it begins a chain of its own.
    pub fn of(own: &Id, correlation_id: Option<Id>, causation_id: Option<Id>) -> Option<Box<Self>> {
        let correlation_id = match correlation_id {
            None if causation_id.is_none() => return None,
            Some(id) if causation_id.is_none() && id == *own => return None,
            given => given.unwrap_or_else(|| own.clone()),
        };
        Some(Box::new(Lineage { correlation_id, causation_id }))
    }
}

/// The metadata that only some events have.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Partition key: events of one key keep their order.
    pub key: Option<Arc<str>>,
    /// When the event loses its worth, in Unix milliseconds.
    pub deadline: Option<i64>,
    /// Where the reply to a request goes.
    pub reply_to: Option<ReplyTo>,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
    /// Keys that are not ours, kept as they came.
    pub other: serde_json::Map<String, serde_json::Value>,
    /// What ties the event to the place that it was read from; never on the wire.
    pub lease: Option<Arc<dyn Lease>>,
}

/// Where the reply to a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// A place on the bus that sent the request: its number, as text without an allocation.
    Here(Digits),
    /// Whatever another system goes by.
    Elsewhere(Arc<str>),
}

/// A number in decimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digits {
    number: u64,
    text: [u8; Digits::MOST],
    from: u8,
}

impl Digits {
    /// How many a `u64` has at most.
    const MOST: usize = 20;

    fn of(number: u64) -> Digits {
        let mut digits = Digits { number, text: [b'0'; Digits::MOST], from: Digits::MOST as u8 };
        let mut left = number;
        loop {
            digits.from -= 1;
            digits.text[usize::from(digits.from)] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                return digits;
            }
        }
    }

    fn as_str(&self) -> &str {
        // ASCII throughout, so there is nothing to default from.
        std::str::from_utf8(&self.text[usize::from(self.from)..]).unwrap_or_default()
    }
}

impl ReplyTo {
    /// The place of this number.
    pub fn here(number: u64) -> ReplyTo {
        ReplyTo::Here(Digits::of(number))
    }

    /// As it stands on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            ReplyTo::Here(digits) => digits.as_str(),
            ReplyTo::Elsewhere(text) => text,
        }
    }

    /// The number of the place, if it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            ReplyTo::Here(digits) => Some(digits.number),
            ReplyTo::Elsewhere(text) => text.parse().ok(),
        }
    }
}

impl Extra {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.key.is_none()
            && self.deadline.is_none()
            && self.reply_to.is_none()
            && self.traceparent.is_none()
            && self.other.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_its_number_in_decimal() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let place = ReplyTo::here(number);
            assert_eq!(place.as_str(), number.to_string());
            assert_eq!(place.number(), Some(number));
            assert_eq!(ReplyTo::Elsewhere(place.as_str().into()).number(), Some(number));
        }
        assert_eq!(ReplyTo::Elsewhere("amq.reply".into()).number(), None);
    }
}
