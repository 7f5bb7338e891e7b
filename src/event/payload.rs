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

use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

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
        IntoEncoder { encoder: &mut encoder, depth: 0 }
            .deserialize(value)
            .map_err(|error| PayloadError { path: "payload".into(), reason: error.to_string() })?;
        Ok(encoder.finish())
    }

    /// Encodes JSON text.
    pub fn from_json(text: &str) -> Result<Payload, PayloadError> {
        let mut encoder = Encoder::default();
        let mut json = serde_json::Deserializer::from_str(text);
        IntoEncoder { encoder: &mut encoder, depth: 0 }
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

/// Writes values one after the other; the caller keeps maps and lists well-formed.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

/// An open container: where its header stands.
#[derive(Debug)]
#[must_use = "a container must be closed with `Encoder::end`"]
pub struct Open(usize);

impl Encoder {
    /// An encoder that writes into `buffer`, whose memory it reuses.
    pub fn reusing(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Encoder { out: buffer }
    }

    /// The finished payload.
    pub fn finish(self) -> Payload {
        Payload(Arc::from(self.out))
    }

    /// The finished payload, and the buffer for the next one.
    pub fn finish_reusing(self) -> (Payload, Vec<u8>) {
        (Payload(Arc::from(&self.out[..])), self.out)
    }

    /// How many bytes were written.
    #[inline]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Writes null.
    #[inline]
    pub fn null(&mut self) {
        self.out.push(NULL);
    }

    /// Writes a boolean.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { TRUE } else { FALSE });
    }

    /// Writes an integer.
    #[inline]
    pub fn int(&mut self, value: i64) {
        self.out.push(INT);
        self.varint(((value << 1) ^ (value >> 63)) as u64);
    }

    /// Writes an integer that may lie above `i64`.
    #[inline]
    pub fn uint(&mut self, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.int(value),
            Err(_) => {
                self.out.push(UINT);
                self.varint(value);
            }
        }
    }

    /// Writes a finite number; the caller has refused NaN and infinities.
    #[inline]
    pub fn float(&mut self, value: f64) {
        debug_assert!(value.is_finite());
        self.out.push(FLOAT);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes text.
    #[inline]
    pub fn str(&mut self, value: &str) {
        self.out.push(STR);
        self.key(value);
    }

    /// Writes a map's key; its value comes next.
    #[inline]
    pub fn key(&mut self, key: &str) {
        self.varint(key.len() as u64);
        self.out.extend_from_slice(key.as_bytes());
    }

    /// Opens a list.
    #[inline]
    pub fn begin_list(&mut self) -> Open {
        self.begin(LIST)
    }

    /// Opens a map.
    #[inline]
    pub fn begin_map(&mut self) -> Open {
        self.begin(MAP)
    }

    /// Closes a container of `count` items or pairs.
    #[inline]
    pub fn end(&mut self, open: Open, count: usize) {
        let length = (self.out.len() - open.0 - 9) as u32;
        self.out[open.0 + 1..open.0 + 5].copy_from_slice(&(count as u32).to_le_bytes());
        self.out[open.0 + 5..open.0 + 9].copy_from_slice(&length.to_le_bytes());
    }

    #[inline]
    fn begin(&mut self, tag: u8) -> Open {
        let at = self.out.len();
        self.out.extend_from_slice(&[tag, 0, 0, 0, 0, 0, 0, 0, 0]);
        Open(at)
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

/// One value of a payload, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node<'a> {
    /// JSON's null.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer above `i64`.
    Uint(u64),
    /// A finite number.
    Float(f64),
    /// Text.
    Str(&'a str),
    /// Values in order.
    List(Items<'a>),
    /// Keys and values, in the order in which they were written.
    Map(Entries<'a>),
}

impl<'a> Node<'a> {
    /// The value under `key`, if this is a map that has it.
    pub fn get(self, key: &str) -> Option<Node<'a>> {
        match self {
            Node::Map(Entries { count, mut body }) => {
                for _ in 0..count {
                    let length = usize::try_from(read_varint(&mut body)?).ok()?;
                    if take(&mut body, length)? == key.as_bytes() {
                        return Node::read(&mut body);
                    }
                    Node::skip(&mut body)?;
                }
                None
            }
            _ => None,
        }
    }

    /// Steps over one value without looking into it.
    fn skip(bytes: &mut &'a [u8]) -> Option<()> {
        let (&tag, rest) = bytes.split_first()?;
        *bytes = rest;
        let length = match tag {
            NULL | FALSE | TRUE => 0,
            INT | UINT => return read_varint(bytes).map(drop),
            FLOAT => 8,
            STR => usize::try_from(read_varint(bytes)?).ok()?,
            LIST | MAP => return read_container(bytes).map(drop),
            _ => return None,
        };
        take(bytes, length).map(drop)
    }

    fn read(bytes: &mut &'a [u8]) -> Option<Node<'a>> {
        let (&tag, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(match tag {
            NULL => Node::Null,
            FALSE => Node::Bool(false),
            TRUE => Node::Bool(true),
            INT => {
                let raw = read_varint(bytes)?;
                Node::Int((raw >> 1) as i64 ^ -((raw & 1) as i64))
            }
            UINT => Node::Uint(read_varint(bytes)?),
            FLOAT => Node::Float(f64::from_le_bytes(take(bytes, 8)?.try_into().ok()?)),
            STR => Node::Str(read_str(bytes)?),
            LIST => {
                let (count, body) = read_container(bytes)?;
                Node::List(Items { count, body })
            }
            MAP => {
                let (count, body) = read_container(bytes)?;
                Node::Map(Entries { count, body })
            }
            _ => return None,
        })
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(head)
}

#[inline]
fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    if let Some((&byte, rest)) = bytes.split_first()
        && byte < 0x80
    {
        *bytes = rest;
        return Some(u64::from(byte));
    }
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn read_str<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(read_varint(bytes)?).ok()?;
    std::str::from_utf8(take(bytes, length)?).ok()
}

fn read_u32(bytes: &mut &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?) as usize)
}

fn read_container<'a>(bytes: &mut &'a [u8]) -> Option<(usize, &'a [u8])> {
    let count = read_u32(bytes)?;
    let length = read_u32(bytes)?;
    Some((count, take(bytes, length)?))
}

/// The items of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Items<'a> {
    count: usize,
    body: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        self.count = self.count.checked_sub(1)?;
        Node::read(&mut self.body)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.count))
    }
}

