//! The framework's keys as Rust values, made from a tree that was found valid.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::schema::{self, Kind};
use super::{layers, path, redact, validate};

/// A text that is never printed whole; [`Secret::expose`] gives it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one who connects with it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

/// A URL shows all but its password, any other text shows nothing.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.contains("://") || self.0.is_empty() {
            true => f.write_str(&redact::text(&self.0)),
            false => f.write_str(redact::MASK),
        }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$word_doc])* $word),+ }
    };
}

words! {
    /// `event_bus.implementation`.
    BusImplementation {
        /// Redis Streams.
        Redis,
        /// RabbitMQ, AMQP 0.9.1.
        #[serde(rename = "rabbitmq")]
        RabbitMq,
        /// Inside this process.
        InMemory,
    }
}

words! {
    /// `event_bus.overflow`: what a full mailbox does.
    Overflow {
        /// The publisher waits.
        Block,
        /// The oldest waiting event goes.
        DropOldest,
        /// The new event goes.
        DropNewest,
        /// One event per key stays, the newest.
        Latest,
        /// A fair sample of all stays.
        Sample,
        /// Publishing fails.
        Fail,
    }
}

words! {
    /// `event_bus.outbox.overflow`: what happens to events that find no room.
    OutboxOverflow {
        /// The publisher waits.
        Block,
        /// The event that waited longest is refused.
        DropOldest,
        /// Publishing fails.
        Fail,
    }
}

words! {
    /// `error_handling.retry.jitter`.
    Jitter {
        /// Anything from zero to the computed wait.
        Full,
        /// Exactly the computed wait.
        None,
    }
}

words! {
    /// `supervision.strategy`.
    Strategy {
        /// Nobody.
        OneForOne,
        /// Those that started after it.
        RestForOne,
        /// Everybody.
        OneForAll,
    }
}

words! {
    /// `logging.implementation`.
    LogFormat {
        /// One JSON object per line.
        StructuredJson,
        /// Text for people.
        Text,
    }
}

words! {
    /// A level of logging, most talkative first.
    #[derive(PartialOrd, Ord)]
    LogLevel {
        /// Every step.
        Trace,
        /// For whoever looks for a mistake.
        Debug,
        /// Normal operation.
        Info,
        /// Something unexpected that was dealt with.
        Warning,
        /// Something failed.
        Error,
        /// Somebody must act.
        Critical,
    }
}

words! {
    /// An entry of `configuration.sources`.
    SourceKind {
        /// Variables `TIEBEAM_A__B`.
        Environment,
        /// Files.
        File,
        /// Built-in values.
        Defaults,
    }
}

/// Section `system`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SystemSettings {
    /// Name in logs, info and health.
    pub name: String,
    /// Version of the system that is built with the framework.
    pub version: String,
    /// Selects the overlay file.
    pub environment: String,
    /// Least severe level that is logged.
    pub log_level: LogLevel,
}

/// Section `event_bus`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BusSettings {
    /// The transport.
    pub implementation: BusImplementation,
    /// URL of the broker; empty in memory.
    pub connection_string: Secret,
    /// First part of every stream, exchange and queue name.
    pub channel_prefix: String,
    /// Further tries after the first: 3 makes 4 sends or deliveries.
    pub max_retry: u32,
    /// Wait between these tries.
    pub retry_delay: Duration,
    /// Most events per drain of a mailbox, read or prefetch.
    pub batch_size: usize,
    /// Events a mailbox holds.
    pub capacity: usize,
    /// What a full mailbox does.
    pub overflow: Overflow,
    /// Whether a broker that is not there fails the start.
    pub required: bool,
    /// Longest wait for the broker at the start.
    pub connect_timeout: Duration,
    /// What TLS to the broker needs beside the system's own.
    pub tls: TlsSettings,
    /// RabbitMQ: time between two signs of life.
    pub heartbeat: Duration,
    /// RabbitMQ: whether an event that no queue takes is an error for its publisher.
    pub mandatory: bool,
    /// Silence of a consumer after which others take its events over.
    pub claim_idle: Duration,
    /// Redis: among how many streams the keys of a category are shared out.
    pub partitions: usize,
    /// What waits to be sent to the broker.
    pub outbox: OutboxSettings,
    /// Whether and how long ids are remembered.
    pub dedup: DedupSettings,
    /// Longest run of a handler.
    pub handler_timeout: Duration,
    /// Longest wait for a reply.
    pub request_timeout: Duration,
    /// Most bytes of an encoded payload.
    pub max_payload: usize,
}

/// Section `event_bus.tls`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct TlsSettings {
    /// The CAs that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate that is shown to the broker.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

/// Section `event_bus.outbox`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct OutboxSettings {
    /// Events that wait to be sent.
    pub capacity: usize,
    /// What happens to more.
    pub overflow: OutboxOverflow,
    /// Longest wait of an event to be taken by the broker.
    pub timeout: Duration,
}

