//! The registry itself: who is in it, and who finds whom.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value};

use super::component::{Component, ComponentConfig};
use super::graph::{Node, Rules, StartPlan};
use super::presence::Others;
use super::slot::Slot;
use super::supervision::{Policy, RestartType, Supervisor};
use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::{BusImplementation, Config, Settings};
use crate::error::{Error, Kind, Result, did_you_mean};

/// What runs background work: restarts, health checks.
///
/// The work waits by the core's clock alone, so that any executor will do.
pub trait Spawn: Send + Sync {
    /// Runs `work` to its end, sometime.
    fn spawn(&self, work: BoxFuture<'static, ()>);

    /// Where connections to other processes are served, if anywhere.
    fn runtime(&self) -> Option<tokio::runtime::Handle> {
        None
    }
}

/// What a registry goes by.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Order, and what is switched off.
    pub rules: Rules,
    /// The longest run of one hook; also of a component's whole stop.
    pub service_timeout: Duration,
    /// The longest stop of everything.
    pub shutdown_timeout: Duration,
    /// Who restarts when, and how often.
    pub supervision: Policy,
    /// Fixes the spread of waits between restarts.
    pub seed: u64,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        RegistryOptions::from_settings(&Settings::default())
    }
}

impl RegistryOptions {
    /// What the sections `service_registry` and `health` say.
    pub fn from_settings(settings: &Settings) -> Self {
        let registry = &settings.service_registry;
        RegistryOptions {
            rules: Rules {
                initialization_order: registry.initialization_order.clone(),
                disabled: Vec::new(),
                elsewhere: Vec::new(),
                unreachable: unreachable(settings),
                dependency_resolution: registry.dependency_resolution,
            },
            service_timeout: registry.service_timeout,
            shutdown_timeout: registry.shutdown_timeout,
            supervision: Policy {
                intensity: settings.health.recovery_attempts,
                // Nobody comes back from giving up by itself: that is for a person to decide.
                escalates: true,
                ..Policy::default()
            },
            seed: 0,
        }
    }

    /// What `config` says, with the components and groups that it switches off.
    pub fn from_config(config: &Config) -> Self {
        let mut options = RegistryOptions::from_settings(config.settings());
        let (on, off): (Vec<_>, Vec<_>) = config.components().iter().partition(|c| c.enabled);
        let on: Vec<&String> = on.iter().flat_map(|c| &c.group).collect();
        for component in off {
            options.rules.disabled.push(component.name.clone());
            let groups = component.group.iter().filter(|group| !on.contains(group));
            options.rules.disabled.extend(groups.cloned());
        }
        for component in config.components() {
            let path = format!("{}.restart", component.path);
            if let Some(restart) = config.get(&path).and_then(Value::as_str).and_then(restart_type)
            {
                options.supervision.restart_of.insert(component.name.clone(), restart);
            }
        }
        options
    }
}

/// Why nothing is known of other processes, and what to do about that.
fn unreachable(settings: &Settings) -> Option<String> {
    if settings.event_bus.implementation == BusImplementation::InMemory {
        return Some(
            "`event_bus.implementation: in_memory` reaches no other process: set it to redis or \
             rabbitmq"
                .into(),
        );
    }
    let said = "`service_registry.auto_discovery: false` leaves out what other processes announce: \
                set it to true";
    (!settings.service_registry.auto_discovery).then(|| said.into())
}

fn restart_type(name: &str) -> Option<RestartType> {
    serde_json::from_value(Value::from(name)).ok()
}

/// A registry; clones are handles to the same one.
#[derive(Clone)]
pub struct Registry(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) bus: Bus,
    pub(super) clock: Clock,
    pub(super) spawner: Arc<dyn Spawn>,
    pub(super) options: RegistryOptions,
    pub(super) config: RwLock<Config>,
    slots: RwLock<IndexMap<String, Arc<Slot>>>,
    plan: Mutex<Option<Arc<StartPlan>>>,
    /// What runs in other processes, as far as it is announced.
    pub(super) others: Others,
    pub(super) supervisors: Mutex<HashMap<String, Arc<Mutex<Supervisor>>>>,
    /// While everything stops, nothing starts.
    pub(super) closing: AtomicBool,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.0.slots.read().values()).finish()
    }
}

impl Registry {
    /// A registry without components, which tells what happens on `bus`.
    pub fn new(
        bus: Bus,
        config: Config,
        options: RegistryOptions,
        spawner: Arc<dyn Spawn>,
    ) -> Registry {
        Registry(Arc::new(Inner {
            clock: bus.clock().clone(),
            bus,
            spawner,
            options,
            config: RwLock::new(config),
            slots: RwLock::default(),
            plan: Mutex::default(),
            others: Others::default(),
            supervisors: Mutex::default(),
            closing: AtomicBool::new(false),
        }))
    }

    /// The bus it tells on.
    pub fn bus(&self) -> &Bus {
        &self.0.bus
    }

    /// What it goes by.
    pub fn options(&self) -> &RegistryOptions {
        &self.0.options
    }

