//! The life of a component: eight states and one table of what may follow what.
//!
//! [`TABLE`] is the only place that knows the legal transitions; checking, error messages and
//! the documentation's diagram ([`mermaid`], [`markdown`]) are all read from it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Instant};
use crate::error::{Error, Kind, Result};

/// Where a component stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Created, not yet configured.
    Initialized,
    /// Configured, not yet started.
    Configured,
    /// In its start-up.
    Starting,
    /// Fully operational.
    Running,
    /// Operational with reduced functionality.
    Degraded,
    /// In its shutdown.
    Stopping,
    /// Halted.
    Stopped,
    /// In error.
    Failed,
}

use State::{Configured, Degraded, Failed, Initialized, Running, Starting, Stopped, Stopping};

/// The legal transitions: each state with those that may follow it. Running has no way back to
/// configured because a running component is reconfigured in place.
pub const TABLE: [(State, &[State]); 8] = [
    (Initialized, &[Configured, Stopped, Failed]),
    (Configured, &[Configured, Starting, Stopped, Failed]),
    (Starting, &[Running, Degraded, Stopping, Failed]),
    (Running, &[Degraded, Stopping, Failed]),
    (Degraded, &[Running, Stopping, Failed]),
    (Stopping, &[Stopped, Failed]),
    (Stopped, &[Configured, Starting]),
    (Failed, &[Configured, Starting, Stopping, Stopped]),
];

impl State {
    /// Every state, in the order of a life.
    pub const ALL: [State; 8] =
        [Initialized, Configured, Starting, Running, Degraded, Stopping, Stopped, Failed];

    /// The name used in events, health and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Initialized => "initialized",
            Configured => "configured",
            Starting => "starting",
            Running => "running",
            Degraded => "degraded",
            Stopping => "stopping",
            Stopped => "stopped",
            Failed => "failed",
        }
    }

    /// Parses the name used in events, health and configuration.
    pub fn parse(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// The states that may follow this one.
    pub fn allowed(self) -> &'static [State] {
        TABLE[self as usize].1
    }

    /// Whether `to` may follow this state.
    pub fn can_become(self, to: State) -> bool {
        self.allowed().contains(&to)
    }

    /// Whether a component in this state does its work, fully or in part.
    pub fn is_operational(self) -> bool {
        matches!(self, Running | Degraded)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One change of state that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state that was left.
    pub from: State,
    /// The state that was entered.
    pub to: State,
    /// Why, for a person.
    pub cause: String,
    /// When `to` was entered.
    pub at: Instant,
    /// How long the component had been in `from`.
    pub in_state: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    state: State,
    since: Instant,
}

/// The one cell that holds a component's state; every change goes through its table.
#[derive(Debug)]
pub struct Lifecycle {
    component: Arc<str>,
    clock: Clock,
    current: Mutex<Current>,
}

impl Lifecycle {
    /// A life that begins now, as [`State::Initialized`].
    pub fn new(component: impl Into<Arc<str>>, clock: Clock) -> Self {
        let since = clock.now();
        let current = Mutex::new(Current { state: Initialized, since });
        Lifecycle { component: component.into(), clock, current }
    }

    /// Whose life it is.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// The present state.
    pub fn state(&self) -> State {
        self.current.lock().state
    }

    /// The present state and when it was entered, read together.
    pub fn state_since(&self) -> (State, Instant) {
        let current = *self.current.lock();
        (current.state, current.since)
    }

    /// Enters `to`. Of several threads that want the same change, one gets it.
    ///
    /// # Errors
    /// [`Kind::Lifecycle`] when `to` may not follow the present state; nothing has changed then.
    /// The error names the component, both states and what would be allowed.
    pub fn transition(&self, to: State, cause: impl Into<String>) -> Result<Transition> {
        let (from, since, at) = {
            let mut current = self.current.lock();
            let (from, since) = (current.state, current.since);
            if !from.can_become(to) {
                drop(current);
                return Err(self.illegal(from, to));
            }
            // Read under the lock: the times of a life never run backwards.
            let at = self.clock.now();
            *current = Current { state: to, since: at };
            (from, since, at)
        };
        Ok(Transition { from, to, cause: cause.into(), at, in_state: at.saturating_since(since) })
    }

