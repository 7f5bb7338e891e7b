//! The state machine of the circuit breaker, without locks, clocks or callbacks.
//!
//! Every state has a generation. An outcome carries the generation in which its call began; one
//! of an earlier generation is counted as late and decides nothing.

use std::time::Duration;

use super::settings::{BreakerSettings, HalfOpenRule, Mode, OnTimeout, Window};
use super::signal::Signal;
use super::state::{Metrics, State};
use super::window::{Counts, Mark, Tally};
use crate::clock::Instant;

/// Why a call may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub state: State,
    pub retry_after: Option<Duration>,
    pub opened_at: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Machine {
    settings: BreakerSettings,
    state: State,
    generation: u64,
    tally: Tally,
    /// What the window showed when it decided.
    frozen: Option<Counts>,
    /// How many calls the window needs before its rates mean something.
    minimum: u64,
    failures_in_a_row: u32,
    successes_in_a_row: u32,
    probes: u32,
    until: Option<Instant>,
    opened_at: Option<Instant>,
    trips: u32,
    announced: (bool, bool),
    not_permitted: u64,
    late: u64,
    abandoned: u64,
    rng: fastrand::Rng,
    signals: Vec<Signal>,
}

impl Machine {
    pub fn new(settings: BreakerSettings) -> Self {
        let rng = settings.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let tally = closed_tally(&settings.mode);
        Machine {
            state: State::Closed,
            generation: 0,
            tally,
            frozen: None,
            minimum: minimum(&settings, State::Closed),
            failures_in_a_row: 0,
            successes_in_a_row: 0,
            probes: 0,
            until: None,
            opened_at: None,
            trips: 0,
            announced: (false, false),
            not_permitted: 0,
            late: 0,
            abandoned: 0,
            rng,
            signals: Vec::new(),
            settings,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What there is to tell since the last call, in order.
    pub fn take_signals(&mut self) -> Vec<Signal> {
        std::mem::take(&mut self.signals)
    }

    /// Lets pass what time alone decides: the end of a half-open period.
    pub fn tick(&mut self, now: Instant) {
        if self.state == State::HalfOpen
            && let Some(limit) = self.until.filter(|limit| now >= *limit)
        {
            // As of the limit, not of when somebody looked: the outcome must not depend on that.
            match self.settings.on_timeout {
                OnTimeout::Open => self.open(limit, None),
                OnTimeout::Closed => self.enter(State::Closed, limit),
            }
        }
    }

    /// Asks for a call to pass; the answer is the generation to record it with.
    pub fn acquire(&mut self, now: Instant) -> Result<u64, Refusal> {
        self.tick(now);
        if self.state == State::Open && self.until.is_none_or(|until| now >= until) {
            self.enter(State::HalfOpen, now);
        }
        let passes = match self.state {
            State::HalfOpen => {
                let free = self.has_probe(now);
                self.probes += u32::from(free);
                free
            }
            state => state.is_free(),
        };
        if passes {
            return Ok(self.generation);
        }
        self.not_permitted += 1;
        let retry_after = self.until.map(|until| until.saturating_since(now));
        Err(Refusal { state: self.state, retry_after, opened_at: self.opened_at })
    }

    fn has_probe(&mut self, now: Instant) -> bool {
        let permits = self.settings.half_open_permits;
        let wanted = match self.settings.rule() {
            HalfOpenRule::Successes(count) => count,
            HalfOpenRule::KOfN { of, .. } => of,
            HalfOpenRule::Rate => permits,
        };
        // Neither more probes at once than permitted nor more of them than a verdict can need.
        let total = self.tally.counts(now).calls + u64::from(self.probes);
        self.probes < permits && total < u64::from(wanted.max(permits))
    }

    /// Takes a permit back without an outcome.
    pub fn release(&mut self, now: Instant, generation: u64, abandoned: bool) {
        self.tick(now);
        self.abandoned += u64::from(abandoned);
        if generation == self.generation && self.state == State::HalfOpen {
            self.probes = self.probes.saturating_sub(1);
        }
    }

    /// Takes the outcome of a call; returns whether it counted.
    pub fn record(
        &mut self,
        now: Instant,
        generation: u64,
        failed: bool,
        duration: Duration,
    ) -> bool {
        self.tick(now);
        if generation != self.generation {
            self.late += 1;
            return false;
        }
        let slow = matches!(self.settings.mode, Mode::Rate { slow, .. } if duration > slow);
        let mark = Mark { failed, slow };
        match self.state {
            State::Closed => self.record_closed(now, mark),
            State::HalfOpen => self.record_probe(now, mark),
            State::MetricsOnly => {
                self.count(now, mark);
                self.announce(now);
            }
            State::Open | State::ForcedOpen | State::Disabled => {}
        }
        true
    }

    /// Counts a success while closed, where neither the window nor the verdict asks for the time;
    /// false, with nothing counted, anywhere else.
    pub fn counts_a_success(&mut self, generation: u64) -> bool {
        let plain = matches!(self.settings.mode, Mode::Consecutive { .. } | Mode::KOfN { .. });
        let counts = plain && self.state == State::Closed && generation == self.generation;
        if counts {
            self.count(Instant::ZERO, Mark { failed: false, slow: false });
        }
        counts
    }

    fn count(&mut self, now: Instant, mark: Mark) {
        self.tally.record(now, mark);
        if mark.failed {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
            self.successes_in_a_row = 0;
        } else {
            self.failures_in_a_row = 0;
            self.successes_in_a_row = self.successes_in_a_row.saturating_add(1);
        }
    }

    fn record_closed(&mut self, now: Instant, mark: Mark) {
        self.count(now, mark);
        let trips = match self.settings.mode {
            Mode::Consecutive { threshold } => self.failures_in_a_row >= threshold,
            Mode::KOfN { failures, .. } => self.tally.counts(now).failed >= u64::from(failures),
            Mode::Rate { .. } => self.announce(now),
        };
        if trips {
            self.open(now, None);
        }
    }

    fn record_probe(&mut self, now: Instant, mark: Mark) {
        self.probes = self.probes.saturating_sub(1);
        self.count(now, mark);
        let counts = self.tally.counts(now);
        let verdict = match self.settings.rule() {
            HalfOpenRule::Successes(_) if mark.failed => Some(State::Open),
            HalfOpenRule::Successes(count) => {
                (self.successes_in_a_row >= count).then_some(State::Closed)
            }
            HalfOpenRule::KOfN { successes, of } => {
                if counts.calls - counts.failed >= u64::from(successes) {
                    Some(State::Closed)
                } else {
                    (counts.failed > u64::from(of - successes)).then_some(State::Open)
                }
            }
            HalfOpenRule::Rate => self
                .breach(counts)
                .map(|(failure, slow)| if failure || slow { State::Open } else { State::Closed }),
        };
        match verdict {
            Some(State::Open) => self.open(now, None),
            Some(state) => self.enter(state, now),
            None => {}
        }
    }

    /// Whether the failure and the slow rate are reached; `None` with too few calls.
    fn breach(&self, counts: Counts) -> Option<(bool, bool)> {
        let Mode::Rate { failure_percent, slow_percent, .. } = self.settings.mode else {
            return None;
        };
        (counts.calls >= self.minimum).then(|| {
            (
                counts.percent(counts.failed) >= failure_percent,
                counts.percent(counts.slow) >= slow_percent,
            )
        })
    }

    /// Announces each kind of breach once per state; returns whether there is any.
    fn announce(&mut self, now: Instant) -> bool {
        let counts = self.tally.counts(now);
        let Some((failure, slow)) = self.breach(counts) else { return false };
        if failure && !std::mem::replace(&mut self.announced.0, true) {
            let rate = counts.percent(counts.failed);
            self.signals.push(Signal::FailureRateExceeded { rate });
        }
        if slow && !std::mem::replace(&mut self.announced.1, true) {
            let rate = counts.percent(counts.slow);
            self.signals.push(Signal::SlowRateExceeded { rate });
        }
        failure || slow
    }

    /// How long until a call may pass: zero now, `None` when time alone does not help.
    pub fn retry_after(&mut self, now: Instant) -> Option<Duration> {
        self.tick(now);
        let state = self.state;
        match state {
            State::ForcedOpen => None,
            State::HalfOpen if self.has_probe(now) => Some(Duration::ZERO),
            State::Open | State::HalfOpen => self.until.map(|at| at.saturating_since(now)),
            _ => Some(Duration::ZERO),
        }
    }

    /// An operator's wish; false when it is not allowed from here. `wait` is the length of the
    /// open period, only for [`State::Open`].
    pub fn force(&mut self, now: Instant, to: State, wait: Option<Duration>) -> bool {
        self.tick(now);
        if !self.state.may_be_forced_to(to) {
            return false;
        }
        match to {
            State::Open if self.state == State::Open => {
                if let Some(wait) = wait {
                    self.until = Some(now.saturating_add(wait));
                }
            }
            State::Open => self.open(now, wait),
            to if to == self.state => {}
            to => self.enter(to, now),
        }
        true
    }

    /// Closes from any state and forgets everything counted.
    pub fn reset(&mut self, now: Instant) {
        self.tick(now);
        self.enter(State::Closed, now);
    }

    fn open(&mut self, now: Instant, wait: Option<Duration>) {
        self.trips = self.trips.saturating_add(1);
        let wait = wait.unwrap_or_else(|| {
            let wait = self.settings.open_for(self.trips);
            if self.settings.open_jitter {
                let open_max = self.settings.open_max;
                let spread = 0.9 + 0.2 * self.rng.f64();
                // A period near the end of time has no room to spread upwards.
                let seconds = wait.as_secs_f64() * spread;
                Duration::try_from_secs_f64(seconds).map_or(wait, |wait| wait.min(open_max))
            } else {
                wait
            }
        });
        self.enter(State::Open, now);
        self.opened_at = Some(now);
        self.until = Some(now.saturating_add(wait));
    }

    fn enter(&mut self, to: State, now: Instant) {
        let from = std::mem::replace(&mut self.state, to);
        self.generation += 1;
        self.until = None;
        self.probes = 0;
        match to {
            // The figures that decided stay readable while nothing new is counted.
            State::Open | State::ForcedOpen => {
                let counts = self.tally.counts(now);
                self.frozen.get_or_insert(counts);
            }
            State::Closed | State::HalfOpen | State::Disabled | State::MetricsOnly => {
                self.tally = match to {
                    State::HalfOpen => Tally::endless(),
                    _ => closed_tally(&self.settings.mode),
                };
                self.minimum = minimum(&self.settings, to);
                self.frozen = None;
                self.failures_in_a_row = 0;
                self.successes_in_a_row = 0;
                self.announced = (false, false);
                self.not_permitted = 0;
            }
        }
        if to == State::Closed {
            self.trips = 0;
            self.opened_at = None;
        }
        if to == State::HalfOpen {
            self.until = Some(now.saturating_add(self.settings.half_open_limit()));
        }
        if from != to {
            let generation = self.generation;
            self.signals.push(Signal::Transition { from, to, generation, at: now });
        }
    }

    pub fn metrics(&mut self, now: Instant) -> Metrics {
        self.tick(now);
        let counts = self.frozen.unwrap_or_else(|| self.tally.counts(now));
        let enough = counts.calls >= self.minimum;
        let percent = |part| enough.then(|| counts.percent(part));
        Metrics {
            state: self.state,
            generation: self.generation,
            calls: counts.calls,
            failed: counts.failed,
            slow: counts.slow,
            failure_percent: percent(counts.failed),
            slow_percent: percent(counts.slow),
            not_permitted: self.not_permitted,
            consecutive_failures: self.failures_in_a_row,
            trips: self.trips,
            probes: self.probes,
            late: self.late,
            abandoned: self.abandoned,
            opened_at: self.opened_at,
            until: self.until,
        }
    }
}

fn closed_tally(mode: &Mode) -> Tally {
    match mode {
        Mode::Consecutive { .. } => Tally::endless(),
        Mode::KOfN { of, .. } => Tally::new(Window::Calls(*of)),
        Mode::Rate { window, .. } => Tally::new(*window),
    }
}

fn minimum(settings: &BreakerSettings, state: State) -> u64 {
    let Mode::Rate { minimum, window, .. } = settings.mode else { return 1 };
    let size = match window {
        _ if state == State::HalfOpen => settings.half_open_permits,
        Window::Calls(size) => size,
        Window::Time(_) => u32::MAX,
    };
    u64::from(minimum.min(size))
}

#[cfg(test)]
mod tests;
