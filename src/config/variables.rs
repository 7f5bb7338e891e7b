//! Text from outside a file: environment variables and `--set a.b=c`.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::layers::Source;
use super::origin::{Layer, Origin};
use super::text::{from_text, parse_value};
use super::violation::Violation;
use super::{path, schema};

const PREFIX: &str = "TIEBEAM_";
/// Text for the key at `path`: as the schema says, else as it looks.
///
/// None: an empty text for a key that is no text means that nothing is set.
fn typed(path: &str, text: &str) -> Option<Value> {
    match schema::kind_of(path) {
        None => Some(parse_value(text)),
        Some(kind) if text.is_empty() && !kind.is_text() => None,
        // What does not fit stays text, and validation says what is wrong with it.
        Some(kind) => Some(from_text(&kind, text).unwrap_or_else(|| text.into())),
    }
}

/// The layer of the variables `TIEBEAM_A__B`; other names, and those without `__`, are not ours.
///
/// Names are lower-cased; a key that `below` spells otherwise keeps its spelling.
pub(super) fn environment(
    variables: &[(String, String)],
    below: &Map<String, Value>,
    problems: &mut Vec<Violation>,
) -> Source {
    let mut source = Source::new(Layer::Environment);
    for (variable, text) in variables {
        let Some(name) = variable.strip_prefix(PREFIX).filter(|name| name.contains("__")) else {
            continue;
        };
        if name.split("__").any(str::is_empty) {
            let origin = Origin { variable: Some(variable.clone()), ..Origin::new(source.layer) };
            let message = "the name has an empty part; write it as TIEBEAM_SECTION__KEY";
            problems.push(Violation::new("syntax", "", message).at(Some(origin)));
            continue;
        }
        let path = align(name, below);
        put(&mut source, path, text, variable);
    }
    source
}

/// The layer of `--set a.b=c`, later ones winning.
pub(super) fn command_line(pairs: &[String], problems: &mut Vec<Violation>) -> Source {
    let mut source = Source::new(Layer::CommandLine);
    for pair in pairs {
        let key = pair.split_once('=').map(|(key, text)| (key.trim(), text));
        let Some((key, text)) = key.filter(|(key, _)| !key.split('.').any(str::is_empty)) else {
            let shown = pair.split('=').next().unwrap_or_default().to_owned();
            let origin = Origin { option: Some(shown), ..Origin::new(source.layer) };
            let message = "must be written as `--set section.key=value`";
            problems.push(Violation::new("syntax", "", message).at(Some(origin)));
            continue;
        };
        put(&mut source, key.to_owned(), text, key);
    }
    source
}

/// The layer of values that were set while the system runs.
pub(super) fn runtime(overrides: &[(String, Value)]) -> Source {
    let mut source = Source::new(Layer::Runtime);
    for (key, value) in overrides {
        path::set(&mut source.tree, key, value.clone());
    }
    source
}

fn put(source: &mut Source, path: String, text: &str, name: &str) {
    if let Some(value) = typed(&path, text) {
        path::set(&mut source.tree, &path, value);
        source.names.insert(path, name.to_owned());
    }
}

/// `DATA_COLLECTION__apikey` into the path of the keys that exist, whatever their case.
fn align(name: &str, below: &Map<String, Value>) -> String {
    let mut here = Some(below);
    let mut found = String::new();
    for part in name.split("__") {
        let key = here.and_then(|map| map.keys().find(|key| key.eq_ignore_ascii_case(part)));
        let key = key.cloned().unwrap_or_else(|| part.to_lowercase());
        here = here.and_then(|map| map.get(&key)).and_then(Value::as_object);
        found = path::join(&found, &key);
    }
    found
}

/// All variables by name, for `${NAME}`.
pub(super) fn by_name(variables: &[(String, String)]) -> HashMap<&str, &str> {
    variables.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn layer(pairs: &[(&str, &str)]) -> (Source, Vec<Violation>) {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let Value::Object(below) = json!({"components": {"MyAgent": {"apiUrl": 1}}}) else {
            unreachable!()
        };
        let mut problems = Vec::new();
        (environment(&pairs, &below, &mut problems), problems)
    }

    #[test]
    fn values_look_like_toml_or_are_text() {
        for (text, value) in [
            ("true", json!(true)),
            ("  false  ", json!(false)),
            (" -2", json!(-2)),
            ("1.5", json!(1.5)),
            ("\"42\"", json!("42")),
            ("a,b", json!("a,b")),
            ("[", json!("[")),
            (" [ a , b   ,, d  ] ", json!(["a", "b", "", "d"])),
            ("{a=[[-2]],b=\" hi\"}", json!({"a": [[-2]], "b": " hi"})),
            ("0123", json!("0123")),
            ("", json!("")),
        ] {
            assert_eq!(parse_value(text), value, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(parse_value(&deep), json!(deep));
    }

    #[test]
    fn the_schema_types_what_it_knows() {
        let (source, problems) = layer(&[
            ("TIEBEAM_SYSTEM__NAME", "0123"),
            ("TIEBEAM_SYSTEM__VERSION", "1.0"),
            ("TIEBEAM_EVENT_BUS__MAX_RETRY", "7"),
            ("TIEBEAM_EVENT_BUS__BATCH_SIZE", ""),
            ("TIEBEAM_LOGGING__CONSOLE", "OFF"),
            ("TIEBEAM_EVENT_BUS__CAPACITY", "many"),
            ("TIEBEAM_COMPONENTS__MYAGENT__APIURL", "x"),
            ("TIEBEAM_HOME", "not configuration"),
            ("PATH__X", "not ours"),
        ]);
        assert!(problems.is_empty());
        assert_eq!(
            Value::Object(source.tree),
            json!({
                "system": {"name": "0123", "version": "1.0"},
                "event_bus": {"max_retry": 7, "capacity": "many"},
                "logging": {"console": false},
                "components": {"MyAgent": {"apiUrl": "x"}},
            })
        );
        assert_eq!(source.names["event_bus.max_retry"], "TIEBEAM_EVENT_BUS__MAX_RETRY");
    }

    #[test]
    fn malformed_names_and_pairs_are_reported() {
        let (_, problems) = layer(&[("TIEBEAM_A__", "1"), ("TIEBEAM___B", "1")]);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].to_string().starts_with("TIEBEAM_A__: "), "{}", problems[0]);
        let mut problems = Vec::new();
        let pairs = ["a.b=1=2".to_owned(), "oops".into(), ".a=1".into(), "=x".into()];
        let source = command_line(&pairs, &mut problems);
        assert_eq!(Value::Object(source.tree), json!({"a": {"b": "1=2"}}));
        assert_eq!(problems.len(), 3);
    }
}
