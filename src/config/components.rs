//! The tree below `components`: which maps are groups, which are components.

use std::fmt;

use serde_json::{Map, Value};

use super::schema::{self, COMPONENTS};
use super::sla::{self, SlaSettings};
use super::{path, redact};

/// One component as configured.
#[derive(Clone, PartialEq)]
pub struct ComponentEntry {
    /// The key of its section.
    pub name: String,
    /// Where its section is: `components.analysis_agents.technical_analysis`.
    pub path: String,
    /// The groups around it, outermost first.
    pub group: Vec<String>,
    /// False: the component is absent.
    pub enabled: bool,
    /// `package.module:Class`, if the section names one.
    pub class: Option<String>,
    /// `permanent`, `transient` or `temporary`.
    pub restart: String,
    /// What it promises, if anything.
    pub sla: Option<SlaSettings>,
    /// The file with its own keys, as written.
    pub config_file: Option<String>,
    /// Its own keys, without the ones the framework reads.
    pub config: Value,
}

impl fmt::Debug for ComponentEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentEntry")
            .field("path", &self.path)
            .field("enabled", &self.enabled)
            .field("class", &self.class)
            .field("restart", &self.restart)
            .field("config_file", &self.config_file)
            .field("config", &redact::value(&self.path, &self.config))
            .finish()
    }
}

/// A map below `components`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Group,
    Component,
    /// Has the keys of a component and components inside.
    Both,
}

/// A component's section.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    pub(super) path: String,
    pub(super) group: Vec<&'a str>,
    pub(super) map: Option<&'a Map<String, Value>>,
}

/// A group's or component's place, for the checks of names.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) path: String,
    pub(super) shape: Shape,
}

fn has_reserved(map: &Map<String, Value>) -> bool {
    schema::COMPONENT_KEYS.iter().any(|key| map.get(key.path).is_some_and(|v| !v.is_object()))
}

/// Only a component has a file or a class; `enabled` may be a switch of the component's own.
fn is_surely_component(value: &Value) -> bool {
    let Value::Object(map) = value else { return false };
    let class = map.get("class").and_then(Value::as_str).is_some_and(schema::is_class);
    map.get("config_file").is_some_and(Value::is_string)
        || class
        || (!has_reserved(map) && !map.is_empty() && map.values().any(is_surely_component))
}

/// Whether a map looks like a component or a group of such.
fn is_member(value: &Value) -> bool {
    value.as_object().is_some_and(|map| has_reserved(map) || shape(map) == Shape::Group)
}

/// Group or component.
///
/// A group has no key of its own: everything in it is a map (or empty) and at least one looks
/// like a component. So `thresholds: {low: 1}` makes nobody a group.
pub(super) fn shape(map: &Map<String, Value>) -> Shape {
    let members = map.values().any(is_member);
    let only_sections = map.values().all(|value| match value {
        Value::Object(below) => below.is_empty() || is_member(value),
        other => other.is_null(),
    });
    if !has_reserved(map) && members && only_sections {
        return Shape::Group;
    }
    if map.values().any(is_surely_component) { Shape::Both } else { Shape::Component }
}

fn components_of(tree: &Map<String, Value>) -> Option<&Map<String, Value>> {
    tree.get(COMPONENTS)?.as_object()
}

/// The sections of all components, in the order in which they are declared.
pub(super) fn sections(tree: &Map<String, Value>) -> Vec<Section<'_>> {
    fn walk<'a>(
        map: &'a Map<String, Value>,
        at: &str,
        group: &[&'a str],
        found: &mut Vec<Section<'a>>,
    ) {
        for (name, value) in map {
            let path = path::join(at, name);
            match value {
                Value::Object(below) if shape(below) == Shape::Group => {
                    let group = [group, &[name.as_str()]].concat();
                    walk(below, &path, &group, found);
                }
                Value::Object(below) => {
                    found.push(Section { name, path, group: group.to_vec(), map: Some(below) });
                }
                _ => found.push(Section { name, path, group: group.to_vec(), map: None }),
            }
        }
    }
    let mut found = Vec::new();
    if let Some(map) = components_of(tree) {
        walk(map, COMPONENTS, &[], &mut found);
    }
    found
}

/// All groups and components, in the order in which they are declared.
pub(super) fn places(tree: &Map<String, Value>) -> Vec<Place<'_>> {
    fn walk<'a>(map: &'a Map<String, Value>, at: &str, found: &mut Vec<Place<'a>>) {
        for (name, value) in map {
            let path = path::join(at, name);
            let shape = value.as_object().map_or(Shape::Component, shape);
            found.push(Place { name, path: path.clone(), shape });
            if let (Shape::Group, Value::Object(below)) = (shape, value) {
                walk(below, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    if let Some(map) = components_of(tree) {
        walk(map, COMPONENTS, &mut found);
    }
    found
}

/// What a valid tree says about each component.
pub(super) fn entries(tree: &Map<String, Value>) -> Vec<ComponentEntry> {
    let empty = Map::new();
    let entry = |section: Section<'_>| {
        let map = section.map.unwrap_or(&empty);
        let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
        let own = map.iter().filter(|(key, _)| schema::component_key(key).is_none());
        ComponentEntry {
            name: section.name.to_owned(),
            group: section.group.iter().map(|name| (*name).to_owned()).collect(),
            enabled: map.get("enabled").and_then(Value::as_bool).unwrap_or(true),
            class: text("class"),
            restart: text("restart").unwrap_or_else(|| "permanent".to_owned()),
            sla: map.get("sla").and_then(Value::as_object).map(sla::read),
            config_file: text("config_file"),
            config: Value::Object(own.map(|(key, value)| (key.clone(), value.clone())).collect()),
            path: section.path,
        }
    };
    sections(tree).into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tree(components: Value) -> Map<String, Value> {
        Map::from_iter([(COMPONENTS.to_owned(), components)])
    }

    #[test]
    fn groups_nest_and_order_is_kept() {
        let tree = tree(json!({
            "zeta": {"enabled": true, "config_file": "z.yaml", "window": 3},
            "agents": {
                "technical": {"enabled": false},
                "inner": {"deep": {"class": "a.b:C"}},
            },
            "alpha": null,
            "plain": {"thresholds": {"low": 1}},
        }));
        let entries = entries(&tree);
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "components.zeta",
                "components.agents.technical",
                "components.agents.inner.deep",
                "components.alpha",
                "components.plain",
            ]
        );
        assert_eq!(entries[0].config, json!({"window": 3}));
        assert!(!entries[1].enabled);
        assert_eq!(entries[2].group, ["agents", "inner"]);
        assert_eq!(entries[2].class.as_deref(), Some("a.b:C"));
        assert_eq!(entries[4].config, json!({"thresholds": {"low": 1}}));
    }

    #[test]
    fn a_map_with_keys_of_its_own_and_components_inside_is_both() {
        let shape_of = |value: Value| shape(value.as_object().unwrap());
        assert_eq!(shape_of(json!({"enabled": true, "x": {"config_file": "x.yaml"}})), Shape::Both);
        assert_eq!(shape_of(json!({"window": 1, "x": {"class": "a:B"}})), Shape::Both);
        assert_eq!(shape_of(json!({"enabled": true, "tls": {"enabled": false}})), Shape::Component);
        assert_eq!(shape_of(json!({})), Shape::Component);
    }

    #[test]
    fn printing_an_entry_shows_no_secret() {
        let tree = tree(json!({"a": {"api_key": "canary", "url": "redis://:canary@h"}}));
        assert!(!format!("{:?}", entries(&tree)).contains("canary"));
    }
}
