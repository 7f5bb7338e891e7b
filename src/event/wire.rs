//! The wire form: JSON exactly as the requirement shows it, for any client in any language.

use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Event, Extra, Id, Lineage, Metadata, Payload, Priority, ReplyTo};
use crate::error::{Error, Kind, Result};
use crate::topic::Topic;

impl Event {
    /// The event as one line of JSON.
    pub fn to_json(&self) -> String {
        // Strings, integers and an encoded payload: there is nothing that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Adds the event to `text`, as [`Event::to_json`] has it.
    pub fn write_json(&self, text: &mut Vec<u8>) {
        // As there.
        let _ = serde_json::to_writer(text, self);
    }

    /// Reads an event that somebody else may have written.
    ///
    /// # Errors
    /// `Kind::Payload` or `Kind::Topic`, naming the field.
    pub fn from_json(text: &str) -> Result<Event> {
        Decoder::default().decode(text)
    }

    /// [`Event::from_json`] for what is unusual, or wrong, of which it tells all that is known.
    fn from_any_json(text: &str) -> Result<Event> {
        let wire: Wire<'_> = serde_json::from_str(text).map_err(|error| {
            Error::new(Kind::Payload, "decode event", format!("not an event: {error}"))
        })?;
        wire.into_event()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut event = serializer.serialize_struct("Event", 7)?;
        event.serialize_field("event_id", &Text(&self.id))?;
        event.serialize_field("event_type", self.topic.as_str())?;
        event.serialize_field("timestamp", &self.timestamp)?;
        event.serialize_field("producer", &*self.producer)?;
        event.serialize_field("version", &self.version)?;
        event.serialize_field("payload", &self.payload)?;
        event.serialize_field("metadata", &MetadataOf(self))?;
        event.end()
    }
}

/// The metadata of an event in its wire form.
#[derive(Debug)]
pub struct MetadataOf<'a>(pub &'a Event);

impl Serialize for MetadataOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let MetadataOf(event) = self;
        let metadata = &event.metadata;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("priority", metadata.priority.as_str())?;
        map.serialize_entry("correlation_id", &Text(event.correlation_id()))?;
        if let Some(id) = event.causation_id() {
            map.serialize_entry("causation_id", &Text(id))?;
        }
        map.serialize_entry("retry_count", &metadata.retry_count)?;
        if let Some(extra) = &metadata.extra {
            for (name, text) in [
                ("key", extra.key.as_deref()),
                ("reply_to", extra.reply_to.as_ref().map(ReplyTo::as_str)),
                ("traceparent", extra.traceparent.as_deref()),
            ] {
                if let Some(text) = text {
                    map.serialize_entry(name, text)?;
                }
            }
            if let Some(deadline) = extra.deadline {
                map.serialize_entry("deadline", &deadline)?;
            }
            for (name, value) in &extra.other {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

struct Text<'a>(&'a Id);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

/// Reads events one after the other: most often one is like the last.
#[derive(Debug, Default)]
pub struct Decoder {
    topic: Option<Topic>,
    producer: Option<Arc<str>>,
}

impl Decoder {
    /// Reads an event.
    ///
    /// # Errors
    /// As [`Event::from_json`].
    pub fn decode(&mut self, text: &str) -> Result<Event> {
        let Ok(Usual { event_id, event_type, timestamp, producer, version, payload, metadata }) =
            serde_json::from_str(text)
        else {
            return Event::from_any_json(text);
        };
        let topic = match &self.topic {
            Some(last) if last.as_str() == event_type => last.clone(),
            _ => self.topic.insert(Topic::parse(event_type)?).clone(),
        };
        let producer = match &self.producer {
            Some(last) if **last == *producer => last.clone(),
            _ => self.producer.insert(Arc::from(producer)).clone(),
        };
        let id = Id::parse(event_id);
        let metadata = metadata.of(&id);
        let late = 0; // until somebody takes it in
        Ok(Event { id, topic, timestamp, late, producer, version, payload, metadata })
    }
}

/// An event without escapes in its names, read in one go.
#[derive(serde::Deserialize)]
struct Usual<'a> {
    event_id: &'a str,
    event_type: &'a str,
    timestamp: i64,
    #[serde(default)]
    producer: &'a str,
    #[serde(default = "first_version")]
    version: u32,
    payload: Payload,
    #[serde(default, borrow)]
    metadata: UsualMetadata<'a>,
}

