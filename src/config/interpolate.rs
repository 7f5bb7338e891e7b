//! `${...}` in the scalars of files: after parsing, once, never parsed again.
//!
//! `${NAME}` is an environment variable, else a root key; `${a.b}` is a key; `${NAME:default}`
//! gives a default; `\${` is a literal `${`. Only text from files is looked at: what a shell
//! or a program gave is final.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::layers::{Merged, lookup};
use super::violation::Violation;
use super::{path, redact};

/// Longest text that references may make, so that a few lines cannot fill the memory.
const MAX_LENGTH: usize = 64 * 1024;
/// Most keys that refer to each other in a row.
const MAX_CHAIN: usize = 32;

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    Reference { name: String, default: Option<String> },
}

/// Splits `text` into literal text and references; errors repeat no default where `is_secret`.
fn parse(text: &str, is_secret: bool) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('\\') {
            literal.push_str(&rest[..at - 1]);
            literal.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        literal.push_str(&rest[..at]);
        let body = &rest[at + 2..];
        let end = body.find('}').ok_or("`${` has no closing `}`; a literal one is `\\${`")?;
        rest = &body[end + 1..];
        let body = &body[..end];
        if body.contains("${") {
            return Err("references cannot be nested; name a key that holds the inner one".into());
        }
        let (name, default) = match body.split_once(':') {
            Some((name, default)) => (name, Some(default)),
            None => (body, None),
        };
        if !is_reference(name) {
            return Err("`${...}` must hold the name of a variable or of a key; \
                        a literal one is `\\${`"
                .into());
        }
        if default.is_some_and(|default| default.starts_with(['-', '?'])) {
            let shell = &body[..name.len() + 2];
            let meant = default.filter(|default| default.starts_with('-'));
            let right = match meant {
                Some(_) if is_secret => format!("write `${{{name}:...}}` for a default"),
                Some(default) => {
                    let default = redact::text(&default[1..]);
                    format!("write `${{{name}:{default}}}` for a default")
                }
                None => format!("write `${{{name}}}`, which must be set"),
            };
            return Err(format!("`${{{shell}...}}` is the shell's form; {right}"));
        }
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        parts.push(Part::Reference { name: name.into(), default: default.map(Into::into) });
    }
    literal.push_str(rest);
    if !literal.is_empty() || parts.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

fn is_reference(name: &str) -> bool {
    name.split('.').all(|part| {
        !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
    })
}

/// What a scalar became.
#[derive(Clone, Debug)]
struct Resolved {
    value: Value,
    /// Text from a variable or a default: the schema may still make a number of it.
    is_text: bool,
    /// Holds the content of an environment variable.
    is_private: bool,
}

/// What interpolation found out about the whole tree.
#[derive(Debug, Default)]
pub(super) struct Interpolated {
    /// Paths whose value is text from outside, to be typed by the schema.
    pub(super) texts: HashSet<String>,
    /// Paths whose value comes from an environment variable: never shown in a message.
    pub(super) private: HashSet<String>,
    /// Root keys that some `${NAME}` refers to.
    pub(super) used: HashSet<String>,
}

/// Replaces every reference of `merged` in place; what cannot be replaced becomes a problem.
pub(super) fn interpolate(
    merged: &mut Merged,
    variables: &HashMap<&str, &str>,
    problems: &mut Vec<Violation>,
) -> Interpolated {
    let mut found = Interpolated::default();
    let mut scalars = Vec::new();
    for (key, value) in &merged.tree {
        collect(key, value, &mut scalars);
    }
    let mut resolver = Resolver { merged, variables, done: HashMap::new(), used: HashSet::new() };
    let mut replaced = Vec::new();
    for (at, text) in scalars {
        match resolver.key(&at, &text, &mut Vec::new()) {
            Ok(resolved) => replaced.push((at, resolved)),
            Err(message) => {
                let origin = resolver.merged.origin(&at);
                problems.push(Violation::new("interpolation", &at, message).at(origin));
            }
        }
    }
    found.used = resolver.used;
    for (at, resolved) in replaced {
        if resolved.is_text {
            found.texts.insert(at.clone());
        }
        if resolved.is_private {
            found.private.insert(at.clone());
        }
        replace(&mut merged.tree, &at, resolved.value);
    }
    found
}

