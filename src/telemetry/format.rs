//! What one log record looks like: a JSON object, or a line for people.
//!
//! Either way it is exactly one line: whatever a user put into it, no character of it can end
//! the line, move a terminal's cursor or hide text. Secrets are taken out first.

use std::fmt;
use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Map, Value};
use tracing::Level;

use super::levels::level_name;
use super::timestamp::rfc3339;

/// A longer message or text field is cut, with a note of how much is missing; in bytes.
pub const MAX_TEXT: usize = 64 * 1024;

/// Longer fields altogether are left out, with a note; in bytes of JSON.
pub const MAX_FIELDS: usize = 256 * 1024;

/// Takes secrets out of a text: given the name of the field, if it has one, and the text,
/// returns what to show instead, or none to show it as it is.
///
/// A field that holds an object or array is asked about with an empty text first: an answer
/// replaces it whole. Runs on the writer's thread and must not log.
pub type Redact = Arc<dyn Fn(Option<&str>, &str) -> Option<String> + Send + Sync>;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When, in Unix milliseconds.
    pub time_ms: i64,
    /// How grave.
    pub level: Level,
    /// Which part of the program says so: a logger's name or a module path.
    pub target: String,
    /// The component concerned.
    pub component: Option<String>,
    /// The chain of events it belongs to.
    pub correlation_id: Option<String>,
    /// The event that was being handled.
    pub event_id: Option<String>,
    /// The sentence.
    pub message: String,
    /// Everything else.
    pub fields: Map<String, Value>,
}

impl Record {
    /// A record; `component`, `correlation_id` and `event_id` are taken out of `fields`.
    pub fn new(
        time_ms: i64,
        level: Level,
        target: impl Into<String>,
        message: impl Into<String>,
        mut fields: Map<String, Value>,
    ) -> Self {
        // shift_remove, because the remaining fields keep the order in which they were given.
        let mut take = |key: &str| match fields.shift_remove(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => Some(other.to_string()),
        };
        Record {
            component: take("component"),
            correlation_id: take("correlation_id"),
            event_id: take("event_id"),
            time_ms,
            level,
            target: target.into(),
            message: message.into(),
            fields,
        }
    }

    /// About how many bytes of memory it holds.
    pub fn size(&self) -> usize {
        let ids = [&self.component, &self.correlation_id, &self.event_id];
        let ids: usize = ids.into_iter().flatten().map(String::len).sum();
        let fields: usize = self.fields.iter().map(|(key, value)| key.len() + size(value)).sum();
        size_of::<Record>() + self.target.len() + self.message.len() + ids + fields
    }
}

fn size(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(size).sum(),
            Value::Object(fields) => {
                fields.iter().map(|(key, value)| key.len() + size(value)).sum()
            }
            _ => 0,
        }
}

/// Turns records into lines, the same way for a whole system.
#[derive(Clone, Default)]
pub struct Formatter {
    /// The system's name and version, in every JSON record unless empty.
    pub system_name: String,
    /// The system's version.
    pub system_version: String,
    /// What takes secrets out.
    pub redact: Option<Redact>,
}

impl fmt::Debug for Formatter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Formatter({} {})", self.system_name, self.system_version)
    }
}

impl Formatter {
    /// Takes secrets out and cuts what is too long; to be done once, before either form.
    pub fn clean(&self, record: &mut Record) {
        self.clean_text(None, &mut record.message);
        self.clean_text(None, &mut record.target);
        let ids = [
            ("component", &mut record.component),
            ("correlation_id", &mut record.correlation_id),
            ("event_id", &mut record.event_id),
        ];
        for (key, text) in ids {
            text.iter_mut().for_each(|text| self.clean_text(Some(key), text));
        }
        for (key, value) in &mut record.fields {
            self.clean_value(key, value);
        }
        let total: usize = record.fields.iter().map(|(key, value)| key.len() + size(value)).sum();
        if total > MAX_FIELDS {
            record.fields.clear();
            record.fields.insert("fields_left_out_bytes".into(), total.into());
        }
    }

