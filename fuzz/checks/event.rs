//! Events in their wire form: what decodes comes back as it was, through any number of hops.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;
use tiebeam::event::{Event, Node};

/// `data` is what a broker may hand us.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let event = match Event::from_json(text) {
        Ok(event) => event,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let wire = event.to_json();
    let again = Event::from_json(&wire).unwrap_or_else(|error| panic!("{wire}: {error}"));
    assert_eq!(again.to_json(), wire);
    assert_eq!(again.id, event.id);
    assert_eq!(again.topic, event.topic);
    assert_eq!(again.key(), event.key());
    assert_eq!(again.deadline(), event.deadline());
    assert_eq!(again.metadata.priority, event.metadata.priority);
    assert_eq!(again.correlation_id(), event.correlation_id());
    assert_eq!(again.metadata.retry_count, event.metadata.retry_count);
    assert_eq!(
        (again.timestamp, again.version, &again.producer),
        (event.timestamp, event.version, &event.producer)
    );

    // The payload is what any other parser of JSON reads.
    let value = event.payload.to_json_value();
    assert_eq!(again.payload.to_json_value(), value);
    // What we do not know elsewhere in the event, such as a number beyond all, is none of it.
    let fields: HashMap<String, Box<RawValue>> =
        serde_json::from_str(text).expect("an event is an object");
    let foreign: Value = serde_json::from_str(fields["payload"].get()).expect("a payload is JSON");
    assert_eq!(value, foreign);
    if let Value::Object(fields) = &value {
        for (name, field) in fields {
            let found = event.payload.get([name.as_str()]).expect("is in the payload");
            assert!(same(&found, field), "{name}: {field}");
        }
    }
}

fn same(node: &Node<'_>, value: &Value) -> bool {
    match (node, value) {
        (Node::Null, Value::Null) => true,
        (Node::Bool(a), Value::Bool(b)) => a == b,
        (Node::Int(a), b) if b.is_i64() => Some(*a) == b.as_i64(),
        (Node::Uint(a), b) if b.is_u64() => Some(*a) == b.as_u64(),
        (Node::Float(a), b) if b.is_f64() => Some(*a) == b.as_f64(),
        (Node::Str(a), Value::String(b)) => a == b,
        (Node::List(_), Value::Array(_)) | (Node::Map(_), Value::Object(_)) => true,
        _ => false,
    }
}
