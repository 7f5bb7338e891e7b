//! What a component is to the registry: its hooks and what it says about itself.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::graph::Node;
use super::losses::{Loss, Return};
use super::supervision::{Overrides, RestartType};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::health::{Check, Verdict};

/// What a component says about itself before it does anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Descriptor {
    /// Unique in its registry.
    pub name: String,
    /// The groups it is in, those of the configuration excepted.
    pub groups: Vec<String>,
    /// Its version, for health.
    pub version: String,
    /// Hard dependencies, by name or group.
    pub depends_on: Vec<String>,
    /// Optional dependencies: missing or failed means degraded.
    pub wants: Vec<String>,
    /// Order only.
    pub after: Vec<String>,
    /// What others can look it up by.
    pub capabilities: Vec<String>,
    /// Its class and the classes that it is one of, as `module:Class`, for who looks it up from
    /// elsewhere.
    pub types: Vec<String>,
    /// When it is restarted; the configuration has the last word.
    pub restart: Option<RestartType>,
    /// What supervision does otherwise for it; the configuration has the last word.
    pub supervision: Overrides,
    /// What it does without a dependency, by the name of that or of its group. Unless said, it
    /// stops without a hard one and is degraded without an optional one.
    pub on_loss: BTreeMap<String, Loss>,
    /// When it counts on a dependency that is back.
    pub recover: Option<Return>,
}

impl Descriptor {
    /// A component without dependencies, version 1.0.0.
    pub fn new(name: impl Into<String>) -> Self {
        Descriptor { name: name.into(), version: "1.0.0".into(), ..Descriptor::default() }
    }

    pub(super) fn node(&self) -> Node {
        Node {
            name: self.name.clone(),
            groups: self.groups.clone(),
            depends_on: self.depends_on.clone(),
            wants: self.wants.clone(),
            after: self.after.clone(),
        }
    }
}

/// What a component is configured with.
#[derive(Clone, Debug)]
pub struct ComponentConfig {
    /// The component's own keys; an empty map when it has no section.
    pub value: Value,
    /// The whole configuration that these keys are from.
    pub snapshot: Config,
}

/// What a health check answers.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthAnswer {
    /// Pass, warn or fail.
    pub verdict: Verdict,
    /// Words for a person.
    pub message: Option<String>,
    /// What was measured; the check's limits judge it.
    pub value: Option<f64>,
    /// Named facts, for the health report.
    pub details: Map<String, Value>,
    /// Whether nobody wrote the check that answers: nothing was looked at.
    pub by_default: bool,
}

impl Default for HealthAnswer {
    fn default() -> Self {
        HealthAnswer::new(Verdict::Pass)
    }
}

impl HealthAnswer {
    /// An answer without words.
    pub fn new(verdict: Verdict) -> Self {
        HealthAnswer { verdict, message: None, value: None, details: Map::new(), by_default: false }
    }

    /// The answer of a component without a check of its own.
    pub fn by_default() -> Self {
        HealthAnswer { by_default: true, ..HealthAnswer::default() }
    }

    /// Adds words for a person.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

/// A part of the system with a life of its own.
///
/// Every hook is optional. A hook that returns an error fails the component, and so does one
/// that panics or outlasts `service_timeout`, when its future is dropped. [`Kind::NotReady`]
/// from `start` means "not yet": it is called again after a while.
pub trait Component: Send + Sync + 'static {
    /// Name, dependencies and the like; asked once, on registration.
    fn describe(&self) -> Descriptor;

    /// Prepares resources; called once per instance, before everything else.
    fn initialize(&self) -> BoxFuture<'_, Result<()>> {
        done()
    }

    /// Applies configuration: before each start, and in place while running.
    fn configure<'a>(&'a self, _config: &'a ComponentConfig) -> BoxFuture<'a, Result<()>> {
        done()
    }

    /// Begins work; returns when the component does its work.
    fn start(&self) -> BoxFuture<'_, Result<()>> {
        done()
    }

    /// Ends work; called exactly once for each start that was entered, failed ones too.
    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        done()
    }

    /// Reports health; an error counts as [`Verdict::Fail`].
    fn health_check(&self) -> BoxFuture<'_, Result<HealthAnswer>> {
        Box::pin(std::future::ready(Ok(HealthAnswer::by_default())))
    }

    /// Further checks, by definition; asked once, on registration.
    fn checks(&self) -> Vec<Check> {
        Vec::new()
    }

    /// Runs one of [`Component::checks`].
    fn run_check<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<HealthAnswer>> {
        let message = format!("there is no check `{name}`");
        Box::pin(std::future::ready(Err(Error::new(Kind::Internal, "run check", message))))
    }

    /// Hears that it has to do without `name` from now on, or can count on it again.
    fn dependency<'a>(&'a self, _name: &'a str, _lost: bool) -> BoxFuture<'a, Result<()>> {
        done()
    }

    /// Says whether it could live with `config`, and changes nothing.
    ///
    /// # Errors
    /// [`Kind::Configuration`], as a veto.
    fn validate(&self, _config: &Value) -> Result<()> {
        Ok(())
    }
}

fn done<'a>() -> BoxFuture<'a, Result<()>> {
    Box::pin(std::future::ready(Ok(())))
}
