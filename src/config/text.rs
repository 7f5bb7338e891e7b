//! Text from outside as values: as the schema says, else as it looks.

use serde_json::Value;

use super::layers::figment_to_json;
use super::schema::Kind;

/// A value with more brackets is text: the parser of values recurses.
const MAX_BRACKETS: usize = 64;

/// Parses text as figment does, TOML-like: `true`, `42`, `1.5`, `[a, b]`, `{a = 1}`,
/// `"quoted"`; whatever is none of these is a string, never an error.
///
/// Numbers with leading zeros stay text, because they are identifiers more often than numbers.
pub fn parse_value(text: &str) -> Value {
    let trimmed = text.trim();
    let brackets = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    let digits = trimmed.trim_start_matches(['+', '-']);
    let leading_zero = digits.len() > 1
        && digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if brackets > MAX_BRACKETS || leading_zero || trimmed.starts_with('+') {
        return text.into();
    }
    match text.parse::<figment::value::Value>() {
        Ok(value) => figment_to_json(&value),
        Err(never) => match never {},
    }
}

/// Text from outside as a value of `kind`; none if it cannot be one.
pub(super) fn from_text(kind: &Kind, text: &str) -> Option<Value> {
    let trimmed = text.trim();
    match kind {
        Kind::Text | Kind::Pattern(..) => Some(text.into()),
        Kind::Choice(_) => Some(trimmed.into()),
        Kind::Flag => match trimmed.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true.into()),
            "false" | "no" | "off" | "0" => Some(false.into()),
            _ => None,
        },
        Kind::Integer(..) => {
            let signed = trimmed.parse::<i64>().map(Value::from);
            signed.or_else(|_| trimmed.parse::<u64>().map(Value::from)).ok()
        }
        Kind::Number(..) => {
            trimmed.parse().ok().and_then(serde_json::Number::from_f64).map(Value::Number)
        }
        Kind::Duration(..) | Kind::Size => {
            Some(trimmed.parse::<i64>().map_or_else(|_| trimmed.into(), Value::from))
        }
        Kind::Words(_) => Some(parse_value(text)).filter(Value::is_object),
        Kind::Names | Kind::Choices(_) => Some(parse_value(text)).filter(Value::is_array),
        Kind::Sla => Some(parse_value(text)).filter(Value::is_object),
    }
}