/// One scalar, before the files are complete: the environment's name, a `config_file`.
pub(super) fn scalar(merged: &Merged, at: &str, variables: &HashMap<&str, &str>) -> Option<Value> {
    let value = lookup(&merged.tree, at)?;
    let Some(text) = value.as_str() else { return Some(value.clone()) };
    let mut resolver = Resolver { merged, variables, done: HashMap::new(), used: HashSet::new() };
    resolver.key(at, text, &mut Vec::new()).ok().map(|resolved| resolved.value)
}

fn collect(at: &str, value: &Value, scalars: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if text.contains("${") => scalars.push((at.into(), text.clone())),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(&path::join(at, &index.to_string()), item, scalars);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                collect(&path::join(at, key), value, scalars);
            }
        }
        _ => {}
    }
}

fn replace(tree: &mut Map<String, Value>, at: &str, new: Value) {
    fn slot<'a>(value: &'a mut Value, at: &str) -> Option<&'a mut Value> {
        if at.is_empty() {
            return Some(value);
        }
        match value {
            Value::Object(map) => slot_in(map, at),
            Value::Array(items) => {
                let (head, rest) = at.split_once('.').unwrap_or((at, ""));
                slot(items.get_mut(head.parse::<usize>().ok()?)?, rest)
            }
            _ => None,
        }
    }
    fn slot_in<'a>(map: &'a mut Map<String, Value>, at: &str) -> Option<&'a mut Value> {
        if map.contains_key(at) {
            return map.get_mut(at);
        }
        // The same choice as `path::get`: the first split below which the path exists.
        let split = at.match_indices('.').map(|(dot, _)| dot).find(|&dot| {
            map.get(&at[..dot]).is_some_and(|below| path::get(below, &at[dot + 1..]).is_some())
        })?;
        slot(map.get_mut(&at[..split])?, &at[split + 1..])
    }
    if let Some(slot) = slot_in(tree, at) {
        *slot = new;
    }
}

struct Resolver<'a> {
    merged: &'a Merged,
    variables: &'a HashMap<&'a str, &'a str>,
    done: HashMap<String, Resolved>,
    used: HashSet<String>,
}

