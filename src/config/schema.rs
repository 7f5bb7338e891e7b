//! The framework's own keys: type, limits, default and meaning of each, in one table.
//!
//! Everything that must know a key asks here: the defaults layer, the typing of environment
//! variables, validation, suggestions. What is written here is written nowhere else.

use serde_json::{Map, Value};

use super::named::{self, NAMED};
use super::path;
use super::supervision::STRATEGIES;
pub(super) use super::units::Unit;

/// What a value must be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// Text of a form: how to say it, and the test.
    Pattern(&'static str, fn(&str) -> bool),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A whole number within these limits.
    Integer(i64, i64),
    /// A number within these limits.
    Number(f64, f64),
    /// A length of time; a plain number has this unit.
    Duration(Unit, Zero),
    /// A number of bytes above zero; a plain number counts mebibytes.
    Size,
    /// A list of names, each once.
    Names,
    /// A list of some of these words, each once.
    Choices(&'static [&'static str]),
    /// What a component promises, see [`super::SLA_KEYS`].
    Sla,
    /// A map from names to one of these words.
    Words(&'static [&'static str]),
}

/// Whether a duration may be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// Zero is a sensible value.
    Allowed,
    /// Zero would spin or never wait.
    Refused,
}

/// One key of the framework.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted path.
    pub path: &'static str,
    /// What a value must be.
    pub kind: Kind,
    /// The default, as JSON.
    pub default: &'static str,
    /// One line for people.
    pub about: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { path, kind, default, about }
}

/// A key without a default: what is not said is not there.
pub(super) const fn optional(path: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { path, kind, default: "null", about }
}

use Kind::{Choice, Choices, Duration, Flag, Integer, Names, Number, Pattern, Size, Text, Words};
use Unit::{Milliseconds, Seconds};
use Zero::{Allowed, Refused};

/// Levels of logging, most talkative first.
pub const LEVELS: &[&str] = &["trace", "debug", "info", "warning", "error", "critical"];
/// What `configuration.sources` may name.
pub const SOURCES: &[&str] = &["environment", "file", "defaults"];
const MOST: i64 = i64::MAX;

/// A broker that `event_bus.implementation` may name.
#[derive(Clone, Copy, Debug)]
pub struct Broker {
    /// Its name there.
    pub name: &'static str,
    /// How its URLs begin.
    pub schemes: &'static [&'static str],
    /// A URL, for messages.
    pub example: &'static str,
}

/// Every broker there is.
pub const BROKERS: &[Broker] = &[
    Broker {
        name: "redis",
        schemes: &[
            "redis",
            "rediss",
            "redis+sentinel",
            "rediss+sentinel",
            "redis+cluster",
            "rediss+cluster",
            "redis+unix",
            "unix",
        ],
        example: "redis://localhost:6379/0",
    },
    Broker { name: "rabbitmq", schemes: &["amqp", "amqps"], example: "amqp://localhost:5672/%2f" },
];

/// The name of the broker whose URLs begin with `scheme`.
pub fn broker_of(scheme: &str) -> Option<&'static str> {
    BROKERS.iter().find(|broker| broker.schemes.contains(&scheme)).map(|broker| broker.name)
}

