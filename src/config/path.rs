//! Dotted paths into a tree of values: `event_bus.max_retry`, `configuration.sources.0`.

use serde_json::{Map, Value};

/// `parent.key`, or `key` at the root.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// The path itself, then every section above it, nearest first.
pub(super) fn upwards(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |here| here.rsplit_once('.').map(|(parent, _)| parent))
}

/// Whether `path` is `prefix` or lies below it.
pub(super) fn is_within(path: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The value at `path`; numbers index lists. A key that itself contains dots is found too.
pub(super) fn get<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(tree);
    }
    match tree {
        Value::Object(map) => {
            if let Some(found) = map.get(path) {
                return Some(found);
            }
            let dots = path.match_indices('.');
            dots.filter_map(|(dot, _)| get(map.get(&path[..dot])?, &path[dot + 1..])).next()
        }
        Value::Array(items) => {
            let (head, rest) = path.split_once('.').unwrap_or((path, ""));
            get(items.get(head.parse::<usize>().ok()?)?, rest)
        }
        _ => None,
    }
}

/// Puts `value` at `path`, making maps on the way and replacing what is no map.
pub(super) fn set(tree: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            tree.insert(path.to_owned(), value);
        }
        Some((head, rest)) => {
            let below = tree.entry(head).or_insert_with(|| Value::Object(Map::new()));
            if !below.is_object() {
                *below = Value::Object(Map::new());
            }
            if let Value::Object(below) = below {
                set(below, rest, value);
            }
        }
    }
}

/// Merges `over` into `under`: maps merge, everything else replaces.
pub(super) fn merge(under: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_reach_maps_lists_and_keys_with_dots() {
        let tree = json!({"a": {"b": [1, {"c": 2}], "x.y": 3}});
        assert_eq!(get(&tree, "a.b.1.c"), Some(&json!(2)));
        assert_eq!(get(&tree, "a.x.y"), Some(&json!(3)));
        assert_eq!(get(&tree, "a.b.7"), None);
        assert_eq!(get(&tree, "a.b.1.c.d"), None);
    }

    #[test]
    fn set_makes_the_way_and_merge_keeps_what_is_beside() {
        let mut tree = Map::new();
        set(&mut tree, "a.b", json!(1));
        let Value::Object(over) = json!({"a": {"c": [2]}}) else { unreachable!() };
        merge(&mut tree, over);
        assert_eq!(Value::Object(tree), json!({"a": {"b": 1, "c": [2]}}));
    }

    #[test]
    fn within_means_whole_segments() {
        assert!(is_within("event_bus.batch_size", "event_bus"));
        assert!(!is_within("event_bus_2", "event_bus"));
    }
}
