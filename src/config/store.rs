//! The running configuration: numbered revisions, proposals, history, rollback.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;

use crate::error::{Category, Error, Kind, Result};

use super::loader::Loader;
use super::snapshot::Config;
use super::{path, redact};

/// Revisions that are kept.
const HISTORY: usize = 20;

/// One value that differs between two configurations.
#[derive(Clone, PartialEq)]
pub struct Change {
    /// Dotted path; a list changes as a whole.
    pub path: String,
    /// The value before, if there was one. Plain: may be a secret.
    pub old: Option<Value>,
    /// The value after, if there is one. Plain: may be a secret.
    pub new: Option<Value>,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| match value {
            Some(value) => redact::value(&self.path, value).to_string(),
            None => "nothing".to_owned(),
        };
        write!(f, "{}: {} -> {}", self.path, shown(&self.old), shown(&self.new))
    }
}

/// What one configuration changes in another; printing it shows no secret.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    changes: Vec<Change>,
}

impl Diff {
    /// The effective differences from `old` to `new`.
    pub fn between(old: &Config, new: &Config) -> Diff {
        let mut diff = Diff::default();
        diff.walk("", Some(old.tree()), Some(new.tree()));
        diff
    }

    /// Each value that differs.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The paths that differ.
    pub fn paths(&self) -> Vec<&str> {
        self.changes.iter().map(|change| change.path.as_str()).collect()
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether anything at or below `path` differs, or a section above it came or went.
    pub fn touches(&self, path: &str) -> bool {
        self.changes.iter().any(|change| {
            path::is_within(&change.path, path) || path::is_within(path, &change.path)
        })
    }

    fn walk(&mut self, at: &str, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                for (key, value) in old {
                    self.walk(&path::join(at, key), Some(value), new.get(key));
                }
                for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                    self.walk(&path::join(at, key), None, Some(value));
                }
            }
            (old, new) if old != new => self.changes.push(Change {
                path: at.to_owned(),
                old: old.cloned(),
                new: new.cloned(),
            }),
            _ => {}
        }
    }
}

/// Who makes a revision, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Time of day in Unix milliseconds.
    pub at_ms: i64,
    /// `start`, `file`, `api`, or the name of a person or component.
    pub author: String,
}

/// One entry of the history.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Its number, from 1, without gaps.
    pub id: u64,
    /// Who made it, and when.
    pub stamp: Stamp,
    /// The earlier revision whose content it has again.
    pub rollback_of: Option<u64>,
    /// The paths it changed.
    pub changed: Vec<String>,
    /// Its content.
    pub config: Config,
}

/// A valid configuration that is not in force yet.
#[derive(Clone, Debug)]
#[must_use = "a proposal changes nothing until it is committed"]
pub struct Proposal {
    base: u64,
    config: Config,
    diff: Diff,
    rollback_of: Option<u64>,
}

impl Proposal {
    /// What it would change.
    pub fn diff(&self) -> &Diff {
        &self.diff
    }

    /// The configuration it would put in force, under its future number.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// Holds the configuration in force; readers never wait.
///
/// A change is proposed, then committed, so that whoever is affected can be asked between the
/// two. Two proposals on the same revision: the first commit wins, the other must be renewed.
pub struct ConfigStore {
    current: ArcSwap<Config>,
    loader: Loader,
    history: Mutex<VecDeque<Revision>>,
}

impl fmt::Debug for ConfigStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigStore({:?})", self.current.load())
    }
}

impl ConfigStore {
    /// Loads the first revision.
    ///
    /// # Errors
    /// What [`Loader::load`] finds wrong.
    pub fn open(loader: Loader, stamp: Stamp) -> Result<ConfigStore> {
        let config = loader.load()?;
        let changed = Vec::new();
        let first = Revision { id: 1, stamp, rollback_of: None, changed, config: config.clone() };
        let current = ArcSwap::from_pointee(config);
        Ok(ConfigStore { current, loader, history: Mutex::new(VecDeque::from([first])) })
    }

