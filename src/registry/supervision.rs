//! Who restarts when something ends: the deciding part of supervision.
//!
//! A [`Supervisor`] answers one question, what to do about an exit, and does nothing itself.
//! It stands over a set of components that share one budget of restarts: at most `intensity`
//! within `period`. One supervisor per component gives each its own budget; one over a group
//! lets the group fail together, and its giving up is an exit for the supervisor above.
//!
//! [`Overrides`] is what single groups and components do otherwise, [`Wait`] how long to wait.
//!
//! The budget counts restarts, not starts, and a restart asked for by a person costs nothing.

mod overrides;
mod wait;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

pub use self::overrides::Overrides;
pub use self::wait::{Backoff, Wait};
use crate::clock::Instant;

/// Which exits call for a restart.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RestartType {
    /// Every exit.
    #[default]
    Permanent,
    /// Only an exit that was a failure.
    Transient,
    /// None.
    Temporary,
}

/// Who is restarted with the one that ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Nobody.
    #[default]
    OneForOne,
    /// Those that started after it.
    RestForOne,
    /// Everybody.
    OneForAll,
}

/// Why a component ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Somebody asked for it to stop.
    OperatorStop,
    /// It was done.
    Normal,
    /// It ended in good order because something around it shuts down.
    Shutdown,
    /// It failed, or it failed to start.
    Error,
    /// A hook of it outlasted its time.
    Timeout,
    /// The watchdog or its health checks gave it up.
    Watchdog,
}

impl Cause {
    /// Whether this exit was a failure.
    pub fn is_failure(self) -> bool {
        matches!(self, Cause::Error | Cause::Timeout | Cause::Watchdog)
    }
}

impl RestartType {
    /// Whether an exit for `cause` calls for a restart.
    pub fn wants_restart(self, cause: Cause) -> bool {
        match (self, cause) {
            (_, Cause::OperatorStop) | (RestartType::Temporary, _) => false,
            (RestartType::Permanent, _) => true,
            (RestartType::Transient, cause) => cause.is_failure(),
        }
    }
}

/// What one supervisor goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The restart type of components that have none of their own.
    pub restart: RestartType,
    /// Restart types of single components.
    pub restart_of: HashMap<String, RestartType>,
    /// Who is restarted with the one that ended.
    pub strategy: Strategy,
    /// How many restarts within `period` are borne; one more gives up.
    pub intensity: u32,
    /// The window in which restarts count; one exactly `period` old still counts.
    pub period: Duration,
    /// Whether giving up is passed to a supervisor above; then there is no cooldown.
    pub escalates: bool,
    /// How long after giving up one more start may be tried; doubles each time in a row. Zero:
    /// nobody tries.
    pub cooldown: Duration,
    /// The longest cooldown.
    pub max_cooldown: Duration,
    /// How long to wait before restarts.
    pub wait: Wait,
}

impl Default for Policy {
    /// Permanent, one_for_one, 3 restarts in 60 s, cooldown 5 min doubling to 1 h.
    fn default() -> Self {
        Policy {
            restart: RestartType::Permanent,
            restart_of: HashMap::new(),
            strategy: Strategy::OneForOne,
            intensity: 3,
            period: Duration::from_secs(60),
            escalates: false,
            cooldown: Duration::from_secs(300),
            max_cooldown: Duration::from_secs(3600),
            wait: Wait::default(),
        }
    }
}

/// What to do about an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Leave,
    /// Stop some, wait, start some.
    Restart {
        /// Whom to stop first, in this order; without the one that ended.
        stop: Vec<String>,
        /// Whom to start, in this order; a start that fails is one more exit, for
        /// [`Cause::Error`] or [`Cause::Timeout`].
        affected: Vec<String>,
        /// How long to wait between stopping and starting.
        after: Duration,
        /// Which restart within the period this is, from 1.
        attempt: u32,
    },
    /// Too many restarts: the supervised end.
    GiveUp {
        /// Whom to stop, in this order; without the one that ended.
        stop: Vec<String>,
        /// After what [`Supervisor::try_again`] may be called; none if the supervisor above
        /// decides, or a person.
        cooldown: Option<Duration>,
    },
}

/// Decides about the exits of the components under it.
///
/// Not shared: whoever carries verdicts out must do so one after the other anyway.
pub struct Supervisor {
    policy: Policy,
    backoff: Backoff,
    restarts: VecDeque<Instant>,
    running_since: HashMap<String, Instant>,
    given_up: Option<GivenUp>,
    /// How many times in a row it gave up: the power of two of the next cooldown.
    defeats: u32,
    /// How many times it gave up in all, which names each time.
    times: u64,
    /// Who is being tried again, until it has stayed up.
    probation: Option<String>,
}

#[derive(Clone, Debug)]
struct GivenUp {
    component: String,
    until: Option<Instant>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("policy", &self.policy)
            .field("restarts", &self.restarts.len())
            .field("given_up", &self.given_up)
            .field("defeats", &self.defeats)
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    /// A supervisor that has seen nothing yet.
    pub fn new(policy: Policy, backoff: Backoff) -> Self {
        Supervisor {
            policy,
            backoff,
            restarts: VecDeque::new(),
            running_since: HashMap::new(),
            given_up: None,
            defeats: 0,
            times: 0,
            probation: None,
        }
    }

    /// What it goes by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether it has given up and waits for [`Supervisor::try_again`] or a reset.
    pub fn has_given_up(&self) -> bool {
        self.given_up.is_some()
    }

    /// Which time it is that it has given up, if it has: one may be over, and another have come.
    pub fn defeat(&self) -> Option<u64> {
        self.given_up.is_some().then_some(self.times)
    }

