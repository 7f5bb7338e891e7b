//! Sources on top of each other: figment merges and remembers who won, this file adds the
//! line, the order of the keys and the values that lost.

use std::collections::HashMap;
use std::path::PathBuf;

use figment::value::{Dict, Empty, Map as FigmentMap, Num, Tag, Value as Figure};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::{Map, Number, Value};

use super::origin::{Layer, Origin};
use super::schema::{self, COMPONENTS};
use super::{path, redact};

/// Everything one source says.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) layer: Layer,
    /// The file as it was named.
    pub(super) file: Option<String>,
    /// Where its `config_file`s are looked for.
    pub(super) directory: Option<PathBuf>,
    pub(super) tree: Map<String, Value>,
    /// Line of each path, for files.
    pub(super) lines: HashMap<String, u32>,
    /// Variable or option of each path, for the environment and the command line.
    pub(super) names: HashMap<String, String>,
}

impl Source {
    pub(super) fn new(layer: Layer) -> Self {
        Source {
            layer,
            file: None,
            directory: None,
            tree: Map::new(),
            lines: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// Where `path`, or else the nearest thing above or below it, is said.
    pub(super) fn origin(&self, at: &str) -> Origin {
        let mut origin = Origin { file: self.file.clone(), ..Origin::new(self.layer) };
        origin.line = path::upwards(at).find_map(|here| self.lines.get(here).copied());
        let below = || self.names.iter().find(|(key, _)| path::is_within(key, at));
        let name = path::upwards(at)
            .find_map(|here| self.names.get(here))
            .or_else(|| below().map(|(_, name)| name))
            .cloned();
        match self.layer {
            Layer::Environment => origin.variable = name,
            Layer::CommandLine => origin.option = name,
            _ => {}
        }
        origin
    }
}

/// Figment asks a source for its values and its name; the name is the position in the list.
struct Numbered<'a>(usize, &'a Source);

impl Provider for Numbered<'_> {
    fn metadata(&self) -> Metadata {
        let place = figment::Source::Custom(self.0.to_string());
        Metadata::from(self.1.layer.as_str(), place)
    }

    fn data(&self) -> Result<FigmentMap<Profile, Dict>, figment::Error> {
        let dict = self.1.tree.iter().map(|(key, value)| (key.clone(), to_figment(value)));
        Ok(FigmentMap::from([(Profile::Default, dict.collect())]))
    }
}

/// All sources as one tree, with the source of each value.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    pub(super) tree: Map<String, Value>,
    /// Weakest first.
    pub(super) sources: Vec<Source>,
    winners: HashMap<String, usize>,
}

/// Merges `sources`, weakest first.
pub(super) fn merge(sources: Vec<Source>) -> Merged {
    let mut figment = Figment::new();
    for (position, source) in sources.iter().enumerate() {
        figment = figment.merge(Numbered(position, source));
    }
    // No source can fail: each has its values already.
    let dict = figment.data().ok().and_then(|mut data| data.remove(&Profile::Default));
    let mut winners = HashMap::new();
    let order: Vec<_> = sources.iter().map(|source| &source.tree).collect();
    let position = |tag: Tag| -> Option<usize> {
        figment.get_metadata(tag)?.source.as_ref()?.custom()?.parse().ok()
    };
    let tree = arrange(dict.unwrap_or_default(), &order, "", &position, &mut winners);
    Merged { tree, sources, winners }
}

/// Figment sorts keys; people expect the order in which they wrote them.
fn arrange(
    mut dict: Dict,
    order: &[&Map<String, Value>],
    at: &str,
    position: &impl Fn(Tag) -> Option<usize>,
    winners: &mut HashMap<String, usize>,
) -> Map<String, Value> {
    let mut map = Map::new();
    for key in order.iter().flat_map(|tree| tree.keys()) {
        let Some(value) = dict.remove(key) else { continue };
        let here = path::join(at, key);
        if let Some(winner) = position(value.tag()) {
            winners.insert(here.clone(), winner);
        }
        let value = match value {
            Figure::Dict(_, below) => {
                let order: Vec<_> =
                    order.iter().filter_map(|tree| tree.get(key)?.as_object()).collect();
                Value::Object(arrange(below, &order, &here, position, winners))
            }
            other => figment_to_json(&other),
        };
        map.insert(key.clone(), value);
    }
    map
}

impl Merged {
    /// The source that decided `path`, or the section above it.
    pub(super) fn winner(&self, at: &str) -> Option<&Source> {
        let position = path::upwards(at).find_map(|here| self.winners.get(here))?;
        self.sources.get(*position)
    }

    /// The place to name when something is wrong at `path`.
    ///
    /// A missing key has no place of its own; the strongest source of the section above does.
    pub(super) fn origin(&self, at: &str) -> Option<Origin> {
        path::upwards(at).find_map(|here| {
            let mut strongest_first = self.sources.iter().rev();
            let source = strongest_first.find(|source| lookup(&source.tree, here).is_some())?;
            Some(source.origin(here))
        })
    }