/// Every key of the framework outside `components`.
#[rustfmt::skip] // a table is read by columns
pub const KEYS: &[Key] = &[
    key("system.name", Pattern("a non-empty text", not_blank), r#""tiebeam""#, "name in logs, info and health"),
    key("system.version", Text, r#""""#, "version of the system that is built with the framework"),
    key("system.environment", Pattern("letters, digits, `-` and `_`", is_name), r#""development""#, "selects the overlay file `<main>.<environment>.yaml`"),
    key("system.log_level", Choice(LEVELS), r#""info""#, "least severe level that is logged"),

    key("event_bus.implementation", Choice(&["in_memory", "redis", "rabbitmq"]), r#""in_memory""#, "the transport"),
    key("event_bus.connection_string", Text, r#""""#, "URL of the broker"),
    key("event_bus.channel_prefix", Pattern("letters, digits, `-`, `_`, `.` and `:`", is_prefix), r#""tiebeam""#, "first part of every stream, exchange and queue name"),
    key("event_bus.max_retry", Integer(0, 1_000), "3", "further tries to send, and returns of an unsettled delivery"),
    key("event_bus.retry_delay", Duration(Milliseconds, Allowed), "1000", "wait between these tries, in milliseconds"),
    key("event_bus.batch_size", Integer(1, 100_000), "100", "most events per drain of a mailbox, read or prefetch"),
    key("event_bus.capacity", Integer(1, 100_000_000), "10000", "events a mailbox holds"),
    key("event_bus.overflow", Choice(&["block", "drop_oldest", "drop_newest", "latest", "sample", "fail"]), r#""block""#, "what a full mailbox does"),
    key("event_bus.required", Flag, "true", "a broker that is not there fails the start; false: the start goes on without it"),
    key("event_bus.connect_timeout", Duration(Seconds, Refused), "10", "longest wait for the broker at the start, in seconds"),
    key("event_bus.tls.ca_file", Text, r#""""#, "PEM file of the CAs that are trusted at `rediss://` and `amqps://`; empty: those of the system"),
    key("event_bus.tls.cert_file", Text, r#""""#, "PEM file of the certificate that is shown to the broker; empty: none"),
    key("event_bus.tls.key_file", Text, r#""""#, "PEM file of its key; empty: in `cert_file`, too"),
    key("event_bus.heartbeat", Duration(Seconds, Refused), "5", "RabbitMQ: how often broker and process tell each other that they are there, in whole seconds"),
    key("event_bus.mandatory", Flag, "false", "RabbitMQ: an event that no queue takes is an error for its publisher, `Unroutable`"),
    key("event_bus.claim_idle", Duration(Seconds, Refused), "30", "silence of a consumer after which others take its events over, in seconds"),
    key("event_bus.partitions", Integer(1, 256), "1", "Redis: among how many streams the keys of a category are shared out; the same number in every process"),
    key("event_bus.outbox.capacity", Integer(1, 100_000_000), "10000", "events that wait to be sent to the broker"),
    key("event_bus.outbox.overflow", Choice(&["block", "drop_oldest", "fail"]), r#""block""#, "what happens to more"),
    key("event_bus.outbox.timeout", Duration(Seconds, Refused), "30", "longest wait of an event to be taken by the broker, in seconds"),
    key("event_bus.dedup.enabled", Flag, "false", "an event that is published twice is delivered once; with a broker, unless this is set to false"),
    key("event_bus.dedup.window", Duration(Seconds, Refused), "600", "time that an id is remembered, in seconds"),
    key("event_bus.dedup.size", Integer(1, 100_000_000), "100000", "most ids that are remembered"),
    key("event_bus.handler_timeout", Duration(Seconds, Refused), "30", "longest run of a handler, in seconds"),
    key("event_bus.request_timeout", Duration(Seconds, Refused), "30", "longest wait for a reply, in seconds"),
    key("event_bus.max_payload", Integer(1, 536_870_912), "1048576", "most bytes of an encoded payload"),

    key("service_registry.auto_discovery", Flag, "true", "use entry points and remote presence"),
    key("service_registry.service_timeout", Duration(Seconds, Refused), "30", "longest start or stop of one component, in seconds"),
    key("service_registry.dependency_resolution", Flag, "true", "start by dependencies; false: by order alone"),
    key("service_registry.initialization_order", Names, "[]", "breaks ties among components that may start at the same time"),
    key("service_registry.shutdown_timeout", Duration(Seconds, Refused), "30", "longest stop of everything, in seconds"),

    key("service_registry.presence.lease", Duration(Seconds, Refused), "15", "silence after which another process counts as gone, in seconds; what this one asks of others"),
    key("service_registry.presence.interval", Duration(Seconds, Refused), "5", "time between two announcements of this process, in seconds; at most a half of the lease"),
    key("service_registry.presence.instance", Pattern("nothing, or letters, digits, `-`, `_` and `.`", is_instance), r#""""#, "what names this process to others: one that starts anew under the name takes the place of the old one at once; empty: a new name each time"),

    key("configuration.sources", Choices(SOURCES), r#"["environment", "file", "defaults"]"#, "sources in use, strongest first; the command line is always first"),
    key("configuration.watch_for_changes", Flag, "true", "reload when a file changes"),
    key("configuration.reload_interval", Duration(Seconds, Refused), "60", "how often files are compared in any case, in seconds"),
    key("configuration.validation_strict", Flag, "true", "unknown keys are errors; false: warnings"),

    key("health.check_interval", Duration(Seconds, Refused), "10", "time between two runs of a check, in seconds"),
    key("health.history_length", Integer(1, 1_000_000), "100", "results kept per check"),
    key("health.failure_threshold", Integer(1, 1_000_000), "3", "failures in a row that start recovery"),
    key("health.recovery_attempts", Integer(0, 1_000_000), "3", "recoveries before giving up"),
    key("health.check_timeout", Duration(Seconds, Refused), "1", "longest run of a check, in seconds"),
    key("health.watchdog.enabled", Flag, "true", "handlers and hooks that do not come back are named"),
    key("health.watchdog.step_limit", Duration(Seconds, Refused), "1", "longest step on an event loop, in seconds of real time"),
    key("health.watchdog.call_limit", Duration(Seconds, Refused), "10", "longest run of sync code on a thread, in seconds of real time"),
    key("health.watchdog.await_limit", Duration(Seconds, Refused), "10", "longest suspension of an async handler or hook, in seconds of real time"),
    key("health.success_threshold", Integer(1, 1_000_000), "1", "successes in a row that end a failure"),
    key("health.limits.memory.warn", Number(0.0, 1e9), "0", "resident memory of the process, in megabytes: from here on a warning; 0: never"),
    key("health.limits.memory.fail", Number(0.0, 1e9), "0", "the same: from here on a failure; 0: never"),
    key("health.limits.cpu.warn", Number(0.0, 1e6), "0", "processors that the process keeps busy: from here on a warning; 0: never"),
    key("health.limits.cpu.fail", Number(0.0, 1e6), "0", "the same: from here on a failure; 0: never"),
    key("health.limits.descriptors.warn", Number(0.0, 1.0), "0", "open file descriptors, as a share of those that are allowed: from here on a warning; 0: never"),
    key("health.limits.descriptors.fail", Number(0.0, 1.0), "0", "the same: from here on a failure; 0: never"),
    key("health.limits.threads.warn", Number(0.0, 1e9), "0", "threads of the process: from here on a warning; 0: never"),
    key("health.limits.threads.fail", Number(0.0, 1e9), "0", "the same: from here on a failure; 0: never"),
    key("health.limits.queue_delay.warn", Duration(Milliseconds, Allowed), "0", "wait of events for a component's handlers, in milliseconds: from here on a warning; 0: never"),
    key("health.limits.queue_delay.fail", Duration(Milliseconds, Allowed), "0", "the same: from here on a failure; 0: never"),
    key("health.limits.handler_p99.warn", Duration(Milliseconds, Allowed), "0", "what 99 of 100 runs of a component's handlers stay below, in milliseconds: from here on a warning; 0: never"),
    key("health.limits.handler_p99.fail", Duration(Milliseconds, Allowed), "0", "the same: from here on a failure; 0: never"),
    key("health.limits.loop_lag.warn", Duration(Milliseconds, Allowed), "0", "how late the event loop of a component's handlers comes, in milliseconds: from here on a warning; 0: never"),
    key("health.limits.loop_lag.fail", Duration(Milliseconds, Allowed), "0", "the same: from here on a failure; 0: never"),
    key("health.http.enabled", Flag, "false", "serve probes and metrics by HTTP: /livez, /readyz, /startupz, /health, /metrics"),
    key("health.http.host", Pattern("an IP address or `localhost`", is_host), r#""127.0.0.1""#, "the address to listen on; any but a loopback address is reachable from elsewhere, without a password"),
    key("health.http.port", Integer(0, 65_535), "9464", "the port to listen on; 0: any that is free, see `framework.health_url`"),

    key("supervision.strategy", Choice(STRATEGIES), r#""one_for_one""#, "who is restarted with a component that ended; one_for_one: each has a budget of its own, else all share one"),
    key("supervision.period", Duration(Seconds, Refused), "60", "how long a restart counts against `health.recovery_attempts`, in seconds"),
    key("supervision.cooldown", Duration(Seconds, Allowed), "300", "time after giving up until one more try, in seconds; 0: no try"),
    key("supervision.max_cooldown", Duration(Seconds, Allowed), "3600", "the longest cooldown, which doubles each time, in seconds"),
    key("supervision.backoff.initial_delay", Duration(Seconds, Allowed), "1", "wait before the second restart within `period`, in seconds; the first does not wait"),
    key("supervision.backoff.multiplier", Number(1.0, 1_000.0), "2.0", "growth of the wait per restart"),
    key("supervision.backoff.max_delay", Duration(Seconds, Allowed), "30", "longest wait, in seconds"),
    key("supervision.backoff.jitter", Choice(&["full", "none"]), r#""full""#, "how the wait is spread"),
    key("supervision.recover_after", Duration(Seconds, Allowed), "0", "how long a dependency must be back until a degraded component counts on it, in seconds"),
    key("supervision.recover_passes", Integer(0, 1_000_000), "0", "health checks in a row that it must pass besides"),

    key("error_handling.circuit_breaker.enabled", Flag, "true", "a breaker stands before each handler"),
    key("error_handling.circuit_breaker.threshold", Integer(1, 1_000_000), "5", "failures in a row that open it"),
    key("error_handling.circuit_breaker.reset_timeout", Duration(Seconds, Refused), "30", "time it stays open, in seconds"),
    key("error_handling.retry.enabled", Flag, "true", "failed handlers are tried again"),
    key("error_handling.retry.max_attempts", Integer(1, 1_000), "3", "tries, the first included"),
    key("error_handling.retry.initial_delay", Duration(Milliseconds, Allowed), "100", "wait after the first failure, in milliseconds"),
    key("error_handling.retry.multiplier", Number(1.0, 1_000.0), "2.0", "growth of the wait per failure"),
    key("error_handling.retry.max_delay", Duration(Milliseconds, Allowed), "10000", "longest wait, in milliseconds"),
    key("error_handling.retry.jitter", Choice(&["full", "none"]), r#""full""#, "how the wait is spread"),
    key("error_handling.fallback.enabled", Flag, "true", "fallbacks run after the last failure"),

    key("logging.implementation", Choice(&["structured_json", "text"]), r#""structured_json""#, "form of a line in the log file"),
    key("logging.file", Text, r#""""#, "path of the log file; empty: no file"),
    key("logging.max_size", Size, "100", "size at which the file is rotated, in megabytes"),
    key("logging.backups", Integer(0, 10_000), "10", "rotated files kept"),
    key("logging.console", Flag, "true", "log to the console as well"),
    key("logging.level", Choice(&["", "trace", "debug", "info", "warning", "error", "critical"]), r#""""#, "least severe level; empty: `system.log_level`"),
];

/// The section that holds the components; its keys are the users'.
pub const COMPONENTS: &str = "components";

/// Keys of a component's section that mean the same for every component.
#[rustfmt::skip]
pub const COMPONENT_KEYS: &[Key] = &[
    key("enabled", Flag, "true", "false: the component is absent"),
    key("config_file", Pattern("a non-empty path", not_blank), "null", "file with the component's own keys, beside the file that names it"),
    key("class", Pattern("`package.module:Class`", is_class), "null", "the Python class"),
    key("restart", Choice(&["permanent", "transient", "temporary"]), r#""permanent""#, "when supervision starts it again"),
    key("sla", Kind::Sla, "null", "what it promises: availability, latency, delay; target, period, min_events"),
];

/// The reserved key of a component's section, if `name` is one.
pub fn component_key(name: &str) -> Option<&'static Key> {
    COMPONENT_KEYS.iter().find(|key| key.path == name)
}

/// The framework's key at `path`.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// What a value at `path` must be, if the framework has a say.
pub(super) fn kind_of(path: &str) -> Option<Kind> {
    if let Some(key) = find(path) {
        return Some(key.kind);
    }
    if let Some(kind) = named::kind_of(path) {
        return Some(kind);
    }
    let below = path.strip_prefix("components.")?;
    let (_, name) = below.rsplit_once('.')?;
    component_key(name).map(|key| key.kind)
}

/// Whether `path` is a section of the framework (has keys of [`KEYS`] below it).
pub fn is_section(path: &str) -> bool {
    path.is_empty()
        || path == COMPONENTS
        || KEYS.iter().any(|key| key.path.len() > path.len() && path::is_within(key.path, path))
}

/// The names that may stand directly in section `path`, in the table's order.
pub fn names_in(path: &str) -> Vec<&'static str> {
    let mut names = if path.is_empty() { vec![COMPONENTS] } else { Vec::new() };
    for named in &NAMED {
        names.extend(named.at.strip_prefix(path).and_then(|below| below.strip_prefix('.')));
    }
    for key in KEYS.iter().filter(|key| path::is_within(key.path, path)) {
        let below = key.path.get(path.len()..).unwrap_or_default().trim_start_matches('.');
        let name = below.split('.').next().unwrap_or_default();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The defaults as a tree.
pub fn defaults() -> Map<String, Value> {
    let mut tree = Map::new();
    for key in KEYS {
        // A test parses every default, so that the fallback is never seen.
        path::set(&mut tree, key.path, serde_json::from_str(key.default).unwrap_or(Value::Null));
    }
    for section in NAMED.iter().map(|named| named.at).chain([COMPONENTS]) {
        path::set(&mut tree, section, Value::Object(Map::new()));
    }
    tree
}

fn not_blank(text: &str) -> bool {
    !text.trim().is_empty()
}

/// Letters, digits, `-` and `_`: safe in file names and topics.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn is_instance(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn is_host(text: &str) -> bool {
    text == "localhost" || text.parse::<std::net::IpAddr>().is_ok()
}

fn is_prefix(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
}

/// `package.module:Class`, as an entry point is written.
pub(super) fn is_class(text: &str) -> bool {
    let dotted = |part: &str| part.split('.').all(is_identifier);
    text.split_once(':').is_some_and(|(module, class)| dotted(module) && dotted(class))
}

fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || c == '_')
}

impl Kind {
    /// The sentence after "must be", for messages.
    pub fn expected(&self) -> String {
        let words = |words: &[&str]| {
            let shown: Vec<_> = words.iter().filter(|word| !word.is_empty()).copied().collect();
            shown.join(", ")
        };
        match self {
            Text => "a text".into(),
            Pattern(form, _) => (*form).into(),
            Choice(of) => format!("one of {}", words(of)),
            Flag => "true or false".into(),
            Integer(low, MOST) => format!("a whole number >= {low}"),
            Integer(low, high) => format!("a whole number from {low} to {high}"),
            Number(low, high) => format!("a number from {low} to {high}"),
            Duration(unit, _) => {
                format!(
                    "a duration in {} (or with a unit, as in `500ms`, `30s`, `2m`)",
                    unit.as_str()
                )
            }
            Size => "a size in megabytes (or with a unit, as in `100MB`)".into(),
            Names => "a list of names".into(),
            Choices(of) => format!("a list of {}", words(of)),
            Kind::Sla => "a map, such as `{availability: 0.999}`".into(),
            Words(of) => format!("a map from names to one of {}", words(of)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_parses_and_is_what_its_kind_asks_for() {
        for key in KEYS {
            let value: Value = serde_json::from_str(key.default).expect(key.path);
            assert_eq!(super::super::validate::check(&key.kind, &value), Ok(()), "{}", key.path);
        }
    }

    #[test]
    fn paths_are_unique_and_sections_are_no_keys() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(KEYS[at + 1..].iter().all(|other| other.path != key.path), "{}", key.path);
            assert!(!is_section(key.path), "{}", key.path);
        }
        assert!(is_section("error_handling.retry"));
        assert!(!is_section("event"));
        assert_eq!(
            names_in("error_handling"),
            ["policies", "circuit_breaker", "retry", "fallback"]
        );
    }

    #[test]
    fn reserved_keys_are_known_at_any_depth_below_components() {
        assert!(matches!(kind_of("components.agents.technical.enabled"), Some(Flag)));
        assert!(kind_of("components.enabled").is_none());
        assert!(kind_of("components.a.window").is_none());
    }

    #[test]
    fn class_names_are_entry_points() {
        assert!(is_class("package.module:Class"));
        for wrong in ["Class", "a:", ":B", "a b:C", "a..b:C", "1a:C", "a:B:C"] {
            assert!(!is_class(wrong), "{wrong}");
        }
    }
}
