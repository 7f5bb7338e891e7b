//! The composition root: settings in, a running system out.

use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::bus::{Bus, BusSettings, DedupSettings, Guard, Overflow, Patience, Policy};
use crate::clock::Clock;
use crate::config::{
    self, BusImplementation, Config, Layer, LogFormat, LogLevel, OutboxOverflow, Settings,
    WatchdogSettings,
};
use crate::error::{Error, Kind, Result};
use crate::recovery::Recovery;
pub use crate::registry::Spawn;
use crate::registry::graph::Node;
use crate::registry::presence::{Identity, Presence};
use crate::registry::{
    Component, Monitor, Registry, RegistryOptions, Slot, StartReport, StopReport, SystemHealth,
};
use crate::resilience::{Backoff, BreakerSettings, CircuitBreaker, Jitter, RetryPolicy};
use crate::telemetry::endpoint::Endpoint;
use crate::telemetry::levels::LevelFilter;
use crate::telemetry::logs::LogSettings;
use crate::transport::open;
use crate::transport::outbox::{Bounds, Full};
use crate::transport::seen::Window;

/// How many probes the breaker of a subscription admits.
const PROBES: usize = 1;

/// The share of `shutdown_timeout` that the closing bus may wait for what is in flight.
const DRAIN_SHARE: u32 = 3;

/// Where a framework stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameworkState {
    /// Made, and not started.
    Created,
    /// Its components start.
    Starting,
    /// Started; its components may be in any state.
    Running,
    /// Its components stop.
    Stopping,
    /// Stopped for good: its bus is closed.
    Stopped,
}

impl FrameworkState {
    /// The name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            FrameworkState::Created => "created",
            FrameworkState::Starting => "starting",
            FrameworkState::Running => "running",
            FrameworkState::Stopping => "stopping",
            FrameworkState::Stopped => "stopped",
        }
    }
}

/// Which part of a system a framework is.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The components that run in other processes; of these, name and groups count.
    pub elsewhere: Vec<Node>,
    /// What names this process to others.
    pub identity: Identity,
}

/// A system of components with its bus, registry, health and error handling; clones are handles
/// to the same one.
#[derive(Clone)]
pub struct Framework(Arc<Inner>);

struct Inner {
    config: RwLock<Config>,
    clock: Clock,
    bus: Bus,
    registry: Registry,
    monitor: Monitor,
    recovery: Recovery,
    presence: Presence,
    /// Where probes and metrics are served, between start and stop.
    endpoint: Mutex<Option<Endpoint>>,
    state: Mutex<FrameworkState>,
    /// Held by the one who stops, so that others wait for the end.
    stopping: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framework")
            .field("state", &self.state())
            .field("registry", &self.0.registry)
            .finish_non_exhaustive()
    }
}

impl Framework {
    /// Puts a system together; nothing runs yet.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for a transport or an overflow policy that this build lacks.
    pub fn new(config: Config, clock: Clock, spawner: Arc<dyn Spawn>) -> Result<Framework> {
        Framework::part(config, clock, spawner, Part::default())
    }

    /// Puts one part of a system together; the others run in other processes.
    ///
    /// # Errors
    /// As [`Framework::new`].
    pub fn part(
        config: Config,
        clock: Clock,
        spawner: Arc<dyn Spawn>,
        part: Part,
    ) -> Result<Framework> {
        let settings = config.settings();
        let bus = Bus::new(bus_settings(settings, &clock)?, clock.clone());
        if let Some(options) = transport_options(&config) {
            let runtime = spawner.runtime().ok_or_else(|| {
                let said = "a broker needs a runtime, and there is none to spawn on";
                Error::new(Kind::Configuration, "build bus", said)
            })?;
            bus.reach_out(|news| open::open(&options, clock.clone(), runtime, news))?;
        }
        let mut options = RegistryOptions::from_config(&config);
        options.rules.elsewhere = part.elsewhere;
        let registry = Registry::new(bus.clone(), config.clone(), options, spawner);
        let monitor = Monitor::new(registry.clone(), settings.health.clone());
        let recovery = Recovery::new(registry.clone())?;
        let presence = &settings.service_registry.presence;
        let presence = Presence::new(registry.clone(), monitor.clone(), presence, part.identity);
        Ok(Framework(Arc::new(Inner {
            config: RwLock::new(config),
            clock,
            bus,
            registry,
            monitor,
            recovery,
            presence,
            endpoint: Mutex::default(),
            state: Mutex::new(FrameworkState::Created),
            stopping: tokio::sync::Mutex::new(()),
        })))
    }