    fn clean_text(&self, key: Option<&str>, text: &mut String) {
        // Redaction first: a secret cut in half is not recognised.
        if let Some(shown) = self.redact.as_ref().and_then(|redact| redact(key, text)) {
            *text = shown;
        }
        if text.len() > MAX_TEXT {
            let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            let missing = text.len() - end;
            text.truncate(end);
            let _ = write!(text, "... ({missing} bytes more)");
        }
    }

    fn clean_value(&self, key: &str, value: &mut Value) {
        let ask = |text: &str| self.redact.as_ref().and_then(|redact| redact(Some(key), text));
        match value {
            Value::Null => {}
            Value::String(text) => self.clean_text(Some(key), text),
            Value::Array(_) | Value::Object(_) => match (ask(""), &mut *value) {
                (Some(shown), _) => *value = Value::String(shown),
                (None, Value::Array(items)) => {
                    items.iter_mut().for_each(|item| self.clean_value(key, item));
                }
                (None, Value::Object(fields)) => {
                    fields.iter_mut().for_each(|(key, value)| self.clean_value(key, value));
                }
                _ => {}
            },
            Value::Bool(_) | Value::Number(_) => {
                if let Some(shown) = ask(&value.to_string()) {
                    *value = Value::String(shown);
                }
            }
        }
    }

    /// The record as one JSON object, without the end of the line.
    pub fn json(&self, record: &Record) -> String {
        let mut object = Map::new();
        let mut put = |key: &str, value: &str| object.insert(key.to_owned(), value.into());
        put("timestamp", &rfc3339(record.time_ms));
        put("level", level_name(record.level));
        put("target", &record.target);
        let ids = [
            ("component", &record.component),
            ("correlation_id", &record.correlation_id),
            ("event_id", &record.event_id),
        ];
        for (key, text) in ids {
            if let Some(text) = text {
                put(key, text);
            }
        }
        put("message", &record.message);
        if !record.fields.is_empty() {
            object.insert("fields".into(), Value::Object(record.fields.clone()));
        }
        let system = [("name", &self.system_name), ("version", &self.system_version)];
        let system: Map<String, Value> = system
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(key, text)| (key.to_owned(), text.as_str().into()))
            .collect();
        if !system.is_empty() {
            object.insert("system".into(), Value::Object(system));
        }
        // JSON itself escapes only the first 32 characters; the rest of the harmful ones can
        // stand in strings alone, so that they may be escaped afterwards.
        escape(&Value::Object(object).to_string(), json_escape)
    }

    /// The record as a line for people, without the end of the line.
    pub fn console(&self, record: &Record) -> String {
        let time = rfc3339(record.time_ms);
        let level = level_name(record.level).to_ascii_uppercase();
        let mut line = format!("{time} {level:<7} {}", record.target);
        if let Some(component) = record.component.as_ref().filter(|name| **name != record.target) {
            let _ = write!(line, " [{component}]");
        }
        let _ = write!(line, ": {}", record.message);
        for (key, value) in &record.fields {
            let _ = match value {
                Value::String(text) if is_plain(text) => write!(line, " {key}={text}"),
                other => write!(line, " {key}={other}"),
            };
        }
        let ids = [("correlation_id", &record.correlation_id), ("event_id", &record.event_id)];
        for (key, text) in ids {
            if let Some(text) = text {
                let _ = write!(line, " {key}={text}");
            }
        }
        escape(&line, console_escape)
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '=' || c == '"')
}

/// Control characters, and those that break lines or reorder text on a screen.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200E}' | '\u{200F}' | '\u{FEFF}')
        || matches!(c, '\u{061C}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, replace: fn(char, &mut String)) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) { replace(c, &mut escaped) } else { escaped.push(c) }
    }
    escaped
}

