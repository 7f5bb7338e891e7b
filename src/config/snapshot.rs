//! One consistent configuration that never changes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::error::Result;

use super::components::{self, ComponentEntry};
use super::layers::{Merged, lookup};
use super::named::{self, NamedSection};
use super::origin::Explanation;
use super::policies::POLICIES;
use super::settings::Settings;
use super::violation::{self, Violation};
use super::{path, redact};

/// An immutable snapshot; clones share it.
///
/// `Debug` is redacted. [`Config::get`] and [`Config::section`] give plain values.
#[derive(Clone)]
pub struct Config {
    inner: Arc<Inner>,
    revision: u64,
}

struct Inner {
    tree: Value,
    settings: Settings,
    components: Vec<ComponentEntry>,
    merged: Merged,
    warnings: Vec<Violation>,
    files: Vec<PathBuf>,
    overrides: Vec<(String, Value)>,
    digest: String,
}

/// What the loader found beside the values.
pub(super) struct Findings {
    pub(super) warnings: Vec<Violation>,
    pub(super) files: Vec<PathBuf>,
    pub(super) overrides: Vec<(String, Value)>,
}

impl Config {
    /// The snapshot of a merged and validated tree, as revision 1.
    pub(super) fn new(merged: Merged, found: Findings) -> Result<Config> {
        let settings = Settings::from_tree(&merged.tree).map_err(|error| {
            let problem = Violation::new("type", "", "the settings cannot be read");
            violation::error("load", vec![problem]).with("cause", error.to_string())
        })?;
        let components = components::entries(&merged.tree);
        let tree = Value::Object(merged.tree.clone());
        let digest = digest(&tree);
        let Findings { warnings, files, overrides } = found;
        let inner =
            Inner { tree, settings, components, merged, warnings, files, overrides, digest };
        Ok(Config { inner: Arc::new(inner), revision: 1 })
    }

    /// The same content under another number.
    pub(super) fn numbered(&self, revision: u64) -> Config {
        Config { inner: self.inner.clone(), revision }
    }

    /// The value at a dotted path; numbers index lists. Plain: may be a secret.
    pub fn get(&self, path: &str) -> Option<&Value> {
        path::get(&self.inner.tree, path)
    }

    /// The section at a dotted path; none if there is none or it is a single value.
    pub fn section(&self, path: &str) -> Option<&serde_json::Map<String, Value>> {
        self.get(path)?.as_object()
    }

    /// The framework's own keys, typed.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Every component, disabled ones too, in the order in which they are declared.
    pub fn components(&self) -> &[ComponentEntry] {
        &self.inner.components
    }

    /// The named policies, in the order of declaration.
    pub fn policies(&self) -> Vec<NamedSection> {
        self.named(POLICIES)
    }

    /// What is said below each name of the section at `path`, in the order of declaration; none
    /// if it is no such section.
    pub fn named(&self, path: &str) -> Vec<NamedSection> {
        named::at(path).map(|named| named.sections(&self.inner.merged.tree)).unwrap_or_default()
    }

    /// The value at `path` and every source that has it, strongest first; none if nobody does.
    pub fn explain(&self, path: &str) -> Option<Explanation> {
        let value = redact::value(path, self.get(path)?);
        Some(Explanation { path: path.to_owned(), value, origins: self.inner.merged.origins(path) })
    }

    /// The number of this revision, from 1.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Identifies the content: equal for equal values, whatever the order of keys.
    ///
    /// Not cryptographic: it finds changes, it proves nothing.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// What is doubtful but no error: unknown keys when `validation_strict` is false.
    pub fn warnings(&self) -> &[Violation] {
        &self.inner.warnings
    }

    /// Every file that was read, and overlays that may appear: what to watch.
    pub fn files(&self) -> &[PathBuf] {
        &self.inner.files
    }

    /// The whole tree without secrets.
    pub fn to_redacted_json(&self) -> Value {
        redact::value("", &self.inner.tree)
    }

    pub(super) fn tree(&self) -> &Value {
        &self.inner.tree
    }

    pub(super) fn overrides(&self) -> &[(String, Value)] {
        &self.inner.overrides
    }

    /// Where the value at `path`, or the section above it, is written: `config/a.yaml:3`.
    pub fn place(&self, path: &str) -> Option<String> {
        lookup(&self.inner.merged.tree, path)?;
        self.inner.merged.origin(path).map(|origin| origin.to_string())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config(revision {}, {})", self.revision, self.to_redacted_json())
    }
}

/// FNV-1a over the values with sorted keys.
fn digest(tree: &Value) -> String {
    fn eat(hash: &mut u128, bytes: &[u8]) {
        for byte in bytes {
            *hash = (*hash ^ u128::from(*byte)).wrapping_mul(0x0000000001000000000000000000013B);
        }
    }
    fn walk(hash: &mut u128, value: &Value) {
        match value {
            Value::Object(map) => {
                eat(hash, b"{");
                let mut keys: Vec<_> = map.iter().collect();
                keys.sort_by_key(|(key, _)| key.as_str());
                for (key, value) in keys {
                    walk(hash, &Value::String(key.clone()));
                    walk(hash, value);
                }
                eat(hash, b"}");
            }
            Value::Array(items) => {
                eat(hash, b"[");
                items.iter().for_each(|item| walk(hash, item));
                eat(hash, b"]");
            }
            scalar => {
                eat(hash, scalar.to_string().as_bytes());
                eat(hash, b",");
            }
        }
    }
    let mut hash = 0x6c62272e07bb014262b821756295c58d;
    walk(&mut hash, tree);
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_digest_sees_values_and_not_the_order_of_keys() {
        let one = digest(&json!({"a": 1, "b": [1, 2]}));
        assert_eq!(one, digest(&json!({"b": [1, 2], "a": 1})));
        for other in [json!({"a": 1, "b": [2, 1]}), json!({"a": "1", "b": [1, 2]}), json!({})] {
            assert_ne!(one, digest(&other));
        }
    }
}
