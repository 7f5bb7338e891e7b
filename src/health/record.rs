//! What is known from the runs of a check.

use std::time::Duration;

use serde_json::{Map, Value};

use super::check::Check;
use super::flap::Flap;
use super::history::History;
use super::hysteresis::{Hysteresis, Step};
use super::status::{Criticality, Verdict, aggregate};
use crate::clock::Instant;

/// One run of a check, as whoever ran it reports it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What the check said; `None` when it crashed or was aborted, which says nothing.
    pub verdict: Option<Verdict>,
    /// Words for a person.
    pub message: Option<String>,
    /// What was measured; judged by the check's limits.
    pub value: Option<f64>,
    /// Further facts.
    pub details: Map<String, Value>,
}

impl Outcome {
    /// The check said `verdict`.
    pub fn new(verdict: Verdict) -> Self {
        Outcome { verdict: Some(verdict), ..Outcome::default() }
    }

    /// The check measured `value`; its limits say what that means.
    pub fn measured(value: f64) -> Self {
        Outcome { value: Some(value), ..Outcome::new(Verdict::Pass) }
    }

    /// The check itself crashed: neutral.
    pub fn crashed(message: impl Into<String>) -> Self {
        Outcome { message: Some(message.into()), ..Outcome::default() }
    }

    /// Adds words for a person.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

/// One entry of a check's history.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckRecord {
    /// When it ran.
    pub at: Instant,
    /// When it ran, in Unix milliseconds.
    pub at_ms: i64,
    /// How long it took.
    pub took: Duration,
    /// What this run said by itself.
    pub raw: Verdict,
    /// The check's verdict after it.
    pub verdict: Verdict,
    /// Whether it reached a threshold, even if the verdict stayed.
    pub applied: bool,
    /// What the run reported.
    pub outcome: Outcome,
}

/// A check with all that is known from its runs.
#[derive(Clone, Debug)]
pub struct CheckState {
    check: Check,
    hysteresis: Hysteresis,
    flap: Flap,
    history: History<CheckRecord>,
    /// Whether its first answer is waited for.
    awaited: bool,
}

impl CheckState {
    /// Nothing known yet; keeps the last `history_length` records, at least one.
    pub fn new(check: Check, history_length: usize) -> Self {
        let hysteresis = Hysteresis::new(check.thresholds);
        let flap = Flap::new(check.period);
        let history = History::new(history_length.max(1));
        CheckState { check, hysteresis, flap, history, awaited: false }
    }

    /// The same check of a component that begins anew: nothing is known of it, and its first answer
    /// is waited for where it is `asked`. What its runs said before stays in the history. Returns
    /// whether it was held.
    pub fn begin_anew(&mut self, asked: bool) -> bool {
        self.hysteresis.begin_anew();
        self.awaited = asked;
        let flap = Flap::new(self.check.period);
        std::mem::replace(&mut self.flap, flap).is_held()
    }

    /// Its first answer is waited for, unless there was one.
    pub fn await_answer(&mut self) {
        self.awaited = true;
    }

    /// Whether the component cannot take work before this has said something.
    pub fn is_awaited(&self) -> bool {
        self.awaited
            && self.hysteresis.verdict() == Verdict::Unknown
            && self.check.is_readiness()
            && self.check.criticality == Criticality::Critical
    }

    /// What takes its place under the same name; how often it said nothing goes on to be counted.
    #[must_use]
    pub fn replaced(&self, check: Check, history_length: usize) -> Self {
        let mut next = CheckState::new(check, history_length);
        next.hysteresis.follow(&self.hysteresis);
        next.awaited = self.is_awaited();
        next
    }

    /// The definition.
    pub fn check(&self) -> &Check {
        &self.check
    }

    /// The verdict now, as it is; `warn` while it changes too often.
    pub fn verdict(&self) -> Verdict {
        if self.flap.is_held() { Verdict::Warn } else { self.hysteresis.verdict() }
    }

    /// Whether it changes too often, and is held.
    pub fn is_flapping(&self) -> bool {
        self.flap.is_held()
    }

    /// What it contributes to the whole.
    pub fn contribution(&self) -> Verdict {
        self.check.criticality.contribution(self.verdict())
    }

    /// The records, oldest first.
    pub fn history(&self) -> &History<CheckRecord> {
        &self.history
    }

    /// Failed runs in a row.
    pub fn consecutive_failures(&self) -> u32 {
        self.hysteresis.consecutive_failures()
    }

