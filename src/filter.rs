//! Content filters: which of the matching events a subscription takes.
//!
//! They read the encoded payload where it lies, so that an event nobody wants never wakes
//! Python.

use crate::error::{Error, Kind, Result};
use crate::event::{Event, Node};

/// A value that a field may be compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// JSON's null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// An integer, compared exactly.
    Int(i64),
    /// Text.
    Str(String),
}

impl Literal {
    fn equals(&self, node: Node<'_>) -> bool {
        match (self, node) {
            (Literal::Null, Node::Null) => true,
            (Literal::Bool(wanted), Node::Bool(found)) => *wanted == found,
            (Literal::Int(wanted), Node::Int(found)) => *wanted == found,
            (Literal::Int(wanted), Node::Float(found)) => *wanted as f64 == found,
            (Literal::Number(wanted), Node::Float(found)) => *wanted == found,
            (Literal::Number(wanted), Node::Int(found)) => *wanted == found as f64,
            (Literal::Number(wanted), Node::Uint(found)) => *wanted == found as f64,
            (Literal::Str(wanted), Node::Str(found)) => wanted == found,
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Payload(Vec<String>),
    Key,
    Priority,
    Producer,
    Type,
    Other(String),
}

/// All of its conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    conditions: Vec<(Field, Literal)>,
}

impl Filter {
    /// Adds the condition that the field at `path` equals `value`.
    ///
    /// A path starts at `payload`, `metadata`, `producer` or `event_type`.
    ///
    /// # Errors
    /// `Kind::Configuration` for a path that leads nowhere in any event.
    pub fn and_equals(mut self, path: &str, value: Literal) -> Result<Filter> {
        let mut segments = path.split('.');
        let field = match (segments.next(), segments.clone().next()) {
            _ if path.split('.').any(str::is_empty) => None,
            (Some("payload"), Some(_)) => Some(Field::Payload(segments.map(Into::into).collect())),
            (Some("producer"), None) => Some(Field::Producer),
            (Some("event_type"), None) => Some(Field::Type),
            (Some("metadata"), Some("key")) => Some(Field::Key),
            (Some("metadata"), Some("priority")) => Some(Field::Priority),
            (Some("metadata"), Some(name)) => Some(Field::Other(name.to_owned())),
            _ => None,
        };
        let field = field.ok_or_else(|| {
            Error::new(
                Kind::Configuration,
                "build filter",
                format!(
                    "filter path {path:?} leads nowhere; paths start with \"payload.\", \
                     \"metadata.\", or are \"producer\" or \"event_type\""
                ),
            )
            .with("path", path)
        })?;
        self.conditions.push((field, value));
        Ok(self)
    }

    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether `event` passes.
    pub fn accepts(&self, event: &Event) -> bool {
        self.conditions.iter().all(|(field, wanted)| match field {
            Field::Payload(path) => event
                .payload
                .get(path.iter().map(String::as_str))
                .is_some_and(|found| wanted.equals(found)),
            Field::Key => match event.key() {
                Some(key) => wanted.equals(Node::Str(key)),
                None => *wanted == Literal::Null,
            },
            Field::Priority => wanted.equals(Node::Str(event.metadata.priority.as_str())),
            Field::Producer => wanted.equals(Node::Str(&event.producer)),
            Field::Type => wanted.equals(Node::Str(event.topic.as_str())),
            Field::Other(name) => {
                event.metadata.extra.as_ref().and_then(|extra| extra.other.get(name)).is_some_and(
                    |found| match (wanted, found) {
                        (Literal::Str(wanted), serde_json::Value::String(found)) => wanted == found,
                        (Literal::Int(wanted), found) => found.as_i64() == Some(*wanted),
                        (Literal::Number(wanted), found) => found.as_f64() == Some(*wanted),
                        (Literal::Bool(wanted), found) => found.as_bool() == Some(*wanted),
                        (Literal::Null, found) => found.is_null(),
                        _ => false,
                    },
                )
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event::from_json(
            r#"{"event_id":"e","event_type":"market_data.price","timestamp":1,"producer":"feed",
                "payload":{"symbol":"BTC","price":5,"deep":{"ok":true}},
                "metadata":{"priority":"high","key":"BTC","tenant":"t1"}}"#,
        )
        .expect("valid")
    }

    #[test]
    fn conditions_read_payload_and_envelope() {
        for (path, value, passes) in [
            ("payload.symbol", Literal::Str("BTC".into()), true),
            ("payload.symbol", Literal::Str("ETH".into()), false),
            ("payload.price", Literal::Number(5.0), true),
            ("payload.price", Literal::Int(5), true),
            ("payload.price", Literal::Str("5".into()), false),
            ("payload.deep.ok", Literal::Bool(true), true),
            ("payload.absent", Literal::Null, false),
            ("metadata.priority", Literal::Str("high".into()), true),
            ("metadata.key", Literal::Str("BTC".into()), true),
            ("metadata.tenant", Literal::Str("t1".into()), true),
            ("producer", Literal::Str("feed".into()), true),
            ("event_type", Literal::Str("market_data.price".into()), true),
        ] {
            let filter = Filter::default().and_equals(path, value).expect(path);
            assert_eq!(filter.accepts(&event()), passes, "{path}");
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_is_refused() {
        for path in ["symbol", "payload", "payload..x", "", "producer.name"] {
            assert!(Filter::default().and_equals(path, Literal::Null).is_err(), "{path}");
        }
    }
}
