//! Where in an event a value is found.

use std::borrow::Cow;

use super::value::Value;
use crate::error::{Error, Kind, Result, did_you_mean};
use crate::event::{Event, ReplyTo};

/// The names that a path may begin with.
const HEADS: [&str; 7] =
    ["payload", "metadata", "event_type", "event_id", "producer", "version", "timestamp"];

/// The metadata that the bus itself knows.
const METADATA: [(&str, Field); 8] = [
    ("key", Field::Key),
    ("priority", Field::Priority),
    ("correlation_id", Field::CorrelationId),
    ("causation_id", Field::CausationId),
    ("retry_count", Field::RetryCount),
    ("deadline", Field::Deadline),
    ("reply_to", Field::ReplyTo),
    ("traceparent", Field::Traceparent),
];

/// What there is to choose from, for messages.
pub(super) const CHOICES: &str = "paths start with `payload.` or `metadata.`, or are \
     `event_type`, `event_id`, `producer`, `version` or `timestamp`";

/// The way to one value of an event: `payload.order.symbol`, `metadata.key`, `producer`.
#[derive(Clone, Debug, PartialEq)]
pub struct Path(Field);

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Payload(Box<[String]>),
    /// Metadata that is not ours.
    Other(Box<[String]>),
    Key,
    Priority,
    CorrelationId,
    CausationId,
    RetryCount,
    Deadline,
    ReplyTo,
    Traceparent,
    Type,
    EventId,
    Producer,
    Version,
    Timestamp,
}

impl Path {
    /// Reads a path whose segments are what stands between the dots.
    ///
    /// # Errors
    /// `Kind::Configuration` for a path that leads nowhere in any event.
    pub fn parse(text: &str) -> Result<Path> {
        let segments: Vec<String> = text.split('.').map(str::to_owned).collect();
        Path::from_segments(&segments).ok_or_else(|| {
            let hint = suggestion(&segments).or_else(|| in_payload(&segments));
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            Error::new(
                Kind::Configuration,
                "read path",
                format!("the path {text:?} leads nowhere; {CHOICES}{hint}"),
            )
            .with("path", text)
        })
    }

    pub(super) fn from_segments(segments: &[String]) -> Option<Path> {
        let (head, rest) = segments.split_first()?;
        if rest.iter().any(String::is_empty) {
            return None;
        }
        Some(Path(match (head.as_str(), rest) {
            ("payload", [_, ..]) => Field::Payload(rest.into()),
            ("metadata", [name, deeper @ ..]) => {
                match METADATA.into_iter().find(|(known, _)| known == name) {
                    None => Field::Other(rest.into()),
                    Some((_, field)) if deeper.is_empty() => field,
                    Some(_) => return None,
                }
            }
            ("event_type", []) => Field::Type,
            ("event_id", []) => Field::EventId,
            ("producer", []) => Field::Producer,
            ("version", []) => Field::Version,
            ("timestamp", []) => Field::Timestamp,
            _ => return None,
        }))
    }

    pub(super) fn is_priority(&self) -> bool {
        self.0 == Field::Priority
    }

    /// The value it leads to; null where it leads nowhere.
    pub(super) fn read<'a>(&self, event: &'a Event) -> Value<'a> {
        let extra = event.metadata.extra.as_deref();
        let text = |text: Option<&'a str>| text.map_or(Value::Null, Value::Str);
        match &self.0 {
            Field::Payload(path) => event.payload.get(path.iter().map(String::as_str)).into(),
            Field::Other(path) => extra
                .and_then(|extra| {
                    let (first, rest) = path.split_first()?;
                    rest.iter().try_fold(extra.other.get(first)?, |value, name| value.get(name))
                })
                .map_or(Value::Null, Value::from),
            Field::Key => text(event.key().map(|key| &**key)),
            Field::Priority => Value::Priority(event.metadata.priority),
            Field::CorrelationId => Value::Id(event.correlation_id()),
            Field::CausationId => event.causation_id().map_or(Value::Null, Value::Id),
            Field::RetryCount => Value::Int(event.metadata.retry_count.into()),
            Field::Deadline => event.deadline().map_or(Value::Null, Value::Int),
            Field::ReplyTo => {
                text(extra.and_then(|extra| extra.reply_to.as_ref()).map(ReplyTo::as_str))
            }
            Field::Traceparent => text(extra.and_then(|extra| extra.traceparent.as_deref())),
            Field::Type => Value::Str(event.topic.as_str()),
            Field::EventId => Value::Id(&event.id),
            Field::Producer => Value::Str(&event.producer),
            Field::Version => Value::Int(event.version.into()),
            Field::Timestamp => Value::Int(event.timestamp),
        }
    }

    /// The scalar it leads to, as text; nothing for null, lists and maps.
    pub(crate) fn text<'a>(&self, event: &'a Event) -> Option<Cow<'a, str>> {
        Some(match self.read(event) {
            Value::Null | Value::Container => return None,
            Value::Str(text) => Cow::Borrowed(text),
            Value::Priority(priority) => Cow::Borrowed(priority.as_str()),
            Value::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Value::Int(value) => Cow::Owned(value.to_string()),
            Value::Uint(value) => Cow::Owned(value.to_string()),
            Value::Float(value) => Cow::Owned((value + 0.0).to_string()), // -0.0 is 0
            Value::Id(id) => Cow::Owned(id.to_string()),
        })
    }
}

/// What was probably meant by a path that leads nowhere.
pub(super) fn suggestion(segments: &[String]) -> Option<String> {
    let (head, rest) = segments.split_first()?;
    let with_head = |head: &str| {
        let mut path = vec![head.to_owned()];
        path.extend_from_slice(rest);
        path
    };
    let known = HEADS.contains(&head.as_str());
    if known && rest.is_empty() {
        return Some(format!("name a field in it, as in `{head}.{}`", example_of(head)));
    }
    if known {
        let is_value = !matches!(head.as_str(), "payload" | "metadata");
        return is_value.then(|| format!("`{head}` has no fields"));
    }
    let near = did_you_mean(&head.to_lowercase(), HEADS).map(with_head);
    let candidates = [
        near.filter(|path| Path::from_segments(path).is_some()),
        METADATA
            .iter()
            .any(|(name, _)| name == head)
            .then(|| vec!["metadata".to_owned(), head.clone()])
            .filter(|_| rest.is_empty()),
    ];
    candidates.into_iter().flatten().next().map(|path| format!("did you mean `{}`?", show(&path)))
}

/// Of a path that names a field and not where it is: it is probably in the payload.
pub(super) fn in_payload(segments: &[String]) -> Option<String> {
    let named = segments.iter().all(|segment| !segment.is_empty());
    let known = HEADS.iter().any(|head| segments.first().is_some_and(|first| first == head));
    (named && !known).then(|| format!("did you mean `payload.{}`?", show(segments)))
}

fn example_of(head: &str) -> &'static str {
    if head == "metadata" { "key" } else { "symbol" }
}

/// The path as it is written in an expression.
pub(super) fn show(segments: &[String]) -> String {
    let shown: Vec<String> = segments
        .iter()
        .map(|segment| {
            let plain = !segment.is_empty() && segment.chars().all(is_word);
            if plain { segment.clone() } else { format!("{segment:?}") }
        })
        .collect();
    shown.join(".")
}

/// Whether `c` may stand in a segment without quotes.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}
