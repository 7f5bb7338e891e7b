//! Sections whose own keys are names that users give: policies, and what is said of single groups
//! and components. Below each name stand the same keys.

use serde_json::{Map, Value};

use super::layers::lookup;
use super::policies::{POLICIES, POLICY_KEYS};
use super::schema::{Key, Kind};
use super::supervision::{COMPONENT_WATCH_KEYS, COMPONENTS_WATCHED, GROUP_KEYS, GROUPS};
use super::{path, validate};
use crate::error::{Error, Kind as ErrorKind, Result, did_you_mean};

/// One such section.
#[derive(Debug)]
pub struct Named {
    /// Where it stands.
    pub at: &'static str,
    /// What one of its names is the name of, for messages.
    pub one: &'static str,
    /// The same for several.
    pub many: &'static str,
    /// The keys below each name.
    pub keys: &'static [Key],
}

/// Every such section.
pub static NAMED: [Named; 3] = [
    Named { at: POLICIES, one: "policy", many: "policies", keys: POLICY_KEYS },
    Named { at: GROUPS, one: "group", many: "groups", keys: GROUP_KEYS },
    Named {
        at: COMPONENTS_WATCHED,
        one: "component",
        many: "components",
        keys: COMPONENT_WATCH_KEYS,
    },
];

/// The section at `path`, if it is one of these.
pub(super) fn at(path: &str) -> Option<&'static Named> {
    NAMED.iter().find(|named| named.at == path)
}

/// What a value at `path`, from the root, must be, if it stands in one of these.
pub(super) fn kind_of(path: &str) -> Option<Kind> {
    NAMED.iter().find_map(|named| {
        let below = path.strip_prefix(named.at)?.strip_prefix('.')?;
        let (_, key) = below.split_once('.')?;
        named.find(key).map(|key| key.kind)
    })
}

/// What was said below one name: as it is used, durations in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedSection {
    /// The name.
    pub name: String,
    /// Its keys, as a tree.
    pub options: Map<String, Value>,
}

impl Named {
    /// The key at `below`, the part below the name.
    pub(super) fn find(&self, below: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.path == below)
    }

    /// The names that may stand directly in `section` below a name, the empty one for itself.
    pub(super) fn names_in(&self, section: &str) -> Vec<&'static str> {
        let mut names = Vec::new();
        for key in self.keys {
            let below = match key.path.strip_prefix(section) {
                Some(below) if section.is_empty() => below,
                Some(below) => match below.strip_prefix('.') {
                    Some(below) => below,
                    None => continue,
                },
                None => continue,
            };
            let name = below.split('.').next().unwrap_or_default();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Every name of a validated tree, in its order.
    pub(super) fn sections(&self, tree: &Map<String, Value>) -> Vec<NamedSection> {
        let Some(Value::Object(sections)) = lookup(tree, self.at) else { return Vec::new() };
        let section = |(name, section): (&String, &Value)| {
            // Where unknown keys are only warned of, they lead nowhere.
            let options = self.in_seconds(self.known(section, ""));
            NamedSection { name: name.clone(), options }
        };
        sections.iter().map(section).collect()
    }

    /// What a program says in place of such a section, with durations in seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] with every problem, each with its key below `what`.
    pub fn read(&self, what: &str, said: &Map<String, Value>) -> Result<Map<String, Value>> {
        let mut problems = Vec::new();
        self.problems(what, "", said, &mut problems);
        if problems.is_empty() {
            return Ok(self.in_seconds(said.clone()));
        }
        Err(Error::new(ErrorKind::Configuration, "read options", problems.join("; ")))
    }

    fn problems(
        &self,
        what: &str,
        below: &str,
        said: &Map<String, Value>,
        found: &mut Vec<String>,
    ) {
        for (name, value) in said {
            let key = path::join(below, name);
            match (self.find(&key), value) {
                (Some(known), value) => {
                    if let Err(fault) = validate::check(&known.kind, value) {
                        let near = fault.suggestion.map(|near| format!("; did you mean `{near}`?"));
                        let near = near.unwrap_or_default();
                        found.push(format!("{what}.{key} {}, got {value}{near}", fault.message));
                    }
                }
                (None, Value::Object(map)) if !self.names_in(&key).is_empty() => {
                    self.problems(what, &key, map, found);
                }
                (None, _) if !self.names_in(&key).is_empty() => {
                    found.push(format!("{what}.{key} must be a map"));
                }
                (None, _) => {
                    let near = did_you_mean(name, self.names_in(below));
                    let near = near.map(|near| format!("; did you mean `{near}`?"));
                    found.push(format!("{what} has no `{key}`{}", near.unwrap_or_default()));
                }
            }
        }
    }

    fn in_seconds(&self, mut options: Map<String, Value>) -> Map<String, Value> {
        for key in self.keys {
            if let Kind::Duration(unit, _) = key.kind
                && let Some(value) = lookup(&options, key.path)
                && let Some(time) = validate::duration_of(value, unit)
            {
                path::set(&mut options, key.path, time.as_secs_f64().into());
            }
        }
        options
    }

    /// What is known of the section `below` a name.
    fn known(&self, section: &Value, below: &str) -> Map<String, Value> {
        let mut options = Map::new();
        for (name, value) in section.as_object().into_iter().flatten() {
            let key = path::join(below, name);
            if self.find(&key).is_some() {
                options.insert(name.clone(), value.clone());
            } else if !self.names_in(&key).is_empty() {
                options.insert(name.clone(), Value::Object(self.known(value, &key)));
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_seconds_whatever_their_unit() {
        let tree = json!({"error_handling": {"policies": {"exchange": {
            "timeout": "2m",
            "retry": {"initial_delay": 250, "max_attempts": 5, "tries": 7},
            "circuit_breaker": {},
            "retri": {},
        }}}});
        let found = NAMED[0].sections(tree.as_object().unwrap());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "exchange");
        let wanted = json!({
            "timeout": 120.0,
            "retry": {"initial_delay": 0.25, "max_attempts": 5},
            "circuit_breaker": {},
        });
        assert_eq!(Value::Object(found[0].options.clone()), wanted);
    }

    #[test]
    fn keys_are_known_by_their_place() {
        let at = |path: &str| kind_of(path).is_some();
        assert!(at("error_handling.policies.exchange.retry.max_delay"));
        assert!(at("supervision.groups.agents.backoff.max_delay"));
        assert!(!at("error_handling.policies.retry"));
        assert!(!at("error_handling.retry.max_delay"));
        assert_eq!(
            NAMED[0].names_in(""),
            [
                "timeout",
                "retry",
                "hedge",
                "circuit_breaker",
                "rate_limit",
                "bulkhead",
                "attempt_timeout"
            ]
        );
        assert_eq!(NAMED[0].names_in("retry.budget"), ["ratio", "min_per_second", "ttl"]);
    }

    #[test]
    fn what_a_program_says_is_checked_like_a_file() {
        let said = json!({"intensity": -1, "perod": 3, "backoff": {"jitter": "ful"}, "period": 2});
        let error = NAMED[2].read("Feed.supervision", said.as_object().unwrap()).unwrap_err();
        for part in [
            "Feed.supervision.intensity must be >= 0, got -1",
            "did you mean `period`?",
            "did you mean `full`?",
        ] {
            assert!(error.message().contains(part), "{}", error.message());
        }
        let said = json!({"period": "2m", "on_loss": {"exchange": "stop"}});
        let read = NAMED[2].read("Feed.supervision", said.as_object().unwrap()).unwrap();
        assert_eq!(read["period"], 120.0);
    }
}
