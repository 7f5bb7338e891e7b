//! The table of who is there as it is asked, and waited for.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::announcement::{Announcement, Told};
use super::table::{Entry, Table};

/// A component, wherever it runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Service {
    /// What it says of itself.
    #[serde(flatten)]
    pub told: Told,
    /// The system that it is a part of.
    pub system: String,
    /// The process that it runs in.
    pub instance: Arc<str>,
    /// The machine.
    pub host: String,
    /// The process there.
    pub pid: u32,
    /// Since when it is known, in Unix milliseconds of our clock.
    pub since: i64,
    /// Whether it runs in another process.
    pub remote: bool,
}

impl Service {
    pub(super) fn of(said: &Announcement, told: &Told, since: i64, remote: bool) -> Service {
        Service {
            told: told.clone(),
            system: said.system.clone(),
            instance: said.instance.clone(),
            host: said.host.clone(),
            pid: said.pid,
            since,
            remote,
        }
    }

    /// Whether it can take work.
    pub fn is_ready(&self) -> bool {
        self.told.state.is_operational() && self.told.ready
    }
}

/// Who is there besides us; clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Others(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Mutex<Table>,
    /// Rises with each change.
    changes: watch::Sender<u64>,
}

impl Default for Others {
    fn default() -> Self {
        Others(Arc::new(Inner { table: Mutex::default(), changes: watch::Sender::new(0) }))
    }
}

impl Others {
    /// Looks at the table, or changes it.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Table) -> T) -> T {
        look(&mut self.0.table.lock())
    }

    /// Tells those who wait that it changed.
    pub(super) fn changed(&self) {
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    /// Hears of each change from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Every component of other processes, by process.
    pub fn services(&self) -> Vec<Service> {
        self.with(|table| {
            let services = |entry: &Entry| -> Vec<Service> {
                let of = |told| Service::of(&entry.said, told, entry.since, true);
                entry.said.components.iter().map(of).collect()
            };
            table.there().flat_map(services).collect()
        })
    }

    /// Those of a name.
    pub fn named(&self, name: &str) -> Vec<Service> {
        let mut services = self.services();
        services.retain(|service| service.told.name == name);
        services
    }

    /// Whether somebody of this name can take work.
    pub fn is_ready(&self, name: &str) -> bool {
        self.with(|table| {
            let components = table.there().flat_map(|entry| &entry.said.components);
            components.filter(|told| told.name == name).any(|t| t.state.is_operational() && t.ready)
        })
    }

    /// Why nobody of this name can take work, for a person.
    pub fn why_not(&self, name: &str) -> String {
        match self.named(name).first() {
            None => format!("no process announces `{name}`"),
            Some(Service { told, host, pid, .. }) => {
                let cause =
                    if told.cause.is_empty() { String::new() } else { format!(": {}", told.cause) };
                let state = told.state;
                let but = if state.is_operational() { ", and not ready" } else { "" };
                format!("`{name}` is {state}{but} in process {pid} on {host}{cause}")
            }
        }
    }
}