impl Items<'_> {
    /// How many are left.
    pub fn count_left(&self) -> usize {
        self.count
    }
}

/// The entries of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entries<'a> {
    count: usize,
    body: &'a [u8],
}

impl<'a> Entries<'a> {
    /// The next key, as the UTF-8 that it was written as, and its value: for a reader that knows
    /// the key by its bytes.
    pub fn next_raw(&mut self) -> Option<(&'a [u8], Node<'a>)> {
        self.count = self.count.checked_sub(1)?;
        let length = usize::try_from(read_varint(&mut self.body)?).ok()?;
        Some((take(&mut self.body, length)?, Node::read(&mut self.body)?))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Node<'a>);

    fn next(&mut self) -> Option<(&'a str, Node<'a>)> {
        self.count = self.count.checked_sub(1)?;
        Some((read_str(&mut self.body)?, Node::read(&mut self.body)?))
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Node::Null => serializer.serialize_unit(),
            Node::Bool(value) => serializer.serialize_bool(value),
            Node::Int(value) => serializer.serialize_i64(value),
            Node::Uint(value) => serializer.serialize_u64(value),
            Node::Float(value) => serializer.serialize_f64(value),
            Node::Str(value) => serializer.serialize_str(value),
            Node::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.count))?;
                for item in items {
                    list.serialize_element(&item)?;
                }
                list.end()
            }
            Node::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.count))?;
                for (key, value) in entries {
                    map.serialize_entry(key, &value)?;
                }
                map.end()
            }
        }
    }
}