    /// Runs that crashed or were aborted.
    pub fn check_errors(&self) -> u64 {
        self.hysteresis.check_errors()
    }

    /// Time since the last run.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.history.last().map(|record| now.saturating_since(record.at))
    }

    /// Whether the last run is more than three periods old.
    pub fn is_stale(&self, now: Instant) -> bool {
        self.age(now).is_some_and(|age| age > self.check.period.saturating_mul(3))
    }

    /// Takes the outcome of a run that began at `at` (`at_ms` Unix) and took `took`.
    pub fn record(&mut self, at: Instant, at_ms: i64, took: Duration, outcome: Outcome) -> Step {
        let judged = outcome.value.map_or(Verdict::Pass, |value| self.check.limits.judge(value));
        let raw = match outcome.verdict {
            None => Verdict::Unknown,
            Some(said) => aggregate([said, judged]),
        };
        let (before, held) = (self.hysteresis.verdict(), self.verdict());
        let step = self.hysteresis.feed(raw);
        // What is known for the first time is no change of mind.
        self.flap.feed(at, step.changed && before != Verdict::Unknown);
        let verdict = self.verdict();
        let step = Step { verdict, changed: verdict != held, ..step };
        let applied = step.applied;
        self.history.push(CheckRecord { at, at_ms, took, raw, verdict, applied, outcome });
        step
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{CheckKind, Limits};
    use super::super::hysteresis::Thresholds;
    use super::*;

    fn state(limits: Limits) -> CheckState {
        let thresholds = Thresholds { success: 1, warn: 1, fail: 2 };
        let check = Check::builder("delay", CheckKind::Performance)
            .limits(limits)
            .thresholds(thresholds)
            .build();
        CheckState::new(check.unwrap(), 2)
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_value_is_judged_and_the_history_is_bounded() {
        let limits = Limits { warn: Some(10.0), fail: Some(100.0), lower_is_worse: false };
        let mut state = state(limits);
        for (second, value, verdict) in [
            (0, 9.9, Verdict::Pass),
            (10, 10.0, Verdict::Warn),
            (20, 100.0, Verdict::Warn),
            (30, 100.0, Verdict::Fail),
        ] {
            let step = state.record(at(second), 0, Duration::ZERO, Outcome::measured(value));
            assert_eq!(step.verdict, verdict, "{value}");
        }
        assert_eq!(state.history().len(), 2);
        assert_eq!(state.consecutive_failures(), 2);
        for limits in [limits, Limits { fail: None, ..limits }, Limits::default()] {
            assert_eq!(limits.judge(f64::NAN), Verdict::Fail);
        }
        let free = Limits { warn: Some(10.0), fail: Some(1.0), lower_is_worse: true };
        assert_eq!(
            [11.0, 10.0, 1.0].map(|v| free.judge(v)),
            [Verdict::Pass, Verdict::Warn, Verdict::Fail]
        );
    }

    #[test]
    fn a_crash_keeps_the_verdict_and_age_tells_when_it_is_stale() {
        let mut state = state(Limits::default());
        assert_eq!((state.age(at(9)), state.is_stale(at(9))), (None, false));
        state.record(at(0), 0, Duration::ZERO, Outcome::new(Verdict::Pass));
        state.record(at(10), 0, Duration::ZERO, Outcome::crashed("no such method"));
        assert_eq!((state.verdict(), state.check_errors()), (Verdict::Pass, 1));
        assert!(!state.is_stale(at(40)));
        assert!(state.is_stale(at(41)));
    }

    #[test]
    fn a_new_life_knows_nothing_and_waits_for_an_answer() {
        let mut state = state(Limits::default());
        assert!(!state.is_awaited(), "one that was added at work");
        state.record(at(0), 0, Duration::ZERO, Outcome::new(Verdict::Fail));
        state.record(at(1), 0, Duration::ZERO, Outcome::crashed("no such method"));
        assert!(!state.begin_anew(true));
        assert_eq!((state.verdict(), state.consecutive_failures()), (Verdict::Unknown, 0));
        assert_eq!((state.history().len(), state.check_errors()), (2, 1), "what was counted stays");
        assert!(state.is_awaited());
        state.record(at(2), 0, Duration::ZERO, Outcome::new(Verdict::Pass));
        assert_eq!((state.verdict(), state.is_awaited()), (Verdict::Pass, false));
        state.begin_anew(false);
        assert!(!state.is_awaited(), "where nobody asks, nobody waits");
    }
}