    fn illegal(&self, from: State, to: State) -> Error {
        let allowed = names(from.allowed());
        let message =
            format!("`{}` is {from} and cannot become {to}; allowed: {allowed}", self.component);
        Error::new(Kind::Lifecycle, "transition", message)
            .with("component", &*self.component)
            .with("from", from.as_str())
            .with("to", to.as_str())
            .with("allowed", allowed)
    }
}

fn names(states: &[State]) -> String {
    states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ")
}

/// The table as a Mermaid state diagram, for the documentation.
pub fn mermaid() -> String {
    let mut text = format!("stateDiagram-v2\n    [*] --> {Initialized}\n");
    for (from, allowed) in TABLE {
        for to in allowed {
            text.push_str(&format!("    {from} --> {to}\n"));
        }
    }
    text
}

/// The table as a Markdown table, for the documentation.
pub fn markdown() -> String {
    let mut text = String::from("| from | to |\n| --- | --- |\n");
    for (from, allowed) in TABLE {
        text.push_str(&format!("| {from} | {} |\n", names(allowed)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// li-013, written out pair by pair so that a slip in `TABLE` cannot hide in its own copy.
    const LEGAL: [(&str, &str); 25] = [
        ("initialized", "configured"),
        ("initialized", "failed"),
        ("initialized", "stopped"),
        ("configured", "configured"),
        ("configured", "starting"),
        ("configured", "failed"),
        ("configured", "stopped"),
        ("starting", "running"),
        ("starting", "degraded"),
        ("starting", "stopping"),
        ("starting", "failed"),
        ("running", "degraded"),
        ("running", "stopping"),
        ("running", "failed"),
        ("degraded", "running"),
        ("degraded", "stopping"),
        ("degraded", "failed"),
        ("stopping", "stopped"),
        ("stopping", "failed"),
        ("stopped", "configured"),
        ("stopped", "starting"),
        ("failed", "configured"),
        ("failed", "starting"),
        ("failed", "stopping"),
        ("failed", "stopped"),
    ];

    fn in_state(state: State, clock: &Clock) -> Lifecycle {
        let life = Lifecycle::new("prices", clock.clone());
        life.current.lock().state = state;
        life
    }

    #[test]
    fn all_64_pairs_are_as_li_013_says_and_an_illegal_one_changes_nothing() {
        let clock = Clock::simulated(0);
        for from in State::ALL {
            for to in State::ALL {
                let life = in_state(from, &clock);
                let before = life.state_since();
                clock.advance(Duration::from_millis(1));
                let result = life.transition(to, "test");
                if LEGAL.contains(&(from.as_str(), to.as_str())) {
                    let done = result.expect("legal");
                    assert_eq!((done.from, done.to, life.state()), (from, to, to));
                    assert_eq!(done.in_state, Duration::from_millis(1));
                } else {
                    let error = result.expect_err("illegal");
                    assert_eq!(error.kind(), Kind::Lifecycle, "{from} -> {to}");
                    assert_eq!(life.state_since(), before, "{from} -> {to}");
                    assert_eq!(error.get("component"), Some("prices"));
                    assert_eq!(error.get("from"), Some(from.as_str()));
                    assert_eq!(error.get("to"), Some(to.as_str()));
                    for allowed in from.allowed() {
                        assert!(error.get("allowed").unwrap().contains(allowed.as_str()));
                    }
                }
            }
        }
    }

    #[test]
    fn the_table_has_each_state_at_its_own_place() {
        for (index, (from, _)) in TABLE.iter().enumerate() {
            assert_eq!(*from as usize, index);
            assert_eq!(State::parse(from.as_str()), Some(*from));
        }
        assert_eq!(State::parse("Running"), None);
    }

    #[test]
    fn of_many_threads_exactly_one_makes_the_change() {
        let life = in_state(Running, &Clock::simulated(0));
        let won = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| life.transition(Stopping, "all at once"))).collect();
            threads.into_iter().filter_map(|t| t.join().unwrap().ok()).count()
        });
        assert_eq!(won, 1);
        assert_eq!(life.state(), Stopping);
    }

    #[test]
    fn diagram_and_table_show_every_edge() {
        for (from, to) in LEGAL {
            assert!(mermaid().contains(&format!("{from} --> {to}\n")));
        }
        assert_eq!(mermaid().matches("-->").count(), LEGAL.len() + 1);
        assert!(markdown().contains("| stopped | configured, starting |"));
    }
}