/// The metadata of such an event.
#[derive(Default)]
struct UsualMetadata<'a> {
    priority: Priority,
    correlation_id: Option<&'a str>,
    causation_id: Option<&'a str>,
    retry_count: u32,
    extra: Option<Box<Extra>>,
}

impl UsualMetadata<'_> {
    fn of(self, own: &Id) -> Metadata {
        let correlation_id = self.correlation_id.map(Id::parse);
        let causation_id = self.causation_id.map(Id::parse);
        Metadata {
            priority: self.priority,
            lineage: Lineage::of(own, correlation_id, causation_id),
            retry_count: self.retry_count,
            extra: self.extra,
        }
    }
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for UsualMetadata<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetadataVisitor(std::marker::PhantomData))
    }
}

struct MetadataVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> serde::de::Visitor<'de> for MetadataVisitor<'a> {
    type Value = UsualMetadata<'a>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("metadata")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(
        self,
        mut map: A,
    ) -> Result<UsualMetadata<'a>, A::Error> {
        let mut found = UsualMetadata::default();
        while let Some(name) = map.next_key::<&'de str>()? {
            match name {
                "priority" => {
                    let priority = Priority::parse(map.next_value()?);
                    found.priority = priority.ok_or_else(|| A::Error::custom("no priority"))?;
                }
                "correlation_id" => found.correlation_id = map.next_value()?,
                "causation_id" => found.causation_id = map.next_value()?,
                "retry_count" => found.retry_count = map.next_value()?,
                "key" | "reply_to" | "traceparent" => {
                    let text: Option<&'de str> = map.next_value()?;
                    let Some(text) = text else { continue };
                    let extra = found.extra.get_or_insert_default();
                    match name {
                        "key" => extra.key = Some(text.into()),
                        "reply_to" => extra.reply_to = Some(ReplyTo::Elsewhere(text.into())),
                        _ => extra.traceparent = Some(text.into()),
                    }
                }
                "deadline" => {
                    let deadline: Option<i64> = map.next_value()?;
                    if deadline.is_some() {
                        found.extra.get_or_insert_default().deadline = deadline;
                    }
                }
                _ => {
                    let value: Value = map.next_value()?;
                    let extra = found.extra.get_or_insert_default();
                    extra.other.insert(name.to_owned(), value);
                }
            }
        }
        Ok(found)
    }
}

#[derive(serde::Deserialize)]
struct Wire<'a> {
    event_id: String,
    event_type: String,
    timestamp: i64,
    #[serde(default)]
    producer: String,
    #[serde(default = "first_version")]
    version: u32,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(default)]
    metadata: serde_json::Map<String, Value>,
}

fn first_version() -> u32 {
    1
}

impl Wire<'_> {
    fn into_event(self) -> Result<Event> {
        let refuse = |field: &str, reason: String| {
            Error::new(Kind::Payload, "decode event", format!("{field}: {reason}"))
                .with("event_id", self.event_id.clone())
        };
        let payload = Payload::from_json(self.payload.get())
            .map_err(|error| refuse("payload", error.reason))?;
        let id = Id::parse(&self.event_id);
        let metadata = read_metadata(self.metadata, &id)
            .map_err(|error| refuse("metadata", error.to_string()))?;
        Ok(Event {
            topic: Topic::parse(&self.event_type)?,
            id,
            timestamp: self.timestamp,
            late: 0,
            producer: Arc::from(self.producer),
            version: self.version,
            payload,
            metadata,
        })
    }
}

