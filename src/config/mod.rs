//! Configuration: many sources in, one immutable snapshot out.
//!
//! Sources from weakest to strongest: built-in defaults, main files in order, each
//! component's `config_file`, `<main>.<system.environment>.yaml`, variables
//! `TIEBEAM_A__B`, `--set a.b=c`, runtime overrides. Maps merge, lists replace.
//!
//! ```text
//! files ─ document ┐
//! environment      ├─ layers (figment) ─ interpolate ─ validate ─ Config ─ ConfigStore
//! --set, defaults  ┘
//! ```
//!
//! Nothing is half applied: [`Loader::load`] returns a valid [`Config`] or one error that
//! lists every [`Violation`]. Secrets leave this module only through [`Secret::expose`] and
//! the plain tree; every text it makes is redacted.

mod components;
mod document;
mod files;
mod interpolate;
mod json;
mod json_schema;
mod layers;
mod loader;
mod named;
mod node;
mod origin;
mod path;
mod policies;
pub mod redact;
pub mod schema;
mod settings;
mod sla;
mod snapshot;
mod store;
mod supervision;
mod text;
mod toml;
pub mod units;
mod validate;
mod variables;
mod violation;
mod yaml;

pub use components::ComponentEntry;
pub use document::Format;
pub use json_schema::validate_schema;
pub use loader::Loader;
pub use named::{NAMED, Named, NamedSection};
pub use origin::{Explanation, Layer, Origin};
pub use policies::{POLICIES, POLICY_KEYS};
pub use settings::{
    BusImplementation, BusSettings, CircuitBreakerSettings, ConfigurationSettings, DedupSettings,
    ErrorHandlingSettings, FallbackSettings, HealthSettings, HttpSettings, Jitter, LimitSettings,
    LogFormat, LogLevel, LoggingSettings, MeasuredSettings, OutboxOverflow, OutboxSettings,
    Overflow, PresenceSettings, RegistrySettings, RestartBackoff, RetrySettings, Secret, Settings,
    SourceKind, Strategy, SupervisionSettings, SystemSettings, WatchdogSettings,
};
pub use sla::{SLA_KEYS, SlaSettings};
pub use snapshot::Config;
pub use store::{Change, ConfigStore, Diff, Proposal, Revision, Stamp};
pub use supervision::{COMPONENTS_WATCHED, GROUPS, LOSSES};
pub use text::parse_value;
pub use violation::{Violation, violations};