    /// The configuration in force.
    pub fn config(&self) -> Config {
        self.0.config.read().clone()
    }

    /// Puts another revision in force, for what asks from now on. Components that are to hear
    /// of it are reconfigured by [`Registry::reconfigure`].
    pub fn set_config(&self, config: Config) {
        self.renew_broker(&config);
        self.0.registry.set_config(config.clone());
        self.0.monitor.adopt(&config);
        *self.0.config.write() = config;
    }

    /// Passwords and certificates change while the system runs.
    fn renew_broker(&self, config: &Config) {
        let (before, now) = (transport_options(&self.0.config.read()), transport_options(config));
        let (Some(before), Some(now)) = (before, now) else { return };
        if (&before.url, &before.tls) == (&now.url, &now.tls) {
            return;
        }
        match self.0.bus.renew(&now) {
            Ok(()) => tracing::info!(
                target: "tiebeam::framework",
                "the next connection to the broker is as the new configuration says"
            ),
            Err(error) => tracing::warn!(
                target: "tiebeam::framework",
                "event_bus.connection_string: the connection stays as it is: {error}"
            ),
        }
    }

    /// The clock it lives by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Its bus.
    pub fn bus(&self) -> &Bus {
        &self.0.bus
    }

    /// Its components.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Who watches their health.
    pub fn monitor(&self) -> &Monitor {
        &self.0.monitor
    }

    /// What others are told of it, and what is known of them.
    pub fn presence(&self) -> &Presence {
        &self.0.presence
    }

    /// Who hears of errors.
    pub fn recovery(&self) -> &Recovery {
        &self.0.recovery
    }

    /// Where it stands.
    pub fn state(&self) -> FrameworkState {
        *self.0.state.lock()
    }

    /// Adds a component. `None` if the configuration switches it off: it is absent then.
    ///
    /// # Errors
    /// As [`Registry::register`]; [`Kind::Closed`] after the end.
    pub fn register(&self, component: Arc<dyn Component>) -> Result<Option<Arc<Slot>>> {
        self.check_open("register")?;
        let name = component.describe().name;
        let config = self.config();
        if config.components().iter().any(|entry| entry.name == name && !entry.enabled) {
            return Ok(None);
        }
        let slot = self.0.registry.register(component)?;
        self.0.monitor.watch(&slot);
        Ok(Some(slot))
    }

    /// Takes a component out that is not at work, so that another may take its name.
    ///
    /// # Errors
    /// As [`Registry::unregister`].
    pub fn unregister(&self, name: &str) -> Result<Arc<Slot>> {
        let slot = self.0.registry.unregister(name)?;
        self.0.monitor.forget(name);
        Ok(slot)
    }

    /// What happens after failures of a handler that says nothing itself, by `error_handling`.
    /// Each subscription needs one of its own: the breaker inside counts for it alone.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for figures that contradict each other.
    pub fn default_policy(&self, subscription: &str) -> Result<Policy> {
        default_policy(self.config().settings(), &self.0.clock, subscription)
    }

    /// Whether fallbacks run at all (`error_handling.fallback.enabled`).
    pub fn fallback_enabled(&self) -> bool {
        self.config().settings().error_handling.fallback.enabled
    }

