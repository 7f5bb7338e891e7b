//! A breaker's six states and its figures.

use std::fmt;

use crate::clock::Instant;

/// A breaker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls pass and are counted.
    Closed,
    /// Calls are rejected until the open period is over.
    Open,
    /// A few probes pass to find out.
    HalfOpen,
    /// Rejects until somebody changes it.
    ForcedOpen,
    /// Lets everything pass and counts nothing.
    Disabled,
    /// Lets everything pass, counts and announces, never opens.
    MetricsOnly,
}

impl State {
    /// Every state.
    pub const ALL: [State; 6] = [
        State::Closed,
        State::Open,
        State::HalfOpen,
        State::ForcedOpen,
        State::Disabled,
        State::MetricsOnly,
    ];

    /// Of two, the one that lets less through: of several breakers of one name, that is shown.
    #[must_use]
    pub fn strictest(self, other: State) -> State {
        const LEAST_FIRST: [State; 6] = [
            State::ForcedOpen,
            State::Open,
            State::HalfOpen,
            State::Closed,
            State::MetricsOnly,
            State::Disabled,
        ];
        LEAST_FIRST.into_iter().find(|state| [self, other].contains(state)).unwrap_or(self)
    }

    /// The name used in events, configuration and health.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
            State::ForcedOpen => "forced_open",
            State::Disabled => "disabled",
            State::MetricsOnly => "metrics_only",
        }
    }

    /// Parses the name used in events, configuration and health.
    pub fn parse(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether an operator may put a breaker in this state into `to`.
    pub fn may_be_forced_to(self, to: State) -> bool {
        match self {
            State::Closed => to != State::HalfOpen,
            State::MetricsOnly => !matches!(to, State::Open | State::HalfOpen),
            _ => true,
        }
    }

    /// Whether calls pass without asking the machine.
    pub(super) fn is_free(self) -> bool {
        matches!(self, State::Closed | State::Disabled | State::MetricsOnly)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A breaker's figures at one moment.
///
/// While it is open they are those of the window that decided. Counts belong to the present
/// window and begin anew with it; `late` and `abandoned` are totals.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// The present state.
    pub state: State,
    /// The number of the present state.
    pub generation: u64,
    /// Calls in the window.
    pub calls: u64,
    /// Failed calls in the window.
    pub failed: u64,
    /// Slow calls in the window.
    pub slow: u64,
    /// Failed calls in percent; `None` while there are too few calls.
    pub failure_percent: Option<f64>,
    /// Slow calls in percent; `None` while there are too few calls.
    pub slow_percent: Option<f64>,
    /// Rejected calls since the window began.
    pub not_permitted: u64,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Open periods since it was last closed.
    pub trips: u32,
    /// Probes in flight.
    pub probes: u32,
    /// Outcomes that came after the state in which their call began.
    pub late: u64,
    /// Permits given back without an outcome.
    pub abandoned: u64,
    /// When the present or last open period began.
    pub opened_at: Option<Instant>,
    /// When calls may pass again, while they may not.
    pub until: Option<Instant>,
}