    /// What other processes announce.
    pub fn others(&self) -> &Others {
        &self.0.others
    }

    /// Adds a component, as [`State::Initialized`](crate::lifecycle::State).
    ///
    /// # Errors
    /// [`Kind::Configuration`] without a name, and when the name is taken.
    pub fn register(&self, component: Arc<dyn Component>) -> Result<Arc<Slot>> {
        let mut descriptor = component.describe();
        let invalid = |message| Err(Error::new(Kind::Configuration, "register", message));
        if descriptor.name.is_empty() {
            return invalid("a component needs a name".to_owned());
        }
        for entry in self.0.config.read().components() {
            if entry.name == descriptor.name {
                let new = entry.group.iter().filter(|group| !descriptor.groups.contains(group));
                let new: Vec<String> = new.cloned().collect();
                descriptor.groups.extend(new);
            }
        }
        let mut slots = self.0.slots.write();
        if slots.contains_key(&descriptor.name) {
            return invalid(format!("there is a component `{}` already", descriptor.name));
        }
        let name = descriptor.name.clone();
        let (clock, bus) = (self.0.clock.clone(), self.0.bus.downgrade());
        let slot = Arc::new(Slot::new(component, descriptor, clock, bus));
        slots.insert(name, slot.clone());
        drop(slots);
        *self.0.plan.lock() = None;
        Ok(slot)
    }

    /// Takes a component out that is not at work; what depended on it will miss it.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown name, [`Kind::Lifecycle`] while it is at work.
    pub fn unregister(&self, name: &str) -> Result<Arc<Slot>> {
        let slot = self.get(name)?;
        if slot.with(|known| known.start_entered) {
            let message = format!("`{name}` is {}; stop it first", slot.state());
            return Err(Error::new(Kind::Lifecycle, "unregister", message));
        }
        self.0.slots.write().shift_remove(name);
        self.0.supervisors.lock().remove(name);
        *self.0.plan.lock() = None;
        Ok(slot)
    }

    /// The component of this name.
    ///
    /// # Errors
    /// [`Kind::Configuration`] with a suggestion.
    pub fn get(&self, name: &str) -> Result<Arc<Slot>> {
        let slots = self.0.slots.read();
        slots.get(name).cloned().ok_or_else(|| {
            let hint = did_you_mean(name, slots.keys().map(String::as_str))
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            let message = format!("there is no component `{name}`{hint}");
            Error::new(Kind::Configuration, "look up a component", message).with("component", name)
        })
    }

    /// Those that offer `capability`, in the order of registration; only operational ones,
    /// running before degraded, unless `unhealthy` ones are asked for too.
    pub fn by_capability(&self, capability: &str, unhealthy: bool) -> Vec<Arc<Slot>> {
        use crate::lifecycle::State;
        let mut found = self.slots();
        found.retain(|slot| {
            let offered = slot.descriptor().capabilities.iter().any(|own| own == capability);
            offered && (unhealthy || slot.state().is_operational())
        });
        found.sort_by_key(|slot| slot.state() != State::Running);
        found
    }

    /// Every component, in the order of registration.
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.0.slots.read().values().cloned().collect()
    }

    /// Who starts after whom.
    ///
    /// # Errors
    /// As [`StartPlan::resolve`].
    pub fn plan(&self) -> Result<Arc<StartPlan>> {
        if let Some(plan) = &*self.0.plan.lock() {
            return Ok(plan.clone());
        }
        let nodes: Vec<Node> = self.slots().iter().map(|slot| slot.descriptor().node()).collect();
        let plan = Arc::new(StartPlan::resolve(&nodes, &self.0.options.rules)?);
        *self.0.plan.lock() = Some(plan.clone());
        Ok(plan)
    }

    /// The configuration that components get from now on.
    pub fn set_config(&self, config: Config) {
        *self.0.config.write() = config;
    }

    /// Asks every component whose own keys differ in `config` whether it could live with them.
    ///
    /// # Errors
    /// Of the first component that could not, its veto.
    pub fn validate(&self, config: &Config) -> Result<()> {
        for slot in self.slots() {
            let new = config_in(config, slot.name());
            if new.value == self.config_of(slot.name()).value {
                continue;
            }
            let asked = catch_unwind(AssertUnwindSafe(|| slot.component().validate(&new.value)));
            let answer = asked.unwrap_or_else(|_| {
                let message = format!("`{}` panicked while it validated", slot.name());
                Err(Error::new(Kind::Internal, "validate", message))
            });
            answer.map_err(|veto| veto.with("component", slot.name()))?;
        }
        Ok(())
    }

    /// What the component of this name is configured with.
    pub fn config_of(&self, name: &str) -> ComponentConfig {
        config_in(&self.0.config.read(), name)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Acquire)
    }
}

fn config_in(config: &Config, name: &str) -> ComponentConfig {
    let entry = config.components().iter().find(|entry| entry.name == name);
    let value = entry.map_or_else(|| Value::Object(Map::new()), |entry| entry.config.clone());
    ComponentConfig { value, snapshot: config.clone() }
}