    /// Starts every component, and the watch over their health.
    ///
    /// A component that fails does not fail the system: the report says who did.
    ///
    /// # Errors
    /// A plan that cannot be made (nothing has started then), [`Kind::Lifecycle`] if it was
    /// started already, [`Kind::Closed`] after the end, and [`Kind::Configuration`] where probes
    /// cannot be served.
    pub async fn start(&self) -> Result<StartReport> {
        self.check_open("start")?;
        {
            let mut state = self.0.state.lock();
            if *state != FrameworkState::Created {
                let message = format!("the framework is {} already", state.as_str());
                return Err(Error::new(Kind::Lifecycle, "start", message));
            }
            *state = FrameworkState::Starting;
        }
        let cancelled = Unfinished(&self.0.state);
        // Before anything that may take its time: that is what probes ask about.
        self.open_endpoint()?;
        let is_there = self.connect().await?;
        // That may have taken its time, and who stopped it meanwhile found nothing to stop.
        self.check_open("start")?;
        if self.0.config.read().settings().service_registry.auto_discovery {
            self.0.presence.start()?;
        }
        // Each component is asked as soon as it is at work: others, elsewhere, may wait for that.
        self.0.monitor.begin();
        let report = self.0.registry.start_all().await?;
        if is_there {
            self.listen().await;
        }
        let runs = {
            let mut state = self.0.state.lock();
            let starting = *state == FrameworkState::Starting;
            if starting {
                *state = FrameworkState::Running;
            }
            starting
        };
        if runs {
            // It tells of what it sees, to handlers that may ask for the state.
            self.0.monitor.start();
            if self.state() != FrameworkState::Running {
                self.0.monitor.stop();
            }
            // Whoever waits for the start may count on it that who is well is ready.
            self.0.monitor.answered().await;
        }
        std::mem::forget(cancelled);
        Ok(report)
    }

    fn open_endpoint(&self) -> Result<()> {
        let config = self.config();
        let settings = &config.settings().health.http;
        let mut endpoint = self.0.endpoint.lock();
        // A start that failed has left it open, for who asks why.
        if settings.enabled && endpoint.is_none() {
            *endpoint = Some(Endpoint::open(settings, &self.0.monitor)?);
        }
        Ok(())
    }

    /// The URL of probes and metrics, while they are served.
    pub fn health_url(&self) -> Option<String> {
        self.0.endpoint.lock().as_ref().map(Endpoint::url)
    }