/// Section `event_bus.dedup`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct DedupSettings {
    /// An event that is published twice is delivered once.
    pub enabled: bool,
    /// Time that an id is remembered.
    pub window: Duration,
    /// Most ids that are remembered.
    pub size: usize,
}

/// Section `service_registry`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RegistrySettings {
    /// Use entry points and remote presence.
    pub auto_discovery: bool,
    /// Longest start or stop of one component.
    pub service_timeout: Duration,
    /// Start by dependencies; false: by order alone.
    pub dependency_resolution: bool,
    /// Components and groups; breaks ties.
    pub initialization_order: Vec<String>,
    /// Longest stop of everything.
    pub shutdown_timeout: Duration,
    /// What this process tells others of itself.
    pub presence: PresenceSettings,
}

/// Section `service_registry.presence`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PresenceSettings {
    /// Silence after which another process counts as gone.
    pub lease: Duration,
    /// Time between two announcements.
    pub interval: Duration,
    /// What names this process to others; empty for a new name each time.
    pub instance: String,
}

/// Section `configuration`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ConfigurationSettings {
    /// Sources in use, strongest first.
    pub sources: Vec<SourceKind>,
    /// Reload when a file changes.
    pub watch_for_changes: bool,
    /// How often files are compared in any case.
    pub reload_interval: Duration,
    /// Unknown keys are errors.
    pub validation_strict: bool,
}

/// Section `health`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct HealthSettings {
    /// Time between two runs of a check.
    pub check_interval: Duration,
    /// Results kept per check.
    pub history_length: usize,
    /// Failures in a row that start recovery.
    pub failure_threshold: u32,
    /// Recoveries before giving up.
    pub recovery_attempts: u32,
    /// Longest run of a check.
    pub check_timeout: Duration,
    /// Successes in a row that end a failure.
    pub success_threshold: u32,
    /// From where on what the core measures itself is too much.
    pub limits: MeasuredSettings,
    /// Where probes and metrics are served.
    pub http: HttpSettings,
    /// What is said of what does not come back.
    pub watchdog: WatchdogSettings,
}

/// Section `health.limits`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct MeasuredSettings {
    /// Resident memory in megabytes.
    pub memory: LimitSettings<f64>,
    /// Processors kept busy.
    pub cpu: LimitSettings<f64>,
    /// The share of the file descriptors that are allowed.
    pub descriptors: LimitSettings<f64>,
    /// Threads.
    pub threads: LimitSettings<f64>,
    /// Wait of events for a component's handlers.
    pub queue_delay: LimitSettings<Duration>,
    /// What 99 of 100 runs of its handlers stay below.
    pub handler_p99: LimitSettings<Duration>,
    /// How late their event loop comes.
    pub loop_lag: LimitSettings<Duration>,
}

/// Two limits; zero for none.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct LimitSettings<T> {
    /// From here on it is a warning.
    pub warn: T,
    /// From here on it is a failure.
    pub fail: T,
}

/// Section `health.http`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct HttpSettings {
    /// Whether anything is served.
    pub enabled: bool,
    /// An IP address or `localhost`.
    pub host: String,
    /// The port; 0 for any that is free.
    pub port: u16,
}

impl HttpSettings {
    /// Where to listen. The names of other hosts are not looked up.
    pub fn address(&self) -> SocketAddr {
        let host = self.host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        SocketAddr::new(host, self.port)
    }
}

/// Section `health.watchdog`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct WatchdogSettings {
    /// Whether anything is watched.
    pub enabled: bool,
    /// Longest step on an event loop.
    pub step_limit: Duration,
    /// Longest run of sync code on a thread.
    pub call_limit: Duration,
    /// Longest suspension.
    pub await_limit: Duration,
}

/// Section `supervision`, without what is said of single groups and components.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SupervisionSettings {
    /// Who is restarted with a component that ended.
    pub strategy: Strategy,
    /// How long a restart counts.
    pub period: Duration,
    /// Time after giving up until one more try; zero for none.
    pub cooldown: Duration,
    /// The longest cooldown.
    pub max_cooldown: Duration,
    /// The waits before restarts.
    pub backoff: RestartBackoff,
    /// How long a dependency must be back until it counts.
    pub recover_after: Duration,
    /// Health checks in a row that it must pass besides.
    pub recover_passes: u32,
}

/// Section `supervision.backoff`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RestartBackoff {
    /// Wait before the second restart; the first does not wait.
    pub initial_delay: Duration,
    /// Growth of the wait per restart.
    pub multiplier: f64,
    /// Longest wait.
    pub max_delay: Duration,
    /// How the wait is spread.
    pub jitter: Jitter,
}

/// Section `error_handling`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ErrorHandlingSettings {
    /// The breaker before each handler.
    pub circuit_breaker: CircuitBreakerSettings,
    /// The retry of each handler.
    pub retry: RetrySettings,
    /// What runs after the last failure.
    pub fallback: FallbackSettings,
}

