//! Checks a merged tree against the schema and across keys, and collects everything wrong.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::error::did_you_mean;

use super::components::{self, Shape};
use super::interpolate::Interpolated;
use super::layers::Merged;
use super::named::{self, Named};
use super::origin::Layer;
use super::schema::{self, COMPONENTS, Kind, Zero};
use super::supervision::{COMPONENTS_WATCHED, GROUPS};
use super::text::from_text;
use super::violation::Violation;
use super::{path, redact, sla, units};

/// Why a value is not of its kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) rule: &'static str,
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
}

impl Fault {
    pub(super) fn new(rule: &'static str, message: impl Into<String>) -> Self {
        Fault { rule, message: message.into(), suggestion: None }
    }
}

impl Kind {
    /// Whether an empty text is a value.
    pub(super) fn is_text(&self) -> bool {
        matches!(self, Kind::Text | Kind::Pattern(..) | Kind::Choice(_))
    }
}

/// Checks one value.
pub(super) fn check(kind: &Kind, value: &Value) -> Result<(), Fault> {
    let wrong_type = || Fault::new("type", format!("must be {}", kind.expected()));
    match kind {
        Kind::Text => value.as_str().map(drop).ok_or_else(|| text_expected(value, kind)),
        Kind::Pattern(form, matches) => match value.as_str() {
            None => Err(text_expected(value, kind)),
            Some(text) if matches(text) => Ok(()),
            Some(_) => Err(Fault::new("pattern", format!("must be {form}"))),
        },
        Kind::Choice(of) => match value.as_str() {
            None => Err(wrong_type()),
            Some(text) => choice(text, of, kind),
        },
        Kind::Flag => value.as_bool().map(drop).ok_or_else(wrong_type),
        Kind::Integer(low, high) => {
            let number = match (value.as_i64(), value.as_u64()) {
                (Some(number), _) => number,
                // Beyond i64 it is above every limit.
                (None, Some(_)) => i64::MAX,
                (None, None) => return Err(wrong_type()),
            };
            range(number < *low, number > *high, low, high)
        }
        Kind::Number(low, high) => {
            let number = value.as_f64().ok_or_else(wrong_type)?;
            range(number < *low, number > *high, low, high)
        }
        Kind::Duration(unit, zero) => {
            let duration = duration_of(value, *unit);
            match duration {
                Some(time) if time.is_zero() && *zero == Zero::Refused => {
                    Err(Fault::new("range", "must be > 0"))
                }
                Some(_) => Ok(()),
                None if value.as_f64().is_some_and(|number| number < 0.0) => {
                    Err(Fault::new("range", "must be >= 0"))
                }
                None if value.is_number() => Err(Fault::new("range", "is longer than 100 years")),
                None => Err(wrong_type()),
            }
        }
        Kind::Size => match size_of(value) {
            Some(0) => Err(Fault::new("range", "must be > 0")),
            Some(_) => Ok(()),
            None if value.is_number() => {
                Err(Fault::new("range", "must be > 0 and at most 1048576 megabytes"))
            }
            None => Err(wrong_type()),
        },
        Kind::Names | Kind::Choices(_) => list(kind, value),
        Kind::Sla => sla::check(value),
        Kind::Words(of) => {
            for word in value.as_object().ok_or_else(wrong_type)?.values() {
                choice(word.as_str().ok_or_else(wrong_type)?, of, kind)?;
            }
            Ok(())
        }
    }
}

fn text_expected(value: &Value, kind: &Kind) -> Fault {
    // `version: 1.0` is the usual case, and quotes are what helps.
    let hint = if value.is_number() || value.is_boolean() { "; put it in quotes" } else { "" };
    Fault::new("type", format!("must be {}{hint}", kind.expected()))
}