    /// Waits for the broker, if there is to be one; whether it is there.
    async fn connect(&self) -> Result<bool> {
        let (limit, required) = {
            let config = self.0.config.read();
            let bus = &config.settings().event_bus;
            (bus.connect_timeout, bus.required)
        };
        match self.0.bus.connected(limit).await {
            Err(error) if error.kind() == Kind::Dependency && !required => {
                tracing::warn!(target: "tiebeam::framework", "starting without the broker: {error}");
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    /// Waits until everything that was subscribed to is read, for a while.
    async fn listen(&self) {
        let limit = self.0.config.read().settings().event_bus.connect_timeout;
        match self.0.clock.timeout(limit, self.0.bus.ready()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(target: "tiebeam::framework", "a subscription was refused: {error}");
                let told = serde_json::json!({"reason": error.message()});
                self.0.bus.emit("system.subscription_refused", &told);
            }
            Err(_) => tracing::warn!(
                target: "tiebeam::framework",
                "not all subscriptions are read yet: {}",
                self.0.bus.trouble().unwrap_or_else(|| "the broker is slow".into())
            ),
        }
    }

    /// Stops everything within `service_registry.shutdown_timeout`: waits for what is in
    /// flight, stops components (dependents first), and closes the bus last. Idempotent.
    pub async fn stop(&self) -> StopReport {
        let _gate = self.0.stopping.lock().await;
        {
            let mut state = self.0.state.lock();
            if *state == FrameworkState::Stopped {
                return StopReport::default();
            }
            *state = FrameworkState::Stopping;
        }
        let (clock, begun) = (&self.0.clock, self.0.clock.now());
        let whole = self.0.registry.options().shutdown_timeout;
        let until = begun.saturating_add(whole);
        let left = || until.saturating_since(clock.now());
        self.0.monitor.stop();
        self.0.registry.begin_shutdown();
        // Each component takes in nothing new, works off what waits, and stops; then the next.
        // Waiting for an idle bus first would wait for ever where a source keeps publishing.
        let grace = whole / DRAIN_SHARE;
        let mut report = self.0.registry.stop_all(left()).await;
        self.0.presence.leave();
        // Events behind an open breaker would be waited for as long as there is time.
        report.left = self.0.bus.close(left().min(grace)).await;
        report.took = clock.now().saturating_since(begun);
        self.0.recovery.close();
        // Last: until then it says what is going on.
        let endpoint = self.0.endpoint.lock().take();
        endpoint.into_iter().for_each(Endpoint::close);
        *self.0.state.lock() = FrameworkState::Stopped;
        report
    }

    /// Ends what a start has begun that was cancelled: its components stop, dependents first, within
    /// `service_registry.shutdown_timeout`. It may be started again afterwards. Nothing happens where
    /// it is started or stopped.
    pub async fn take_back(&self) -> StopReport {
        let _gate = self.0.stopping.lock().await;
        {
            let mut state = self.0.state.lock();
            if *state != FrameworkState::Created {
                return StopReport::default();
            }
            *state = FrameworkState::Stopping;
        }
        let _as_before = TakenBack(&self.0);
        self.0.monitor.stop();
        let report = self.0.registry.stop_all(self.0.registry.options().shutdown_timeout).await;
        self.0.presence.leave();
        report
    }

    /// The health of everything, from what is known.
    pub fn health(&self) -> SystemHealth {
        self.0.monitor.system()
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        let state = self.state();
        if matches!(state, FrameworkState::Stopping | FrameworkState::Stopped) {
            let message = format!("cannot {operation}: the framework is {}", state.as_str());
            return Err(Error::new(Kind::Closed, operation, message));
        }
        Ok(())
    }
}

/// A start that is dropped or refused may be tried again.
struct Unfinished<'a>(&'a Mutex<FrameworkState>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if matches!(*state, FrameworkState::Starting | FrameworkState::Running) {
            *state = FrameworkState::Created;
        }
    }
}

/// A start that was taken back may be made again, also where nobody waited for the end of that.
struct TakenBack<'a>(&'a Inner);

impl Drop for TakenBack<'_> {
    fn drop(&mut self) {
        self.0.monitor.expect_start();
        *self.0.state.lock() = FrameworkState::Created;
    }
}

/// What section `event_bus` says to the bus in this process.
///
/// # Errors
/// [`Kind::Configuration`] for a policy that is not one for a whole bus.
pub fn bus_settings(settings: &Settings, clock: &Clock) -> Result<BusSettings> {
    let bus = &settings.event_bus;
    let overflow = match bus.overflow {
        config::Overflow::Block => Overflow::Block,
        config::Overflow::DropOldest => Overflow::DropOldest,
        config::Overflow::DropNewest => Overflow::DropNewest,
        config::Overflow::Fail => Overflow::Fail,
        config::Overflow::Latest => Overflow::Latest,
        config::Overflow::Sample => {
            let message = "`event_bus.overflow: sample` is for single subscriptions, because each \
                           needs its `sample_interval=`; for a whole bus, choose `latest`";
            return Err(Error::new(Kind::Configuration, "build bus", message)
                .with("path", "event_bus.overflow"));
        }
    };
    Ok(BusSettings {
        name: settings.system.name.clone(),
        capacity: bus.capacity,
        overflow,
        batch_size: bus.batch_size,
        handler_timeout: bus.handler_timeout,
        request_timeout: bus.request_timeout,
        watchdog: settings.health.watchdog.enabled.then(|| {
            let WatchdogSettings { step_limit, call_limit, await_limit, .. } =
                settings.health.watchdog;
            Patience { step: step_limit, call: call_limit, suspension: await_limit }
        }),
        max_payload: bus.max_payload,
        connect_timeout: bus.connect_timeout,
        max_deliveries: u64::from(bus.max_retry) + 1,
        dedup: bus
            .dedup
            .enabled
            .then_some(DedupSettings { window: bus.dedup.window, size: bus.dedup.size }),
        // In virtual time every run is the same run.
        seed: clock.is_virtual().then_some(0),
    })
}

