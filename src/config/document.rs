//! One file's text into a tree of values and the line of each key.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::node::{MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, SyntaxError};
use super::{json, path, toml, yaml};

/// The language of a configuration text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2, one document, no tags.
    Yaml,
    /// JSON.
    Json,
    /// TOML 1.0.
    Toml,
}

impl Format {
    /// The format that a file's extension names.
    pub fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Some(Format::Yaml),
            "json" => Some(Format::Json),
            "toml" => Some(Format::Toml),
            _ => None,
        }
    }
}

/// A parsed text.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    pub(super) tree: Map<String, Value>,
    /// Line of each dotted path, from 1.
    pub(super) lines: HashMap<String, u32>,
}

/// Parses `bytes`; never panics and never needs more than a small multiple of [`MAX_BYTES`].
pub(super) fn parse(bytes: &[u8], format: Format) -> Result<Document, SyntaxError> {
    if bytes.len() > MAX_BYTES {
        let message = format!("is larger than 1 MiB ({} bytes)", bytes.len());
        return Err(SyntaxError::new(None, message));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        SyntaxError::new(Some(line as u32), "is not UTF-8; save the file as UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = match format {
        Format::Yaml => yaml::parse(text)?,
        Format::Json => json::parse(text)?,
        Format::Toml => toml::parse(text)?,
    };
    let mut document = Document::default();
    let mut nodes = 0;
    match root {
        Node::Scalar(Value::Null) => {}
        Node::Map(entries) => {
            for (key, line, node) in entries {
                let value = document.place(key.clone(), line, node, 1, &mut nodes)?;
                document.tree.insert(key, value);
            }
        }
        Node::Scalar(_) | Node::List(_) => {
            let message = "must be a map of sections, such as `event_bus:` with keys below";
            return Err(SyntaxError::new(Some(1), message));
        }
    }
    Ok(document)
}

impl Document {
    /// Remembers the line of `path` and turns its node into a value.
    fn place(
        &mut self,
        at: String,
        line: u32,
        node: Node,
        depth: usize,
        nodes: &mut usize,
    ) -> Result<Value, SyntaxError> {
        *nodes += 1;
        if depth > MAX_DEPTH {
            let message = format!("is nested more than {MAX_DEPTH} levels deep");
            return Err(SyntaxError::new(Some(line), message));
        }
        if *nodes > MAX_NODES {
            let message = format!("has more than {MAX_NODES} values");
            return Err(SyntaxError::new(Some(line), message));
        }
        let value = match node {
            Node::Scalar(value) => value,
            Node::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, (line, item)) in items.into_iter().enumerate() {
                    let below = path::join(&at, &index.to_string());
                    list.push(self.place(below, line, item, depth + 1, nodes)?);
                }
                Value::Array(list)
            }
            Node::Map(entries) => {
                let mut map = Map::new();
                for (key, line, item) in entries {
                    let below = path::join(&at, &key);
                    let value = self.place(below, line, item, depth + 1, nodes)?;
                    map.insert(key, value);
                }
                Value::Object(map)
            }
        };
        if line > 0 {
            self.lines.insert(at, line);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn yaml(text: &str) -> Result<Document, SyntaxError> {
        parse(text.as_bytes(), Format::Yaml)
    }

    #[test]
    fn every_format_gives_the_same_tree_and_lines() {
        let texts = [
            (Format::Yaml, "a:\n  b: 1\n  c: [x, 2.5]\nd: true\n"),
            (Format::Json, "{\"a\":\n{\"b\": 1,\n\"c\": [\"x\", 2.5]},\n\"d\": true}"),
            (Format::Toml, "[a]\nb = 1\nc = [\"x\", 2.5]\n"),
        ];
        for (format, text) in texts {
            let document = parse(text.as_bytes(), format).unwrap();
            assert_eq!(document.tree["a"], json!({"b": 1, "c": ["x", 2.5]}), "{format:?}");
            assert_eq!(document.lines.get("a"), Some(&1), "{format:?}");
            assert_eq!(document.lines.get("a.b"), Some(&2), "{format:?}");
            assert_eq!(document.lines.get("a.c"), Some(&3), "{format:?}");
        }
    }

    #[test]
    fn yaml_types_are_the_ones_of_yaml_1_2() {
        let tree = yaml("a: no\nb: 017\nc: 1_0\nd: '1'\ne: ~\nf: \"x: y\"\n").unwrap().tree;
        assert_eq!(tree["a"], "no");
        assert_eq!(tree["b"], "017");
        assert_eq!(tree["d"], "1");
        assert_eq!(tree["e"], Value::Null);
        assert_eq!(tree["f"], "x: y");
    }

    #[test]
    fn what_no_file_should_hold_is_refused_with_its_line() {
        let wide = format!("a: [{}]", "1,".repeat(MAX_NODES));
        let deep = format!("a: {}{}", "[".repeat(70), "]".repeat(70));
        let cases: [(&str, &str); 8] = [
            ("a: 1\nb: 2\na: 3\n", "duplicate"),
            ("a: !!python/object x", "tag"),
            ("a: .nan", ""),
            ("- 1\n- 2\n", "map of sections"),
            ("a: 1\n---\nb: 2\n", "document"),
            ("a: [1\n", ""),
            (&wide, "too large"),
            (&deep, "levels deep"),
        ];
        for (text, part) in cases {
            let error = yaml(text).map(|document| document.tree).unwrap_err();
            assert!(error.message.to_lowercase().contains(part), "{part}: {}", error.message);
        }
        assert_eq!(yaml("a: 1\nb: 2\na: 3\n").unwrap_err().line, Some(3));
        for text in ["{\"a\": 1, \"a\": 2}", "{\"a\": {\"b\": 1, \"b\": 1}}"] {
            let error = parse(text.as_bytes(), Format::Json).unwrap_err();
            assert!(error.message.contains("duplicate"), "{}", error.message);
        }
        assert!(parse(b"a = 1\na = 2\n", Format::Toml).is_err());
    }

    #[test]
    fn an_alias_bomb_ends_early() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let inner = vec![format!("*a{}", n - 1); 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{inner}]\n"));
        }
        assert!(yaml(&text).is_err());
    }

    #[test]
    fn nesting_is_refused_before_it_fills_the_stack() {
        let indented = (0..1400).map(|n| " ".repeat(n.min(700)) + "a:\n").collect();
        let texts = ["- ".repeat(1 << 18), "? ".repeat(1 << 18), "{a: ".repeat(1 << 17), indented];
        for text in texts.iter().chain(&["[".repeat(1 << 19)]) {
            for format in [Format::Yaml, Format::Json, Format::Toml] {
                assert!(parse(text.as_bytes(), format).is_err(), "{format:?}: {:.20}", text);
            }
        }
    }

    #[test]
    fn an_error_never_repeats_the_text() {
        let error = yaml("url: \"redis://:SUPERSECRET@h/0\"\nbad: [\n").unwrap_err();
        assert!(!error.message.contains("SUPERSECRET"), "{}", error.message);
        let toml = parse(b"url = \"redis://:SUPERSECRET@h/0\" x\n", Format::Toml).unwrap_err();
        assert!(!toml.message.contains("SUPERSECRET"), "{}", toml.message);
    }

    #[test]
    fn marks_line_ends_and_encodings_are_handled() {
        assert_eq!(yaml("\u{feff}a: 1\r\nb: 2\r\n").unwrap().tree["b"], 2);
        assert!(yaml("").unwrap().tree.is_empty());
        assert!(yaml("# nothing\n").unwrap().tree.is_empty());
        let error = parse(b"a: 1\nb: \xff\n", Format::Yaml).unwrap_err();
        assert_eq!(error.line, Some(2));
        assert!(parse(&vec![b' '; MAX_BYTES + 1], Format::Yaml).is_err());
    }
}
