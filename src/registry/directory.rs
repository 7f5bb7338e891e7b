//! The registry itself: who is in it, and who finds whom.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::component::{Component, ComponentConfig, Descriptor};
use super::graph::{Node, Rules, StartPlan};
use super::losses::{Loss, Return};
use super::presence::Others;
use super::record::{CONFIGURATION, Id, Record, What};
use super::slot::Slot;
use super::supervise::Desks;
use super::supervision::{Overrides, Policy, RestartType, Strategy, Wait};
use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::{self, BusImplementation, Config, Diff, Settings};
use crate::error::{Error, Kind, Result, did_you_mean};
use crate::resilience::CircuitBreaker;

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
    /// The groups whose members fail together, with what is otherwise for them.
    pub groups: HashMap<String, Overrides>,
    /// What the configuration says of single components.
    pub components: HashMap<String, Special>,
    /// When a dependency that is back counts again.
    pub recover: Return,
    /// Fixes the spread of waits between restarts.
    pub seed: u64,
}

/// What the configuration says of a single component, beside its restart type.
#[derive(Clone, Debug, Default)]
pub struct Special {
    /// What supervision does otherwise for it.
    pub supervision: Overrides,
    /// What it does without a dependency.
    pub on_loss: BTreeMap<String, Loss>,
    /// How long a dependency must be back until it counts.
    pub after: Option<Duration>,
    /// How many health checks in a row that must have passed.
    pub passes: Option<u32>,
}

impl Special {
    /// From the options of its section, with durations in seconds.
    pub fn from_options(said: &Map<String, Value>) -> Special {
        let losses = said.get("on_loss").and_then(Value::as_object);
        let loss = |(name, word): (&String, &Value)| {
            Some((name.clone(), serde_json::from_value(word.clone()).ok()?))
        };
        Special {
            supervision: Overrides::from_options(said),
            on_loss: losses.into_iter().flatten().filter_map(loss).collect(),
            after: said
                .get("recover_after")
                .and_then(Value::as_f64)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            passes: said
                .get("recover_passes")
                .and_then(Value::as_u64)
                .map(|passes| u32::try_from(passes).unwrap_or(u32::MAX)),
        }
    }

    /// When a dependency that is back counts again, where `usual` says the rest.
    pub fn recover(&self, usual: Return) -> Return {
        Return {
            after: self.after.unwrap_or(usual.after),
            passes: self.passes.unwrap_or(usual.passes),
        }
    }
}

impl Default for RegistryOptions {
    fn default() -> Self {
        RegistryOptions::from_settings(&Settings::default())
    }
}