    /// The configuration in force.
    pub fn current(&self) -> Config {
        Config::clone(&self.current.load())
    }

    /// Reads all sources again and says what would change.
    ///
    /// # Errors
    /// What [`Loader::load`] finds wrong; the running revision stays.
    pub fn reload(&self) -> Result<Proposal> {
        let current = self.current();
        self.load(current.overrides().to_vec(), &current)
    }

    /// Says what setting these paths would change, all together, above every other source.
    ///
    /// # Errors
    /// What [`Loader::load`] finds wrong with the result; the running revision stays.
    pub fn propose(&self, overrides: &[(String, Value)]) -> Result<Proposal> {
        let current = self.current();
        let mut loader = self.loader.with_overrides(current.overrides().to_vec());
        for (path, value) in overrides {
            if path.split('.').any(str::is_empty) {
                let message = format!("`{path}` is not a path such as `event_bus.max_retry`");
                return Err(
                    Error::new(Kind::Configuration, "propose", message).with("path", path.clone())
                );
            }
            loader = loader.overriding(path.clone(), value.clone());
        }
        self.load(loader.overrides().to_vec(), &current)
    }

    /// Says what going back to revision `id` would change.
    ///
    /// # Errors
    /// The revision is not, or no longer, in the history.
    pub fn propose_rollback(&self, id: u64) -> Result<Proposal> {
        let history = self.history.lock();
        let Some(old) = history.iter().find(|revision| revision.id == id) else {
            let oldest = history.front().map_or(0, |revision| revision.id);
            let message = format!(
                "there is no revision {id}; the history has {oldest} to {}",
                history.back().map_or(0, |revision| revision.id)
            );
            return Err(Error::new(Kind::Configuration, "rollback", message)
                .with("revision", id.to_string()));
        };
        let old = old.config.clone();
        drop(history);
        Ok(self.proposal(old, &self.current(), Some(id)))
    }

    /// Goes back to the content of revision `id`, as a new revision.
    ///
    /// # Errors
    /// The revision is not in the history, or somebody else committed meanwhile.
    pub fn rollback(&self, id: u64, stamp: Stamp) -> Result<Config> {
        self.commit(self.propose_rollback(id)?, stamp)
    }

    /// Puts a proposal in force. One that changes nothing makes no revision.
    ///
    /// # Errors
    /// Another revision came in force since it was proposed (transient: propose again).
    pub fn commit(&self, proposal: Proposal, stamp: Stamp) -> Result<Config> {
        let mut history = self.history.lock();
        let current = self.current();
        if current.revision() != proposal.base {
            let message = format!(
                "revision {} came in force after this change was proposed on revision {}; \
                 propose it again",
                current.revision(),
                proposal.base
            );
            return Err(Error::new(Kind::Configuration, "commit", message)
                .with_category(Category::Transient));
        }
        if proposal.diff.is_empty() {
            return Ok(current);
        }
        history.push_back(Revision {
            id: proposal.config.revision(),
            stamp,
            rollback_of: proposal.rollback_of,
            changed: proposal.diff.paths().into_iter().map(str::to_owned).collect(),
            config: proposal.config.clone(),
        });
        while history.len() > HISTORY {
            history.pop_front();
        }
        self.current.store(Arc::new(proposal.config.clone()));
        Ok(proposal.config)
    }

    /// The last 20 revisions, oldest first.
    pub fn history(&self) -> Vec<Revision> {
        self.history.lock().iter().cloned().collect()
    }

    fn load(&self, overrides: Vec<(String, Value)>, current: &Config) -> Result<Proposal> {
        let config = self.loader.with_overrides(overrides).load()?;
        Ok(self.proposal(config, current, None))
    }

    fn proposal(&self, config: Config, current: &Config, rollback_of: Option<u64>) -> Proposal {
        let base = current.revision();
        let diff = Diff::between(current, &config);
        Proposal { base, config: config.numbered(base + 1), diff, rollback_of }
    }
}
