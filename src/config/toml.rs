//! TOML through toml_edit, whose keys know their place.

use std::ops::Range;

use serde_json::{Number, Value};
use toml_edit::{ImDocument, Item, TableLike, Value as Toml};

use super::node::{MAX_DEPTH, Node, SyntaxError};

pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let document = ImDocument::parse(text).map_err(|error| {
        let line = error.span().map(|span| Lines(text).of(&span));
        SyntaxError::new(line, error.message().lines().next().unwrap_or("is not valid TOML"))
    })?;
    table(document.as_table(), Lines(text), 1)
}

#[derive(Clone, Copy)]
struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn of(self, span: &Range<usize>) -> u32 {
        let before = self.0.as_bytes().get(..span.start).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() as u32 + 1
    }
}

fn too_deep(depth: usize) -> Result<(), SyntaxError> {
    if depth <= MAX_DEPTH {
        return Ok(());
    }
    Err(SyntaxError::new(None, format!("is nested more than {MAX_DEPTH} levels deep")))
}

fn table(table: &dyn TableLike, lines: Lines<'_>, depth: usize) -> Result<Node, SyntaxError> {
    too_deep(depth)?;
    let mut entries = Vec::new();
    for (name, item) in table.iter() {
        let span = table.key(name).and_then(|key| key.span()).or_else(|| item.span());
        let line = span.map_or(0, |span| lines.of(&span));
        let node = match item {
            Item::None => continue,
            Item::Value(value) => scalar(value, lines, depth + 1)?,
            Item::Table(below) => self::table(below, lines, depth + 1)?,
            Item::ArrayOfTables(list) => {
                let mut items = Vec::new();
                for below in list {
                    let line = below.span().map_or(line, |span| lines.of(&span));
                    items.push((line, self::table(below, lines, depth + 2)?));
                }
                Node::List(items)
            }
        };
        entries.push((name.to_owned(), line, node));
    }
    Ok(Node::Map(entries))
}

fn scalar(value: &Toml, lines: Lines<'_>, depth: usize) -> Result<Node, SyntaxError> {
    too_deep(depth)?;
    let line = value.span().map(|span| lines.of(&span));
    Ok(match value {
        Toml::String(text) => Node::Scalar(text.value().as_str().into()),
        Toml::Integer(number) => Node::Scalar((*number.value()).into()),
        Toml::Boolean(flag) => Node::Scalar((*flag.value()).into()),
        // JSON has no date; its text is what every reader of a configuration expects.
        Toml::Datetime(date) => Node::Scalar(date.value().to_string().into()),
        Toml::Float(number) => match Number::from_f64(*number.value()) {
            Some(number) => Node::Scalar(Value::Number(number)),
            None => return Err(SyntaxError::new(line, "a number must be finite")),
        },
        Toml::Array(list) => {
            let mut items = Vec::new();
            for item in list {
                let line = item.span().map_or(0, |span| lines.of(&span));
                items.push((line, scalar(item, lines, depth + 1)?));
            }
            Node::List(items)
        }
        Toml::InlineTable(below) => table(below, lines, depth + 1)?,
    })
}