    /// Every source that says something at `path`, strongest first.
    pub(super) fn origins(&self, at: &str) -> Vec<Origin> {
        let mut found = Vec::new();
        for source in self.sources.iter().rev() {
            if let Some(value) = lookup(&source.tree, at) {
                found.push(Origin { raw: redact::value(at, value), ..source.origin(at) });
            }
        }
        found
    }
}

/// [`path::get`] from a map.
pub(super) fn lookup<'a>(tree: &'a Map<String, Value>, at: &str) -> Option<&'a Value> {
    if let Some(found) = tree.get(at) {
        return Some(found);
    }
    at.match_indices('.').find_map(|(dot, _)| path::get(tree.get(&at[..dot])?, &at[dot + 1..]))
}

/// `health:` with every key commented out says nothing; it does not delete the section.
pub(super) fn drop_empty_sections(tree: &mut Map<String, Value>) {
    fn walk(map: &mut Map<String, Value>, at: &str) {
        map.retain(|key, value| {
            let here = path::join(at, key);
            if let Value::Object(below) = value {
                walk(below, &here);
            }
            !(value.is_null() && schema::is_section(&here))
        });
    }
    walk(tree, "");
    if let Some(Value::Object(components)) = tree.get_mut(COMPONENTS) {
        for value in components.values_mut().filter(|value| value.is_null()) {
            *value = Value::Object(Map::new());
        }
    }
}

/// The sources in use, strongest first; a list that is wrong is reported by validation.
pub(super) fn in_use(order: Option<&Value>) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for name in order.and_then(Value::as_array).into_iter().flatten() {
        match name.as_str().filter(|name| schema::SOURCES.contains(name)) {
            Some(name) if !names.contains(&name) => names.push(name),
            _ => return schema::SOURCES.to_vec(),
        }
    }
    if order.is_some_and(Value::is_array) { names } else { schema::SOURCES.to_vec() }
}

fn to_figment(value: &Value) -> Figure {
    let tag = Tag::Default;
    match value {
        Value::Null => Figure::Empty(tag, Empty::Unit),
        Value::Bool(flag) => Figure::Bool(tag, *flag),
        Value::String(text) => Figure::String(tag, text.clone()),
        Value::Number(number) => Figure::Num(
            tag,
            match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Num::I64(number),
                (None, Some(number)) => Num::U64(number),
                (None, None) => Num::F64(number.as_f64().unwrap_or_default()),
            },
        ),
        Value::Array(items) => Figure::Array(tag, items.iter().map(to_figment).collect()),
        Value::Object(map) => Figure::Dict(
            tag,
            map.iter().map(|(key, value)| (key.clone(), to_figment(value))).collect(),
        ),
    }
}

pub(super) fn figment_to_json(value: &Figure) -> Value {
    match value {
        Figure::String(_, text) => text.as_str().into(),
        Figure::Char(_, letter) => letter.to_string().into(),
        Figure::Bool(_, flag) => (*flag).into(),
        Figure::Num(_, number) => {
            let whole = number.to_i128().or_else(|| number.to_u128()?.try_into().ok());
            let signed = whole.and_then(|number| i64::try_from(number).ok()).map(Number::from);
            let unsigned = || whole.and_then(|n| u64::try_from(n).ok()).map(Number::from);
            let float = || number.to_f64().and_then(Number::from_f64);
            signed.or_else(unsigned).or_else(float).map_or(Value::Null, Value::Number)
        }
        Figure::Empty(..) => Value::Null,
        Figure::Dict(_, map) => Value::Object(
            map.iter().map(|(key, value)| (key.clone(), figment_to_json(value))).collect(),
        ),
        Figure::Array(_, items) => items.iter().map(figment_to_json).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source(layer: Layer, tree: Value) -> Source {
        let Value::Object(tree) = tree else { panic!("a source is a map") };
        Source { tree, ..Source::new(layer) }
    }

    #[test]
    fn maps_merge_lists_replace_and_the_winner_is_known() {
        let merged = merge(vec![
            source(Layer::Defaults, json!({"z": {"b": 1, "a": [1, 2]}, "y": 1.5})),
            source(Layer::MainFile, json!({"z": {"a": [3]}, "x": u64::MAX})),
            source(Layer::CommandLine, json!({"z": {"c": null}})),
        ]);
        let expected = json!({"z": {"b": 1, "a": [3], "c": null}, "y": 1.5, "x": u64::MAX});
        assert_eq!(Value::Object(merged.tree.clone()), expected);
        let keys: Vec<_> = merged.tree.keys().collect();
        assert_eq!(keys, ["z", "y", "x"], "the order of the sources");
        for (path, layer) in [
            ("z.b", Layer::Defaults),
            ("z.a", Layer::MainFile),
            ("z.a.0", Layer::MainFile),
            ("z.c", Layer::CommandLine),
        ] {
            assert_eq!(merged.winner(path).map(|source| source.layer), Some(layer), "{path}");
        }
        let layers: Vec<_> = merged.origins("z.a").iter().map(|origin| origin.layer).collect();
        assert_eq!(layers, [Layer::MainFile, Layer::Defaults]);
    }
}