/// Section `error_handling.circuit_breaker`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CircuitBreakerSettings {
    /// Whether there is one by default.
    pub enabled: bool,
    /// Failures in a row that open it.
    pub threshold: u32,
    /// Time it stays open.
    pub reset_timeout: Duration,
}

/// Section `error_handling.retry`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RetrySettings {
    /// Whether there is one by default.
    pub enabled: bool,
    /// Tries, the first included.
    pub max_attempts: u32,
    /// Wait after the first failure.
    pub initial_delay: Duration,
    /// Growth of the wait per failure.
    pub multiplier: f64,
    /// Longest wait.
    pub max_delay: Duration,
    /// How the wait is spread.
    pub jitter: Jitter,
}

/// Section `error_handling.fallback`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FallbackSettings {
    /// Whether fallbacks run.
    pub enabled: bool,
}

/// Section `logging`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LoggingSettings {
    /// Form of a line in the log file.
    pub implementation: LogFormat,
    /// The log file, if there is one.
    pub file: Option<PathBuf>,
    /// Bytes at which the file is rotated.
    pub max_size: u64,
    /// Rotated files kept.
    pub backups: usize,
    /// Log to the console as well.
    pub console: bool,
    /// Least severe level; `system.log_level` unless said otherwise.
    pub level: LogLevel,
}

/// Every key of the framework, typed; durations and sizes have lost their units.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Settings {
    /// `system`.
    pub system: SystemSettings,
    /// `event_bus`.
    pub event_bus: BusSettings,
    /// `service_registry`.
    pub service_registry: RegistrySettings,
    /// `configuration`.
    pub configuration: ConfigurationSettings,
    /// `health`.
    pub health: HealthSettings,
    /// `supervision`.
    pub supervision: SupervisionSettings,
    /// `error_handling`.
    pub error_handling: ErrorHandlingSettings,
    /// `logging`.
    pub logging: LoggingSettings,
}

impl Settings {
    /// Reads a tree that validation has accepted; the error is a bug's.
    pub(super) fn from_tree(tree: &Map<String, Value>) -> Result<Settings, serde_json::Error> {
        let mut plain = Map::new();
        for key in schema::KEYS {
            let Some(value) = layers::lookup(tree, key.path) else { continue };
            path::set(&mut plain, key.path, plain_value(key, value, tree));
        }
        serde_json::from_value(Value::Object(plain))
    }
}

/// Serde's own forms: durations as seconds and nanoseconds, sizes as bytes, no empty texts
/// that mean "nothing".
fn plain_value(key: &schema::Key, value: &Value, tree: &Map<String, Value>) -> Value {
    match (&key.kind, key.path) {
        (Kind::Duration(unit, _), _) => match validate::duration_of(value, *unit) {
            Some(time) => {
                serde_json::json!({"secs": time.as_secs(), "nanos": time.subsec_nanos()})
            }
            None => Value::Null,
        },
        (Kind::Size, _) => validate::size_of(value).map_or(Value::Null, Value::from),
        (
            _,
            "logging.file"
            | "event_bus.tls.ca_file"
            | "event_bus.tls.cert_file"
            | "event_bus.tls.key_file",
        ) if value.as_str() == Some("") => Value::Null,
        (_, "logging.level") if value.as_str() == Some("") => {
            layers::lookup(tree, "system.log_level").cloned().unwrap_or_default()
        }
        _ => value.clone(),
    }
}

/// The built-in defaults.
impl Default for Settings {
    fn default() -> Self {
        // The schema's own test reads every default; this one is covered by it.
        Settings::from_tree(&schema::defaults()).expect("the schema's defaults are valid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let settings = Settings::default();
        assert_eq!(settings.event_bus.implementation, BusImplementation::InMemory);
        assert!(settings.event_bus.connection_string.is_empty());
        assert_eq!(settings.event_bus.retry_delay, Duration::from_secs(1));
        assert_eq!(settings.event_bus.capacity, 10_000);
        assert_eq!(settings.event_bus.max_payload, 1 << 20);
        assert_eq!(settings.service_registry.service_timeout, Duration::from_secs(30));
        assert_eq!(settings.health.check_timeout, Duration::from_secs(1));
        assert_eq!(settings.error_handling.retry.initial_delay, Duration::from_millis(100));
        assert_eq!(settings.error_handling.retry.max_delay, Duration::from_secs(10));
        assert_eq!(settings.logging.max_size, 100 << 20);
        assert_eq!(settings.logging.level, LogLevel::Info);
        assert_eq!(settings.logging.file, None);
        use SourceKind::{Defaults, Environment, File};
        assert_eq!(settings.configuration.sources, [Environment, File, Defaults]);
    }

    #[test]
    fn a_secret_is_printed_without_its_password() {
        let url = Secret::from("redis://u:canary@h/0".to_owned());
        assert_eq!(format!("{url} {url:?}"), "redis://u:******@h/0 Secret(redis://u:******@h/0)");
        let word = Secret::from("canary".to_owned());
        assert!(!format!("{word} {word:?}").contains("canary"));
        assert_eq!(word.expose(), "canary");
    }
}
