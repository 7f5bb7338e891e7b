//! A payload as JSON's values: what serde reads of it, and writes into it.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::keys::{Key, Keys};
use super::{Encoder, MAX_DEPTH, Node};

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
                let mut list = serializer.serialize_seq(Some(items.count_left()))?;
                for item in items {
                    list.serialize_element(&item)?;
                }
                list.end()
            }
            Node::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.count_left()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, &value)?;
                }
                map.end()
            }
        }
    }
}

/// Writes what a deserializer yields straight into an encoder, without a tree between.
pub(super) struct IntoEncoder<'e> {
    encoder: &'e mut Encoder,
    depth: usize,
}

impl<'e> IntoEncoder<'e> {
    pub fn new(encoder: &'e mut Encoder) -> IntoEncoder<'e> {
        IntoEncoder { encoder, depth: 0 }
    }
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
        let mut keys = Keys::default();
        while let Some(key) = entries.next_key::<Key<'de>>()? {
            inner.encoder.key(&key.0);
            if let Err(Key(twice)) = keys.add(key) {
                return Err(de::Error::custom(format_args!("the key {twice:?} comes twice")));
            }
            entries.next_value_seed(IntoEncoder { encoder: inner.encoder, depth })?;
            count += 1;
        }
        inner.encoder.end(open, count);
        Ok(())
    }
}
