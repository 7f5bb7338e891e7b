//! The payload: a compact binary form of JSON's values, written once and read lazily.
//!
//! ```text
//! value  = tag body
//! null   = 0           false = 1          true = 2
//! int    = 3 zigzag-varint                uint = 4 varint     (above i64)
//! float  = 5 f64-le                       str  = 6 varint-length utf8
//! list   = 7 count:u32-le length:u32-le value*
//! map    = 8 count:u32-le length:u32-le (varint-length utf8 value)*
//! ```
//!
//! Containers carry their length in bytes, so that a filter can step over what it does not
//! want. Maps keep the order in which they were written.

mod encoder;
mod json;
mod keys;
mod node;

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, DeserializeSeed, Deserializer};
use serde::ser::{Serialize, Serializer};

pub use self::encoder::Encoder;
use self::json::IntoEncoder;
pub use self::node::Node;

/// How many containers may stand in each other; the payload itself is the first.
pub const MAX_DEPTH: usize = 64;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const UINT: u8 = 4;
const FLOAT: u8 = 5;
const STR: u8 = 6;
const LIST: u8 = 7;
const MAP: u8 = 8;

/// Why a value cannot be a payload, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadError {
    /// Where, outermost first: `payload.orders[3].price`.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl std::error::Error for PayloadError {}

/// Encoded bytes, shared by all who read them.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Arc<[u8]>);

impl Payload {
    /// The value, ready to be walked.
    pub fn root(&self) -> Node<'_> {
        Node::read(&mut &self.0[..]).unwrap_or(Node::Null)
    }

    /// How many bytes it takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it takes none; an encoded value never does.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value found by following map keys, if there is one.
    pub fn get<'k>(&self, path: impl IntoIterator<Item = &'k str>) -> Option<Node<'_>> {
        path.into_iter().try_fold(self.root(), |node, key| node.get(key))
    }

    /// Encodes anything serde can serialize: how the core makes its own events.
    pub fn from_serialize(value: &impl Serialize) -> Result<Payload, PayloadError> {
        let json = serde_json::to_value(value)
            .map_err(|error| PayloadError { path: "payload".into(), reason: error.to_string() })?;
        Payload::from_json_value(&json)
    }

    /// Encodes a JSON value.
    pub fn from_json_value(value: &serde_json::Value) -> Result<Payload, PayloadError> {
        let mut encoder = Encoder::default();
        IntoEncoder::new(&mut encoder)
            .deserialize(value)
            .map_err(|error| PayloadError { path: "payload".into(), reason: error.to_string() })?;
        Ok(encoder.finish())
    }

    /// Encodes JSON text.
    pub fn from_json(text: &str) -> Result<Payload, PayloadError> {
        let mut encoder = Encoder::default();
        let mut json = serde_json::Deserializer::from_str(text);
        IntoEncoder::new(&mut encoder)
            .deserialize(&mut json)
            .and_then(|()| json.end())
            .map_err(|error| PayloadError { path: "payload".into(), reason: error.to_string() })?;
        Ok(encoder.finish())
    }

    /// The value as JSON text.
    pub fn to_json(&self) -> String {
        // Every node is a JSON value, so serialization has no way to fail.
        serde_json::to_string(&self.root()).unwrap_or_default()
    }

    /// The value as a JSON tree.
    pub fn to_json_value(&self) -> serde_json::Value {
        serde_json::to_value(self.root()).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Payload, D::Error> {
        let mut encoder = Encoder::default();
        IntoEncoder::new(&mut encoder).deserialize(deserializer)?;
        Ok(encoder.finish())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.root().serialize(serializer)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

#[cfg(test)]
mod tests;