    /// How many restarts count at `now`.
    pub fn restarts(&self, now: Instant) -> u32 {
        let counted = self.restarts.iter().filter(|at| self.counts(**at, now)).count();
        u32::try_from(counted).unwrap_or(u32::MAX)
    }

    /// Tells that `component` reached running, whoever started it.
    ///
    /// Once it has stayed there for twice the period, its past is forgiven.
    pub fn on_running(&mut self, component: &str, now: Instant) {
        self.running_since.insert(component.to_owned(), now);
    }

    /// Gives up because of `component` whatever is left of the budget: nothing else helped.
    pub fn surrender(&mut self, component: &str, now: Instant, order: &[&str]) -> Verdict {
        if self.given_up.is_some() {
            return Verdict::Leave;
        }
        self.give_up(component, now, order)
    }

    /// What to do about the exit of `component`.
    ///
    /// `order` holds the supervised components that take part, in start order. Hard dependents
    /// outside of it are the caller's to block and to resume.
    pub fn on_exit(
        &mut self,
        component: &str,
        cause: Cause,
        now: Instant,
        order: &[&str],
    ) -> Verdict {
        if let Some(tried) = self.probation.clone() {
            self.forgive(&tried, now);
        }
        self.forgive(component, now);
        self.running_since.remove(component);
        // The exits that follow giving up are its consequence, not news.
        if self.given_up.is_some() || !self.type_of(component).wants_restart(cause) {
            return Verdict::Leave;
        }
        while self.restarts.front().is_some_and(|at| !self.counts(*at, now)) {
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        let attempt = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        let intensity = if self.probation.is_some() { 1 } else { self.policy.intensity };
        if attempt > intensity {
            return self.give_up(component, now, order);
        }
        self.restart(component, order, (self.backoff)(attempt), attempt)
    }

    /// After the cooldown: one more start of the one that was given up, and of whom the
    /// strategy adds. Should it end again within the period, that is giving up once more.
    ///
    /// [`Verdict::Leave`] if nothing was given up, or it is too early, or the supervisor above
    /// decides.
    pub fn try_again(&mut self, now: Instant, order: &[&str]) -> Verdict {
        match self.given_up.take() {
            Some(GivenUp { component, until: Some(until) }) if now >= until => {
                self.restarts.clear();
                self.restarts.push_back(now);
                self.probation = Some(component.clone());
                // Giving up has stopped everybody, so that everybody comes back.
                let everybody: Vec<String> = order
                    .iter()
                    .filter(|name| self.comes_back(name, &component))
                    .map(|name| name.to_string())
                    .collect();
                let affected = if everybody.is_empty() { vec![component] } else { everybody };
                Verdict::Restart { stop: Vec::new(), affected, after: Duration::ZERO, attempt: 1 }
            }
            other => {
                self.given_up = other;
                Verdict::Leave
            }
        }
    }

    /// Forgets every restart and defeat: a person, or the supervisor above, starts afresh.
    pub fn reset(&mut self) {
        self.restarts.clear();
        self.running_since.clear();
        self.given_up = None;
        self.defeats = 0;
        self.probation = None;
    }

    fn type_of(&self, component: &str) -> RestartType {
        self.policy.restart_of.get(component).copied().unwrap_or(self.policy.restart)
    }

    fn comes_back(&self, name: &str, ended: &str) -> bool {
        name == ended || self.type_of(name) != RestartType::Temporary
    }

    fn counts(&self, at: Instant, now: Instant) -> bool {
        now.saturating_since(at) <= self.policy.period
    }

    /// Clears the past of a component that stayed up for twice the period.
    fn forgive(&mut self, component: &str, now: Instant) {
        let Some(&since) = self.running_since.get(component) else { return };
        let up = now.saturating_since(since);
        if up < self.policy.period.saturating_mul(2) {
            return;
        }
        // Restarts of others in the meantime are not this one's to forgive.
        self.restarts.retain(|at| *at > since);
        if self.probation.as_deref() == Some(component) {
            self.probation = None;
            self.defeats = 0;
        }
    }

    fn restart(
        &mut self,
        component: &str,
        order: &[&str],
        after: Duration,
        attempt: u32,
    ) -> Verdict {
        let place = order.iter().position(|name| *name == component);
        let affected: &[&str] = match (self.policy.strategy, place) {
            (Strategy::OneForAll, _) => order,
            (Strategy::RestForOne, Some(place)) => &order[place..],
            (Strategy::OneForOne, Some(place)) => &order[place..=place],
            (_, None) => &[component],
        };
        for name in affected {
            self.running_since.remove(*name);
        }
        let others = affected.iter().rev().filter(|name| **name != component);
        let back = affected.iter().filter(|name| self.comes_back(name, component));
        Verdict::Restart {
            stop: others.map(|name| name.to_string()).collect(),
            affected: back.map(|name| name.to_string()).collect(),
            after,
            attempt,
        }
    }

    fn give_up(&mut self, component: &str, now: Instant, order: &[&str]) -> Verdict {
        let doubled = 2u32.checked_pow(self.defeats).unwrap_or(u32::MAX);
        let cooldown = self.policy.cooldown.saturating_mul(doubled).min(self.policy.max_cooldown);
        let cooldown = (!self.policy.escalates && !cooldown.is_zero()).then_some(cooldown);
        self.defeats = self.defeats.saturating_add(1);
        self.times += 1;
        self.probation = None;
        self.restarts.clear();
        self.running_since.clear();
        self.given_up = Some(GivenUp {
            component: component.to_owned(),
            until: cooldown.map(|cooldown| now.saturating_add(cooldown)),
        });
        let stop = order.iter().rev().filter(|name| **name != component);
        Verdict::GiveUp { stop: stop.map(|name| name.to_string()).collect(), cooldown }
    }
}

#[cfg(test)]
mod tests;