fn json_escape(c: char, text: &mut String) {
    // Every harmful character is in the basic plane: four digits are enough.
    let _ = write!(text, "\\u{:04x}", u32::from(c));
}

fn console_escape(c: char, text: &mut String) {
    let _ = write!(text, "{}", c.escape_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(fields) => fields,
            other => panic!("not an object: {other}"),
        }
    }

    fn record(message: &str, value: Value) -> Record {
        Record::new(1_795_489_636_042, Level::WARN, "shop.orders", message, fields(value))
    }

    #[test]
    fn json_has_every_part_in_a_fixed_order() {
        let formatter =
            Formatter { system_name: "demo".into(), system_version: "1.0.0".into(), redact: None };
        let record = record(
            "order taken",
            json!({"n": 1, "component": "orders", "event_id": "evt_2", "correlation_id": "evt_1"}),
        );
        assert_eq!(
            formatter.json(&record),
            r#"{"timestamp":"2026-11-24T03:07:16.042Z","level":"warning","target":"shop.orders","component":"orders","correlation_id":"evt_1","event_id":"evt_2","message":"order taken","fields":{"n":1},"system":{"name":"demo","version":"1.0.0"}}"#
        );
        assert_eq!(
            formatter.console(&record),
            "2026-11-24T03:07:16.042Z WARNING shop.orders [orders]: order taken n=1 \
             correlation_id=evt_1 event_id=evt_2"
        );
    }

    #[test]
    fn nobody_can_forge_a_line_or_steer_the_terminal() {
        let nasty = "a\n{\"level\":\"error\"}\r\x1b[31m\u{85}\u{9b}31m\u{2028}\u{202e}\u{7f}";
        let record = record(nasty, json!({nasty: nasty}));
        let formatter = Formatter::default();
        for line in [formatter.json(&record), formatter.console(&record)] {
            assert!(!line.chars().any(is_harmful), "{line:?}");
        }
        let back: Value = serde_json::from_str(&formatter.json(&record)).unwrap();
        assert_eq!(back["message"], nasty);
        assert_eq!(back["fields"][nasty], nasty);
    }

    #[test]
    fn secrets_are_taken_out_wherever_they_are() {
        let redact: Redact = Arc::new(|key, text| {
            let named = key.is_some_and(|key| key.ends_with("password"));
            (named || text.contains("canary")).then(|| "***".to_owned())
        });
        let formatter = Formatter { redact: Some(redact), ..Formatter::default() };
        let mut record = record(
            "connect redis://u:canary@h",
            json!({
                "password": 1234, "url": "x canary", "list": ["canary"],
                "deep": {"password": {"inner": "one"}, "ok": true},
            }),
        );
        formatter.clean(&mut record);
        for line in [formatter.json(&record), formatter.console(&record)] {
            assert!(!line.contains("canary") && !line.contains("1234"), "{line}");
            assert!(!line.contains("one"), "{line}");
        }
        assert_eq!(record.fields["deep"], json!({"password": "***", "ok": true}));
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let formatter = Formatter::default();
        let mut long = record(&"ä".repeat(MAX_TEXT), json!({}));
        formatter.clean(&mut long);
        assert!(long.message.len() < MAX_TEXT + 40 && long.message.ends_with(" bytes more)"));
        let mut wide = record("x", json!({"list": vec!["y".repeat(1000); 1000]}));
        formatter.clean(&mut wide);
        assert!(formatter.json(&wide).contains("fields_left_out_bytes"));
    }

    proptest! {
        #[test]
        fn any_text_is_one_line_and_reads_back(message in any::<String>(), key in any::<String>()) {
            let record = Record::new(
                0, Level::INFO, "t", message.clone(), Map::from_iter([(key, json!(message))]),
            );
            let line = Formatter::default().json(&record);
            prop_assert!(!line.chars().any(is_harmful));
            let back: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&back["message"], &json!(message));
            prop_assert!(!Formatter::default().console(&record).chars().any(is_harmful));
        }
    }
}