fn read_metadata(
    mut map: serde_json::Map<String, Value>,
    own: &Id,
) -> Result<Metadata, serde_json::Error> {
    // What is left keeps its order.
    let mut text = |name: &str| match map.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => {
            Err(serde_json::Error::custom(format_args!("{name} must be a string, got {other}")))
        }
    };
    let priority = match text("priority")? {
        None => Priority::Normal,
        Some(name) => Priority::parse(&name).ok_or_else(|| {
            serde_json::Error::custom(format_args!(
                "priority must be low, normal, high or critical, got {name:?}"
            ))
        })?,
    };
    let correlation_id = text("correlation_id")?.map(|id| Id::parse(&id));
    let causation_id = text("causation_id")?.map(|id| Id::parse(&id));
    let mut extra = Extra {
        key: text("key")?.map(Arc::from),
        deadline: None,
        reply_to: text("reply_to")?.map(|text| ReplyTo::Elsewhere(Arc::from(text))),
        traceparent: text("traceparent")?.map(Arc::from),
        other: serde_json::Map::new(),
        lease: None,
    };
    let mut number = |name: &str| match map.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| {
            serde_json::Error::custom(format_args!("{name} must be an integer, got {value}"))
        }),
    };
    let retry_count = number("retry_count")?.unwrap_or(0);
    extra.deadline = number("deadline")?;
    extra.other = map;
    Ok(Metadata {
        priority,
        lineage: Lineage::of(own, correlation_id, causation_id),
        // A count beyond the type is a count we stop at, not a reason to lose the event.
        retry_count: u32::try_from(retry_count.max(0)).unwrap_or(u32::MAX),
        extra: (!extra.is_empty()).then(|| Box::new(extra)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIREMENT: &str = r#"{"event_id":"evt_12345","event_type":"market_data.price_update","timestamp":1645541585432,"producer":"data_collection_framework","version":1,"payload":{"symbol":"BTCUSDT","price":38245.5,"volume":2.15},"metadata":{"priority":"normal","correlation_id":"corr_67890","retry_count":0}}"#;

    #[test]
    fn the_requirements_event_comes_back_to_the_letter() {
        let event = Event::from_json(REQUIREMENT).expect("the requirement's own event");
        assert_eq!(event.category(), "market_data");
        assert_eq!(event.to_json(), REQUIREMENT);
    }

    #[test]
    fn unknown_metadata_is_kept() {
        let text = REQUIREMENT.replace(
            r#""retry_count":0"#,
            r#""retry_count":2,"key":"BTC","deadline":5,"tenant":{"id":7}"#,
        );
        let event = Event::from_json(&text).expect("valid");
        assert_eq!(event.key().map(|key| &**key), Some("BTC"));
        assert!(event.is_expired(5) && !event.is_expired(4));
        assert_eq!(event.to_json(), text);
    }

    #[test]
    fn what_is_unusual_is_read_as_well() {
        let usual = Event::from_json(REQUIREMENT).expect("valid").to_json();
        for (from, to) in [
            ("BTCUSDT", "BTC\\u0055SDT"),
            ("evt_12345", "evt_1\\u00323\\u0034\\u0035"),
            ("\"priority\"", "\"prior\\u0069ty\""),
            ("\"retry_count\":0", "\"retry_count\":-3"),
            ("\"retry_count\":0", "\"key\":null,\"retry_count\":null"),
            ("corr_67890", "corr\\u005f67890"),
        ] {
            let text = REQUIREMENT.replace(from, to);
            assert_ne!(text, REQUIREMENT);
            assert_eq!(Event::from_json(&text).expect(to).to_json(), usual);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, says) in [
            (r#""normal""#, r#""urgent""#, "priority must be"),
            ("market_data.price_update", "market_data..x", "empty segment"),
            (r#""retry_count":0"#, r#""retry_count":"x""#, "retry_count must be an integer"),
            (r#""timestamp":1645541585432"#, r#""timestamp":"now""#, "not an event"),
        ] {
            let error = Event::from_json(&REQUIREMENT.replace(from, to)).expect_err(to);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