/// What section `event_bus` says to the transport; none in memory.
pub fn transport_options(config: &Config) -> Option<open::Options> {
    let bus = &config.settings().event_bus;
    if bus.implementation == BusImplementation::InMemory {
        return None;
    }
    const DEDUP: &str = "event_bus.dedup.enabled";
    let told = config.explain(DEDUP).is_some_and(|said| {
        said.origins.first().is_some_and(|origin| origin.layer != Layer::Defaults)
    });
    let dedup = bus.dedup.enabled || !told;
    Some(open::Options {
        prefix: bus.channel_prefix.clone(),
        batch: bus.batch_size,
        max_payload: bus.max_payload,
        dedup: dedup.then_some(Window { time: bus.dedup.window, count: bus.dedup.size }),
        outbox: Bounds {
            most: bus.outbox.capacity,
            limit: bus.outbox.timeout,
            full: match bus.outbox.overflow {
                OutboxOverflow::Block => Full::Block,
                OutboxOverflow::DropOldest => Full::DropOldest,
                OutboxOverflow::Fail => Full::Fail,
            },
        },
        max_retry: bus.max_retry,
        retry_delay: bus.retry_delay,
        tls: open::TlsFiles {
            ca: bus.tls.ca_file.clone(),
            certificate: bus.tls.cert_file.clone(),
            key: bus.tls.key_file.clone(),
        },
        heartbeat: bus.heartbeat,
        mandatory: bus.mandatory,
        connect_timeout: bus.connect_timeout,
        claim_idle: bus.claim_idle,
        partitions: bus.partitions,
        ..open::Options::new(bus.connection_string.expose())
    })
}

/// The policy that section `error_handling` gives to a handler.
///
/// # Errors
/// [`Kind::Configuration`] for figures that contradict each other.
pub fn default_policy(settings: &Settings, clock: &Clock, subscription: &str) -> Result<Policy> {
    let (retry, breaker) =
        (&settings.error_handling.retry, &settings.error_handling.circuit_breaker);
    let retry = if retry.enabled {
        let jitter = match retry.jitter {
            config::Jitter::Full => Jitter::Full,
            config::Jitter::None => Jitter::None,
        };
        let backoff = Backoff::exponential(retry.initial_delay, retry.multiplier)
            .with_cap(retry.max_delay)
            .with_jitter(jitter);
        let builder = RetryPolicy::builder().max_attempts(retry.max_attempts).backoff(backoff);
        let builder = if clock.is_virtual() { builder.seed(0) } else { builder };
        Some(Arc::new(builder.build()?))
    } else {
        None
    };
    let guard = if breaker.enabled {
        let settings = BreakerSettings::consecutive(breaker.threshold, breaker.reset_timeout);
        let breaker = CircuitBreaker::new(subscription, settings, clock.clone())?;
        Some(Arc::new(Guard::new(breaker, PROBES)))
    } else {
        None
    };
    Ok(Policy { retry, guard, fallback: false })
}

/// What sections `logging` and `system` say about logs.
pub fn log_settings(settings: &Settings) -> LogSettings {
    let logging = &settings.logging;
    LogSettings {
        json: logging.implementation == LogFormat::StructuredJson,
        file: logging.file.clone(),
        max_bytes: logging.max_size,
        backups: logging.backups,
        console: logging.console,
        level: match logging.level {
            LogLevel::Trace => LevelFilter::TRACE,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warning => LevelFilter::WARN,
            LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
        },
        system_name: settings.system.name.clone(),
        system_version: settings.system.version.clone(),
        ..LogSettings::default()
    }
}