fn choice(text: &str, of: &[&str], kind: &Kind) -> Result<(), Fault> {
    if of.contains(&text) {
        return Ok(());
    }
    let lower = text.to_lowercase();
    let known = of.iter().copied().filter(|word| !word.is_empty());
    let suggestion = did_you_mean(&lower, known.clone())
        .or_else(|| known.into_iter().find(|word| lower.len() > 2 && word.starts_with(&lower)));
    let message = format!("must be {}", kind.expected());
    Err(Fault { rule: "choice", message, suggestion: suggestion.map(str::to_owned) })
}

fn range<T: std::fmt::Display>(below: bool, above: bool, low: T, high: T) -> Result<(), Fault> {
    match (below, above) {
        (true, _) => Err(Fault::new("range", format!("must be >= {low}"))),
        (_, true) => Err(Fault::new("range", format!("must be <= {high}"))),
        _ => Ok(()),
    }
}

fn list(kind: &Kind, value: &Value) -> Result<(), Fault> {
    let wrong_type = || Fault::new("type", format!("must be {}", kind.expected()));
    let mut seen = HashSet::new();
    for item in value.as_array().ok_or_else(wrong_type)? {
        let text = item.as_str().ok_or_else(wrong_type)?;
        if let Kind::Choices(of) = kind {
            choice(text, of, kind)?;
        }
        if !seen.insert(text) {
            return Err(Fault::new("duplicate", format!("names `{text}` twice")));
        }
    }
    Ok(())
}

/// The duration a value of such a key means.
pub(super) fn duration_of(value: &Value, unit: units::Unit) -> Option<std::time::Duration> {
    match value {
        Value::Number(number) => units::duration(number.as_f64()?, unit),
        Value::String(text) => units::parse_duration(text, unit),
        _ => None,
    }
}

/// The bytes a value of such a key means.
pub(super) fn size_of(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => units::megabytes(number.as_f64()?),
        Value::String(text) => units::parse_size(text),
        _ => None,
    }
}

/// What the checks know beside the tree.
pub(super) struct Validator<'a> {
    pub(super) merged: &'a Merged,
    pub(super) interpolated: &'a Interpolated,
    /// Components that the program brings although no file names them.
    pub(super) known: &'a [String],
    pub(super) problems: Vec<Violation>,
    /// What is a problem only under `validation_strict`.
    pub(super) lenient: Vec<Violation>,
}