impl Resolver<'_> {
    /// The value of the key at `at`, whose text is `text`; `chain` holds who asked.
    fn key(&mut self, at: &str, text: &str, chain: &mut Vec<String>) -> Result<Resolved, String> {
        if let Some(done) = self.done.get(at) {
            return Ok(done.clone());
        }
        let from_file = self.merged.winner(at).is_some_and(|source| source.layer.is_file());
        if !from_file || !text.contains("${") {
            return Ok(Resolved { value: text.into(), is_text: false, is_private: false });
        }
        if let Some(start) = chain.iter().position(|key| key == at) {
            let circle = chain[start..].join(" -> ");
            return Err(format!("refers to itself: {circle} -> {at}"));
        }
        if chain.len() >= MAX_CHAIN {
            return Err(format!("refers to keys more than {MAX_CHAIN} steps away"));
        }
        chain.push(at.to_owned());
        let resolved = self.template(text, chain);
        chain.pop();
        if let Ok(resolved) = &resolved {
            self.done.insert(at.to_owned(), resolved.clone());
        }
        resolved
    }

    fn template(&mut self, text: &str, chain: &mut Vec<String>) -> Result<Resolved, String> {
        let is_secret = chain.last().is_some_and(|at| redact::is_secret_path(at));
        let parts = parse(text, is_secret)?;
        if let [Part::Reference { name, default }] = parts.as_slice() {
            let resolved = self.reference(name, default.as_deref(), chain)?;
            return bounded(resolved);
        }
        let mut whole = Resolved { value: Value::Null, is_text: false, is_private: false };
        let mut joined = String::new();
        for part in &parts {
            match part {
                Part::Text(text) => joined.push_str(text),
                Part::Reference { name, default } => {
                    let resolved = self.reference(name, default.as_deref(), chain)?;
                    whole.is_text = true;
                    whole.is_private |= resolved.is_private;
                    match &resolved.value {
                        Value::String(text) => joined.push_str(text),
                        other => joined.push_str(&other.to_string()),
                    }
                }
            }
            if joined.len() > MAX_LENGTH {
                break;
            }
        }
        whole.value = joined.into();
        bounded(whole)
    }

    fn reference(
        &mut self,
        name: &str,
        default: Option<&str>,
        chain: &mut Vec<String>,
    ) -> Result<Resolved, String> {
        let is_key = name.contains('.');
        if !is_key && let Some(text) = self.variables.get(name) {
            return Ok(Resolved { value: (*text).into(), is_text: true, is_private: true });
        }
        match lookup(&self.merged.tree, name) {
            Some(Value::Object(_)) if is_key || default.is_none() => {
                return Err(format!(
                    "`${{{name}}}` is a section; a reference needs a single value"
                ));
            }
            Some(Value::Array(_)) => {
                return Err(format!("`${{{name}}}` is a list; a reference needs a single value"));
            }
            Some(Value::String(text)) => {
                self.used.insert(name.to_owned());
                return self.key(name, text, chain);
            }
            Some(value @ (Value::Bool(_) | Value::Number(_))) => {
                self.used.insert(name.to_owned());
                return Ok(Resolved { value: value.clone(), is_text: false, is_private: false });
            }
            // Null says that there is no value, which is what a default is for.
            None | Some(Value::Null | Value::Object(_)) => {}
        }
        match default {
            Some(text) => Ok(Resolved { value: text.into(), is_text: true, is_private: false }),
            None if is_key => Err(format!(
                "`${{{name}}}` names no key; add the key or give a default as in `${{{name}:value}}`"
            )),
            None => Err(format!(
                "`${{{name}}}` is not set; set the environment variable {name} or give a default \
                 as in `${{{name}:value}}`"
            )),
        }
    }
}

fn bounded(resolved: Resolved) -> Result<Resolved, String> {
    if resolved.value.as_str().is_some_and(|text| text.len() > MAX_LENGTH) {
        return Err(format!("grows beyond {MAX_LENGTH} bytes when its references are replaced"));
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str, default: Option<&str>) -> Part {
        Part::Reference { name: name.into(), default: default.map(Into::into) }
    }

    #[test]
    fn text_splits_into_literals_and_references() {
        let text = |text: &str| Part::Text(text.into());
        for (given, parts) in [
            ("plain $HOME $$ {x}", vec![text("plain $HOME $$ {x}")]),
            ("", vec![text("")]),
            ("${A}", vec![reference("A", None)]),
            ("${A:}", vec![reference("A", Some(""))]),
            ("${a.b:redis://h:1}", vec![reference("a.b", Some("redis://h:1"))]),
            ("x-${A}-y", vec![text("x-"), reference("A", None), text("-y")]),
            (r"\${A}${B}", vec![text("${A}"), reference("B", None)]),
            ("$$${A}", vec![text("$$"), reference("A", None)]),
            ("é${É}", vec![text("é"), reference("É", None)]),
        ] {
            assert_eq!(parse(given, false), Ok(parts), "{given}");
        }
    }

    #[test]
    fn the_shells_forms_are_corrected_without_repeating_a_secret() {
        let told = parse("${A:-x}", false).unwrap_err();
        assert!(told.contains("`${A:-...}`") && told.contains("`${A:x}`"), "{told}");
        let url = parse("${A:-redis://:canary@h}", false).unwrap_err();
        assert!(!url.contains("canary"), "{url}");
        assert!(!parse("${A:-canary}", true).unwrap_err().contains("canary"));
        assert!(parse("${A:?must be set}", false).unwrap_err().contains("`${A}`"));
    }
}