impl RegistryOptions {
    /// What the sections `service_registry`, `supervision` and `health` say.
    pub fn from_settings(settings: &Settings) -> Self {
        let (registry, supervision) = (&settings.service_registry, &settings.supervision);
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
                strategy: match supervision.strategy {
                    config::Strategy::OneForOne => Strategy::OneForOne,
                    config::Strategy::RestForOne => Strategy::RestForOne,
                    config::Strategy::OneForAll => Strategy::OneForAll,
                },
                intensity: settings.health.recovery_attempts,
                period: supervision.period,
                cooldown: supervision.cooldown,
                max_cooldown: supervision.max_cooldown,
                wait: Wait::from(&supervision.backoff),
                ..Policy::default()
            },
            groups: HashMap::new(),
            components: HashMap::new(),
            recover: Return {
                after: supervision.recover_after,
                passes: supervision.recover_passes,
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
        for group in config.named(config::GROUPS) {
            options.groups.insert(group.name, Overrides::from_options(&group.options));
        }
        for component in config.named(config::COMPONENTS_WATCHED) {
            options.components.insert(component.name, Special::from_options(&component.options));
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

/// A breaker in a policy that has a name.
#[derive(Clone, Debug)]
pub struct PolicyBreaker {
    /// The policy's name.
    pub policy: Arc<str>,
    /// The breaker itself.
    pub breaker: CircuitBreaker,
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
    /// Where exits are handed in.
    pub(super) desks: Desks,
    /// What happened, and why.
    pub(super) record: Arc<Record>,
    /// The breakers of the system's policies.
    breakers: RwLock<Vec<PolicyBreaker>>,
    /// While everything stops, nothing starts.
    pub(super) closing: AtomicBool,
    /// Wakes those who wait for a time that will not come.
    pub(super) ended: Mutex<CancellationToken>,
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
        let record = Arc::new(Record::new(bus.clock().clone()));
        Registry(Arc::new(Inner {
            clock: bus.clock().clone(),
            bus,
            spawner,
            options,
            config: RwLock::new(config),
            slots: RwLock::default(),
            plan: Mutex::default(),
            others: Others::default(),
            desks: Desks::default(),
            record,
            breakers: RwLock::default(),
            closing: AtomicBool::new(false),
            ended: Mutex::default(),
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
        self.settle_losses(&mut descriptor)?;
        let mut slots = self.0.slots.write();
        if slots.contains_key(&descriptor.name) {
            return invalid(format!("there is a component `{}` already", descriptor.name));
        }
        let name = descriptor.name.clone();
        let (clock, bus) = (self.0.clock.clone(), self.0.bus.downgrade());
        let slot = Arc::new(Slot::new(component, descriptor, clock, bus, self.0.record.clone()));
        slots.insert(name, slot.clone());
        drop(slots);
        *self.0.plan.lock() = None;
        Ok(slot)
    }

    /// Puts together what a component and the configuration say of losses.
    fn settle_losses(&self, descriptor: &mut Descriptor) -> Result<()> {
        let usual = self.0.options.recover;
        let special = self.0.options.components.get(&descriptor.name);
        let own = descriptor.recover.unwrap_or(usual);
        descriptor.recover = Some(special.map_or(own, |special| special.recover(own)));
        descriptor.on_loss.extend(special.into_iter().flat_map(|s| s.on_loss.clone()));
        let known = self.losable(descriptor);
        for name in descriptor.on_loss.keys() {
            if known.contains(name) {
                continue;
            }
            let near = did_you_mean(name, known.iter().map(String::as_str))
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            let message = format!(
                "`on_loss` of `{}` names `{name}`, which is no group of what it depends on, and \
                 neither in its `depends_on` nor in its `wants`{near}",
                descriptor.name
            );
            return Err(Error::new(Kind::Configuration, "register", message));
        }
        Ok(())
    }

    /// What a component may name in `on_loss`: its dependencies, their groups, and the members of
    /// those groups that it depends on.
    fn losable(&self, descriptor: &Descriptor) -> Vec<String> {
        let own = descriptor.depends_on.iter().chain(&descriptor.wants);
        let mut known: Vec<String> = own.cloned().collect();
        let direct = known.len();
        let config = self.0.config.read();
        let said =
            config.components().iter().map(|entry| (entry.name.clone(), entry.group.clone()));
        let slots = self.slots();
        let here =
            slots.iter().map(|slot| (slot.name().to_owned(), slot.descriptor().groups.clone()));
        for (name, groups) in said.chain(here) {
            if known[..direct].contains(&name) || groups.iter().any(|g| known[..direct].contains(g))
            {
                known.push(name);
                known.extend(groups);
            }
        }
        known
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
        self.0.desks.forget(name);
        self.0.record.forget(name);
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
        let changed = Diff::between(&self.0.config.read(), &config);
        if !changed.is_empty() {
            let text = format!("revision {}: {}", config.revision(), changed.paths().join(", "));
            let id = self.0.record.note(CONFIGURATION, What::Configuration, text, None);
            for slot in self.slots() {
                if self.config_of(slot.name()).value != config_in(&config, slot.name()).value {
                    slot.with(|known| known.revised = Some(id));
                }
            }
        }
        *self.0.config.write() = config;
    }

    /// What happened, and why.
    pub fn record(&self) -> &Record {
        &self.0.record
    }

    /// Shows the breakers of the system's policies from now on.
    pub fn set_policy_breakers(&self, breakers: Vec<PolicyBreaker>) {
        let before = std::mem::replace(&mut *self.0.breakers.write(), breakers);
        drop(before); // not under the lock: their observers may be anybody's
    }

    /// The breakers of the system's policies.
    pub fn policy_breakers(&self) -> Vec<PolicyBreaker> {
        self.0.breakers.read().clone()
    }

    /// The revision in force, in the record; none while it is the first one.
    pub(super) fn revision(&self) -> Option<Id> {
        self.0.record.last(CONFIGURATION, |_| true).map(|entry| entry.id)
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