impl Validator<'_> {
    /// Checks `tree` and types the text in it that came from outside.
    pub(super) fn run(&mut self, tree: &mut Map<String, Value>) {
        self.section("", tree);
        self.required(tree);
        self.components(tree);
        self.initialization_order(tree);
        self.supervised(tree);
        self.connection(tree);
        self.mandatory(tree);
        self.delays(tree);
        self.leases(tree);
        self.health_limits(tree);
    }

    fn violation(&self, at: &str, fault: Fault, value: Option<&Value>) -> Violation {
        let origin = self.merged.origin(at);
        let outside = self.interpolated.private.contains(at)
            || origin.as_ref().is_some_and(|origin| origin.layer == Layer::Environment);
        let is_list = matches!(schema::kind_of(at), Some(Kind::Names | Kind::Choices(_)));
        // A variable may hold a secret that got the wrong name; its own name is enough.
        let shown = value
            .filter(|_| !outside || (is_list && !self.interpolated.private.contains(at)))
            .map(|value| shorten(redact::value(at, value).to_string()));
        Violation::new(fault.rule, at, fault.message)
            .at(origin)
            .got(shown)
            .suggest(fault.suggestion)
    }

    fn report(&mut self, at: &str, fault: Fault, value: Option<&Value>) {
        let violation = self.violation(at, fault, value);
        self.problems.push(violation);
    }

    fn section(&mut self, at: &str, map: &mut Map<String, Value>) {
        for (key, value) in map.iter_mut() {
            let here = path::join(at, key);
            if here == COMPONENTS {
                if !value.is_object() {
                    self.report(
                        &here,
                        Fault::new("type", "must be a map of components"),
                        Some(value),
                    );
                }
            } else if let Some(named) = named::at(&here) {
                self.named(named, value);
            } else if let Some(known) = schema::find(&here) {
                self.value(&here, &known.kind, value);
            } else if schema::is_section(&here) {
                match value {
                    Value::Object(below) => self.section(&here, below),
                    other => self.report(&here, Fault::new("type", "must be a map"), Some(other)),
                }
            } else if !(at.is_empty() && !value.is_object() && self.interpolated.used.contains(key))
            {
                let names = schema::names_in(at);
                let fault = Fault::new("unknown_key", format!("unknown key `{key}`"));
                let near = did_you_mean(key, names.iter().copied());
                let suggestion = near.map(|near| path::join(at, near));
                let violation = self.violation(&here, fault, None).suggest(suggestion);
                self.lenient.push(violation);
            }
        }
    }

    fn named(&mut self, named: &'static Named, value: &mut Value) {
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        let Value::Object(sections) = value else {
            let fault = Fault::new("type", format!("must be a map of {}", named.many));
            return self.report(named.at, fault, Some(value));
        };
        for (name, section) in sections.iter_mut() {
            let here = path::join(named.at, name);
            if !schema::is_name(name) {
                let message =
                    format!("a {}'s name must be of letters, digits, `-` and `_`", named.one);
                self.report(&here, Fault::new("pattern", message), None);
            }
            self.below_name(named, &here, "", section);
        }
    }

    /// The section `below` the name at `at`.
    fn below_name(&mut self, named: &'static Named, at: &str, below: &str, value: &mut Value) {
        if value.is_null() {
            *value = Value::Object(Map::new()); // `retry:` with nothing below it
        }
        let Value::Object(map) = value else {
            let here = if below.is_empty() { at.to_owned() } else { path::join(at, below) };
            return self.report(&here, Fault::new("type", "must be a map"), Some(value));
        };
        for (name, value) in map.iter_mut() {
            let key = path::join(below, name);
            let here = path::join(at, &key);
            if let Some(known) = named.find(&key) {
                self.value(&here, &known.kind, value);
            } else if !named.names_in(&key).is_empty() {
                self.below_name(named, at, &key, value);
            } else {
                let fault = Fault::new("unknown_key", format!("unknown key `{name}`"));
                let near = did_you_mean(name, named.names_in(below));
                let suggestion = near.map(|near| path::join(at, &path::join(below, near)));
                let violation = self.violation(&here, fault, None).suggest(suggestion);
                self.lenient.push(violation);
            }
        }
    }

    fn value(&mut self, at: &str, kind: &Kind, value: &mut Value) {
        if let Value::String(text) = value
            && self.interpolated.texts.contains(at)
            && let Some(typed) = from_text(kind, text)
        {
            *value = typed;
        }
        if let Err(fault) = check(kind, value) {
            self.report(at, fault, Some(value));
        }
    }

    /// Without the defaults among the sources, every key must be said.
    fn required(&mut self, tree: &Map<String, Value>) {
        for key in schema::KEYS {
            let missing = super::layers::lookup(tree, key.path).is_none();
            // A section that is no map is a mistake of its own and has been reported.
            let blocked = path::upwards(key.path)
                .skip(1)
                .any(|at| super::layers::lookup(tree, at).is_some_and(|above| !above.is_object()));
            if missing && !blocked {
                let fault = Fault::new("required", "is required, and `defaults` is not a source");
                self.report(key.path, fault, None);
            }
        }
    }

    fn components(&mut self, tree: &mut Map<String, Value>) {
        let mut seen: HashMap<String, String> = HashMap::new();
        let mut faults = Vec::new();
        for place in components::places(tree) {
            if !schema::is_name(place.name) {
                let message = "a component's name must be of letters, digits, `-` and `_`";
                faults.push((place.path.clone(), Fault::new("pattern", message)));
            }
            if place.shape == Shape::Both {
                let message = "is a component (it has keys of its own) and a group (it holds \
                               components); move the components out or the keys into one of them";
                faults.push((place.path.clone(), Fault::new("cross_field", message)));
            }
            if let Some(first) = seen.insert(place.name.to_owned(), place.path.clone()) {
                let message = format!("the name `{}` is already used by `{first}`", place.name);
                faults.push((place.path.clone(), Fault::new("duplicate", message)));
            }
        }
        let sections = components::sections(tree);
        let paths: Vec<_> =
            sections.iter().map(|section| (section.path.clone(), section.map.is_some())).collect();
        for (at, is_map) in paths {
            if !is_map {
                let value = super::layers::lookup(tree, &at).cloned().unwrap_or_default();
                if !value.is_null() {
                    self.report(&at, Fault::new("type", "must be a map"), Some(&value));
                }
                continue;
            }
            for key in schema::COMPONENT_KEYS {
                let here = path::join(&at, key.path);
                let Some(mut value) = super::layers::lookup(tree, &here).cloned() else { continue };
                self.value(&here, &key.kind, &mut value);
                path::set(tree, &here, value);
            }
        }
        for (at, fault) in faults {
            self.report(&at, fault, None);
        }
    }

    fn initialization_order(&mut self, tree: &Map<String, Value>) {
        const AT: &str = "service_registry.initialization_order";
        let Some(order) = super::layers::lookup(tree, AT).and_then(Value::as_array) else { return };
        let places = components::places(tree);
        let below = COMPONENTS.len() + 1;
        let mut names: Vec<&str> = self.known.iter().map(String::as_str).collect();
        names.extend(places.iter().flat_map(|place| [place.name, &place.path[below..]]));
        let mut found = Vec::new();
        for name in order.iter().filter_map(Value::as_str).filter(|name| !names.contains(name)) {
            let message = format!("names `{name}`, which is no component and no group");
            let fault = Fault::new("cross_field", message);
            let suggestion = did_you_mean(name, names.iter().copied());
            found.push(self.violation(AT, fault, None).suggest(suggestion));
        }
        // A file without components is completed by the program, which then knows better.
        if names.is_empty() { self.lenient_only(found) } else { self.problems.extend(found) }
    }

    /// Whom `supervision` speaks of must be there.
    fn supervised(&mut self, tree: &Map<String, Value>) {
        let places = components::places(tree);
        let of = |group: bool| {
            let wanted = places.iter().filter(move |place| (place.shape == Shape::Group) == group);
            wanted.map(|place| place.name)
        };
        let groups: Vec<&str> = of(true).collect();
        let known: Vec<&str> = of(false).chain(self.known.iter().map(String::as_str)).collect();
        let mut found = Vec::new();
        for (at, one, names) in
            [(GROUPS, "group", &groups), (COMPONENTS_WATCHED, "component", &known)]
        {
            let Some(Value::Object(sections)) = super::layers::lookup(tree, at) else { continue };
            for name in sections.keys().filter(|name| !names.contains(&name.as_str())) {
                let mut said = format!("there is no {one} `{name}`");
                if names.is_empty() && at == GROUPS {
                    said.push_str("; a group is a section of `components` with its members below");
                }
                let fault = Fault::new("cross_field", said);
                let suggestion = did_you_mean(name, names.iter().copied());
                let here = path::join(at, name);
                let violation = self.violation(&here, fault, None).suggest(suggestion);
                found.push((known.is_empty(), violation));
            }
        }
        for (unsure, violation) in found {
            // A file without components is completed by the program, which then knows better.
            if unsure { self.lenient_only(vec![violation]) } else { self.problems.push(violation) }
        }
    }

    fn lenient_only(&mut self, found: Vec<Violation>) {
        self.lenient.extend(found.into_iter().map(|v| Violation { rule: "unchecked_name", ..v }));
    }

    fn connection(&mut self, tree: &Map<String, Value>) {
        const AT: &str = "event_bus.connection_string";
        let text = |at: &str| super::layers::lookup(tree, at).and_then(Value::as_str);
        let named = text("event_bus.implementation").unwrap_or_default();
        let Some(broker) = schema::BROKERS.iter().find(|broker| broker.name == named) else {
            return;
        };
        let schema::Broker { name: broker, schemes, example } = *broker;
        let Some(url) = text(AT) else { return };
        if url.trim().is_empty() {
            let message = format!(
                "is required when `event_bus.implementation` is `{broker}`, for example `{example}`"
            );
            // The line to mend is the one that asks for a broker, if nobody gave the string.
            let origin = self.merged.origin(AT).filter(|place| place.layer != Layer::Defaults);
            let origin = origin.or_else(|| self.merged.origin("event_bus.implementation"));
            return self.problems.push(Violation::new("cross_field", AT, message).at(origin));
        }
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !scheme.as_ref().is_some_and(|scheme| schemes.contains(&scheme.as_str())) {
            let wanted: Vec<_> = schemes.iter().map(|scheme| format!("`{scheme}://`")).collect();
            let (last, others) = wanted.split_last().expect("each broker has a scheme");
            let message = format!(
                "must start with {} or {last} because `event_bus.implementation` is \
                 `{broker}`",
                others.join(", ")
            );
            self.report(AT, Fault::new("cross_field", message), None);
        }
    }

    fn mandatory(&mut self, tree: &Map<String, Value>) {
        const AT: &str = "event_bus.mandatory";
        let set = super::layers::lookup(tree, AT);
        let broker = super::layers::lookup(tree, "event_bus.implementation");
        if set == Some(&Value::Bool(true)) && broker != Some(&Value::String("rabbitmq".into())) {
            let message = "needs `event_bus.implementation: rabbitmq`: no other transport knows \
                           whether anybody reads an event"
                .to_owned();
            self.report(AT, Fault::new("cross_field", message), set);
        }
    }

    fn delays(&mut self, tree: &Map<String, Value>) {
        const INITIAL: &str = "error_handling.retry.initial_delay";
        const MAX: &str = "error_handling.retry.max_delay";
        let delay = |at| duration_of(super::layers::lookup(tree, at)?, units::Unit::Milliseconds);
        if let (Some(initial), Some(max)) = (delay(INITIAL), delay(MAX))
            && initial > max
        {
            let message = format!("must not be shorter than `{INITIAL}`");
            let value = super::layers::lookup(tree, MAX);
            self.report(MAX, Fault::new("cross_field", message), value);
        }
    }

    fn leases(&mut self, tree: &Map<String, Value>) {
        const LEASE: &str = "service_registry.presence.lease";
        const INTERVAL: &str = "service_registry.presence.interval";
        let span = |at| duration_of(super::layers::lookup(tree, at)?, units::Unit::Seconds);
        if let (Some(lease), Some(interval)) = (span(LEASE), span(INTERVAL))
            && lease < interval.saturating_mul(2)
        {
            let message = format!(
                "must be at least twice `{INTERVAL}`, so that one announcement that is late ends \
                 nothing"
            );
            let value = super::layers::lookup(tree, LEASE);
            self.report(LEASE, Fault::new("cross_field", message), value);
        }
    }

    /// A value must reach the warning before the failure.
    fn health_limits(&mut self, tree: &Map<String, Value>) {
        let limits = schema::KEYS.iter().filter(|key| key.path.starts_with("health.limits."));
        for key in limits {
            let Some(path) = key.path.strip_suffix(".warn") else { continue };
            let number = |at: &str| {
                let value = super::layers::lookup(tree, at)?;
                match key.kind {
                    Kind::Duration(unit, _) => Some(duration_of(value, unit)?.as_secs_f64()),
                    _ => value.as_f64(),
                }
            };
            let other = format!("{path}.fail");
            if let (Some(warn), Some(fail)) = (number(key.path), number(&other))
                && fail > 0.0
                && warn > fail
            {
                let message = format!("must be at most `{other}`: a warning comes first");
                let value = super::layers::lookup(tree, key.path);
                self.report(key.path, Fault::new("cross_field", message), value);
            }
        }
    }
}

/// Errors are lines; a list of a thousand entries is none.
fn shorten(text: String) -> String {
    const MOST: usize = 120;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
