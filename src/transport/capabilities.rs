//! What a transport can do, and what it cannot: declared, so that nobody has to find out.

use serde::Serialize;

/// What subscriptions and publishers may ask of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Events outlive the process that published them.
    pub durable: bool,
    /// Events reach other processes.
    pub shared: bool,
    /// A new group may begin with events that were published before it.
    pub replay: bool,
    /// Urgent events overtake others on the broker, too, and not only in the mailbox.
    pub priorities: bool,
    /// Delayed events come when they are due, and not only at the next of a few levels.
    pub exact_delays: bool,
    /// Events of one key keep their order across the replicas of a group.
    pub keyed_order: bool,
    /// Ids seen lately are remembered across restarts.
    pub durable_dedup: bool,
    /// What one member of a group has handled, no other one handles again.
    pub shared_dedup: bool,
    /// A request that nobody can answer fails at once.
    pub knows_responders: bool,
    /// A second handler of a command is refused, wherever it is.
    pub one_handler: bool,
    /// A full mailbox can make `publish` fail.
    pub fails_when_full: bool,
}

impl Capabilities {
    /// A bus in the memory of one process.
    pub const IN_MEMORY: Capabilities = Capabilities {
        name: "in_memory",
        durable: false,
        shared: false,
        replay: false,
        priorities: true,
        exact_delays: true,
        keyed_order: true,
        durable_dedup: false,
        shared_dedup: true,
        knows_responders: true,
        one_handler: true,
        fails_when_full: true,
    };
}
