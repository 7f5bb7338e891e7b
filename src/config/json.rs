//! JSON through serde_json, with duplicate keys refused and the line of each key.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::node::{Node, SyntaxError};

pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    if text.trim().is_empty() {
        return Ok(Node::Scalar(Value::Null));
    }
    let Json(mut root) = serde_json::from_str(text).map_err(|error| {
        // serde_json repeats no text except a wrong token's kind; its place is ours to print.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        SyntaxError::new(u32::try_from(error.line()).ok(), message)
    })?;
    number(&mut root, &mut lines(text).into_iter());
    Ok(root)
}

/// The line of every key and list item of a well-formed text, in the order of the text.
fn lines(text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut open = Vec::new(); // true: a map, false: a list
    let mut awaits = false; // the next token is a key or an item
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\n' => line += 1,
            b' ' | b'\t' | b'\r' | b':' => {}
            b',' => awaits = true,
            b'}' | b']' => {
                open.pop();
                awaits = false;
            }
            other => {
                if std::mem::take(&mut awaits) {
                    found.push(line);
                }
                match other {
                    b'{' | b'[' => {
                        open.push(other == b'{');
                        awaits = true;
                    }
                    b'"' => {
                        let mut escaped = false;
                        for byte in bytes.by_ref() {
                            match byte {
                                b'"' if !escaped => break,
                                b'\\' => escaped = !escaped,
                                _ => escaped = false,
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    found
}

/// Hands the lines out in the order in which the text has the keys and items.
fn number(node: &mut Node, lines: &mut impl Iterator<Item = u32>) {
    match node {
        Node::Scalar(_) => {}
        Node::List(items) => {
            for (line, item) in items {
                *line = lines.next().unwrap_or(0);
                number(item, lines);
            }
        }
        Node::Map(entries) => {
            for (_, line, item) in entries {
                *line = lines.next().unwrap_or(0);
                number(item, lines);
            }
        }
    }
}

struct Json(Node);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode).map(Json)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value);
        number.map(|n| Node::Scalar(n.into())).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(Json(item)) = items.next_element()? {
            list.push((0, item));
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(serde::de::Error::custom(format!("duplicate key `{key}`")));
            }
            let Json(node) = entries.next_value()?;
            map.push((key, 0, node));
        }
        Ok(Node::Map(map))
    }
}
