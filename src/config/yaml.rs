//! YAML through serde-saphyr, with its strict options and lowered budgets.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::{Options, Spanned};

use super::node::{MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, SyntaxError};

pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    if text.trim().is_empty() {
        return Ok(Node::Scalar(Value::Null));
    }
    // Sixty-four levels need more stack than a thread of an embedding program may have.
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("tiebeam-yaml".into())
            .stack_size(STACK)
            .spawn_scoped(scope, || parse_here(text))
            .map_err(|error| SyntaxError::new(None, format!("cannot be parsed now ({error})")))?
            .join()
            .unwrap_or_else(|_| Err(SyntaxError::new(None, "is not valid YAML")))
    })
}

/// Enough for [`MAX_DEPTH`] levels in a build without optimizations.
const STACK: usize = 16 << 20;

fn parse_here(text: &str) -> Result<Node, SyntaxError> {
    let parsed = serde_saphyr::from_str_with_options::<Yaml>(text, options());
    parsed.map(|Yaml(node)| node).map_err(|error| {
        let line = error.location().map(|location| location.line() as u32);
        SyntaxError::new(line, plain(&error.to_string()))
    })
}

/// The parser's message in the words of somebody who edits a file.
fn plain(message: &str) -> String {
    // The first line only: what follows are excerpts of the file, secrets included.
    let message = message.lines().next().unwrap_or_default();
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
    match message.strip_prefix("budget breached: ") {
        Some(what) if what.starts_with("Depth") => too_deep(),
        Some(what) if what.starts_with("Documents") => "has more than one document (`---`)".into(),
        Some(what) => {
            let what = what.split_whitespace().next().unwrap_or_default().to_lowercase();
            format!("is too large for a configuration file (too many {what})")
        }
        None if message.contains("recursion limit") => too_deep(),
        None if message.contains("://") => "is not valid YAML".into(),
        None => message.into(),
    }
}

fn too_deep() -> String {
    format!("is nested more than {MAX_DEPTH} levels deep")
}

fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: 16,
            max_alias_expansions_per_anchor: 1_000,
        },
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_aliases: 1_000,
            max_anchors: 100,
            max_recorded_anchor_events: MAX_NODES,
            max_recorded_anchor_bytes: MAX_BYTES,
            max_documents: 1,
            max_total_scalar_bytes: MAX_BYTES,
            max_merge_keys: 100,
        },
    }
}

/// Any YAML value. Keys and list items are wrapped, because only a wrapped node has a place.
struct Yaml(Node);

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode).map(Yaml)
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

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Yaml>>()? {
            list.push((item.referenced.line() as u32, item.value.0));
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let Yaml(node) = entries.next_value()?;
            map.push((key.value, key.referenced.line() as u32, node));
        }
        Ok(Node::Map(map))
    }
}