/// Writes what a deserializer yields straight into an encoder, without a tree between.
struct IntoEncoder<'e> {
    encoder: &'e mut Encoder,
    depth: usize,
}

impl IntoEncoder<'_> {
    fn deeper<E: de::Error>(&mut self) -> Result<IntoEncoder<'_>, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("more than {MAX_DEPTH} nested containers")));
        }
        Ok(IntoEncoder { encoder: self.encoder, depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for IntoEncoder<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for IntoEncoder<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.encoder.null();
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.encoder.bool(value);
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.encoder.int(value);
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.encoder.uint(value);
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        if !value.is_finite() {
            return Err(E::custom("a number that is not finite"));
        }
        self.encoder.float(value);
        Ok(())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.encoder.str(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let open = inner.encoder.begin_list();
        let (mut count, depth) = (0, inner.depth);
        while items.next_element_seed(IntoEncoder { encoder: inner.encoder, depth })?.is_some() {
            count += 1;
        }
        inner.encoder.end(open, count);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let open = inner.encoder.begin_map();
        let (mut count, depth) = (0, inner.depth);
        // A filter would read the first of two, and a handler the last.
        let mut keys = std::collections::HashSet::new();
        while let Some(key) = entries.next_key::<std::borrow::Cow<'_, str>>()? {
            inner.encoder.key(&key);
            if let Some(twice) = keys.replace(key) {
                return Err(de::Error::custom(format_args!("the key {twice:?} comes twice")));
            }
            entries.next_value_seed(IntoEncoder { encoder: inner.encoder, depth })?;
            count += 1;
        }
        inner.encoder.end(open, count);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn paths_lead_to_values() {
        let payload =
            Payload::from_json_value(&json!({"a": [1, {"b": 2}], "symbol": "X", "n": {"m": -3}}))
                .expect("is a payload");
        assert_eq!(payload.get(["symbol"]), Some(Node::Str("X")));
        assert_eq!(payload.get(["n", "m"]), Some(Node::Int(-3)));
        assert_eq!(payload.get(["n", "absent"]), None);
        assert_eq!(payload.get(["symbol", "deeper"]), None);
    }

    #[test]
    fn depth_is_bounded_from_json_too() {
        let text = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Payload::from_json(&text(MAX_DEPTH)).is_ok());
        assert!(Payload::from_json(&text(MAX_DEPTH + 1)).is_err());
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let error = Payload::from_json(r#"{"a": 1, "b": {"c": 1, "c": 2}}"#).expect_err("twice");
        assert!(error.reason.contains("\"c\" comes twice"), "{error}");
        assert!(Payload::from_json(r#"[{"a": 1}, {"a": 2}]"#).is_ok());
    }

    #[test]
    fn truncated_bytes_end_early_instead_of_panicking() {
        let whole = Payload::from_json(r#"{"a": [1, 2.5, "text", {"b": null}]}"#).expect("valid");
        for end in 0..whole.len() {
            let cut = Payload(Arc::from(&whole.0[..end]));
            let _ = cut.to_json();
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(".{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_goes_in_and_comes_out_unchanged(value in value()) {
            let payload = Payload::from_json_value(&value).expect("JSON values are payloads");
            prop_assert_eq!(payload.to_json_value(), value);
        }

        #[test]
        fn every_key_of_a_map_is_found(
            map in prop::collection::hash_map(".{0,6}", value(), 0..8)
        ) {
            let map: serde_json::Map<String, Value> = map.into_iter().collect();
            let payload = Payload::from_json_value(&Value::Object(map.clone())).expect("valid");
            for (key, value) in &map {
                let found = payload.get([key.as_str()]).map(serde_json::to_value);
                prop_assert_eq!(&found.expect("is there").expect("is JSON"), value);
            }
            prop_assert_eq!(payload.get(["a key that is too long"]), None);
        }
    }
}
