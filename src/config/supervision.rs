//! The keys of `supervision`: what is said of single groups and components.

use super::schema::Kind::{Choice, Duration, Integer, Number, Words};
use super::schema::Unit::Seconds;
use super::schema::Zero::{Allowed, Refused};
use super::schema::{Key, optional};

/// The section of the groups that fail together.
pub const GROUPS: &str = "supervision.groups";

/// The section of what single components do otherwise.
pub const COMPONENTS_WATCHED: &str = "supervision.components";

/// What `strategy` may be.
pub const STRATEGIES: &[&str] = &["one_for_one", "rest_for_one", "one_for_all"];

/// What `on_loss` may say.
pub const LOSSES: &[&str] = &["stop", "degrade", "ignore"];

/// Keys of a group, below its name. What is not said is as for everybody.
#[rustfmt::skip] // a table is read by columns
pub const GROUP_KEYS: &[Key] = &[
    optional("strategy", Choice(STRATEGIES), "who is restarted with the member that ended"),
    optional("intensity", Integer(0, 1_000_000), "restarts within `period` that are borne, of all members together"),
    optional("period", Duration(Seconds, Refused), "how long a restart counts, in seconds"),
    optional("backoff.initial_delay", Duration(Seconds, Allowed), "wait before the second restart within `period`, in seconds; the first does not wait"),
    optional("backoff.multiplier", Number(1.0, 1_000.0), "growth of the wait per restart"),
    optional("backoff.max_delay", Duration(Seconds, Allowed), "longest wait, in seconds"),
    optional("backoff.jitter", Choice(&["full", "none"]), "how the wait is spread"),
];

/// Keys of a component, below its name.
#[rustfmt::skip]
pub const COMPONENT_WATCH_KEYS: &[Key] = &[
    optional("intensity", Integer(0, 1_000_000), "restarts within `period` that are borne"),
    optional("period", Duration(Seconds, Refused), "how long a restart counts, in seconds"),
    optional("cooldown", Duration(Seconds, Allowed), "time after giving up until one more try, in seconds; 0: no try"),
    optional("max_cooldown", Duration(Seconds, Allowed), "the longest cooldown, which doubles each time, in seconds"),
    optional("backoff.initial_delay", Duration(Seconds, Allowed), "wait before the second restart within `period`, in seconds; the first does not wait"),
    optional("backoff.multiplier", Number(1.0, 1_000.0), "growth of the wait per restart"),
    optional("backoff.max_delay", Duration(Seconds, Allowed), "longest wait, in seconds"),
    optional("backoff.jitter", Choice(&["full", "none"]), "how the wait is spread"),
    optional("on_loss", Words(LOSSES), "what it does without a dependency, by the dependency's name"),
    optional("recover_after", Duration(Seconds, Allowed), "how long a dependency must be back until it counts, in seconds"),
    optional("recover_passes", Integer(0, 1_000_000), "health checks in a row that it must pass besides"),
];
