//! What a check is, and what is known from it.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::history::History;
use super::hysteresis::{Hysteresis, Step, Thresholds};
use super::status::{Criticality, Verdict};
use crate::clock::Instant;
use crate::error::{Error, Kind, Result, did_you_mean};

/// The requirement's kinds of check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// Does it run?
    Liveness,
    /// Can it take work?
    Readiness,
    /// Is something outside there?
    Dependency,
    /// Is it fast enough?
    Performance,
    /// Is there enough of a resource?
    Resource,
}

impl CheckKind {
    /// Every kind, in the order of the requirement.
    pub const ALL: [CheckKind; 5] = [
        CheckKind::Liveness,
        CheckKind::Readiness,
        CheckKind::Dependency,
        CheckKind::Performance,
        CheckKind::Resource,
    ];

    /// The name used in events and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckKind::Liveness => "liveness",
            CheckKind::Readiness => "readiness",
            CheckKind::Dependency => "dependency",
            CheckKind::Performance => "performance",
            CheckKind::Resource => "resource",
        }
    }

    /// Parses the name used in events and configuration.
    ///
    /// # Errors
    /// [`Kind::Configuration`], with a suggestion.
    pub fn parse(name: &str) -> Result<CheckKind> {
        let known = CheckKind::ALL.map(CheckKind::as_str);
        CheckKind::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
            let hint = did_you_mean(name, known)
                .map_or_else(|| known.join(", "), |near| format!("did you mean `{near}`?"));
            let message = format!("`{name}` is no kind of check: {hint}");
            Error::new(Kind::Configuration, "build check", message)
        })
    }
}

impl fmt::Display for CheckKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// From which value on a measurement warns or fails.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Warns from here.
    pub warn: Option<f64>,
    /// Fails from here.
    pub fail: Option<f64>,
    /// Whether small values are the bad ones (free disk), instead of great ones (delay).
    pub lower_is_worse: bool,
}

impl Limits {
    /// What `value` means. A value that is no number fails: it was not measured.
    pub fn judge(&self, value: f64) -> Verdict {
        let reached = |limit: Option<f64>| {
            limit.is_some_and(|limit| {
                value.is_nan() || if self.lower_is_worse { value <= limit } else { value >= limit }
            })
        };
        match () {
            () if reached(self.fail) => Verdict::Fail,
            () if reached(self.warn) => Verdict::Warn,
            () => Verdict::Pass,
        }
    }
}

/// The definition of one check.
#[derive(Clone, Debug)]
pub struct Check {
    /// Unique within its component.
    pub name: String,
    /// What it tells about; the first is its main kind.
    pub kinds: Vec<CheckKind>,
    /// How much it weighs.
    pub criticality: Criticality,
    /// How often it runs; the requirement's 10 s.
    pub period: Duration,
    /// How long it may take; 1 s.
    pub timeout: Duration,
    /// How many results in a row change its verdict.
    pub thresholds: Thresholds,
    /// What a measured value means.
    pub limits: Limits,
}

impl Check {
    /// A check of one kind, everything else by default.
    pub fn builder(name: impl Into<String>, kind: CheckKind) -> CheckBuilder {
        let check = Check {
            name: name.into(),
            kinds: vec![kind],
            criticality: Criticality::default(),
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            thresholds: Thresholds::default(),
            limits: Limits::default(),
        };
        CheckBuilder { check, force: false }
    }

    /// Whether it counts for liveness.
    pub fn is_liveness(&self) -> bool {
        self.kinds.contains(&CheckKind::Liveness)
    }

    /// Whether it counts for readiness: everything does that is not about liveness alone.
    pub fn is_readiness(&self) -> bool {
        self.kinds.iter().any(|kind| *kind != CheckKind::Liveness)
    }
}

/// Builds a [`Check`].
#[derive(Clone, Debug)]
pub struct CheckBuilder {
    check: Check,
    force: bool,
}

impl CheckBuilder {
    /// It tells about this too.
    #[must_use]
    pub fn also(mut self, kind: CheckKind) -> Self {
        if !self.check.kinds.contains(&kind) {
            self.check.kinds.push(kind);
        }
        self
    }

    /// How much it weighs.
    #[must_use]
    pub fn criticality(mut self, criticality: Criticality) -> Self {
        self.check.criticality = criticality;
        self
    }

    /// How often it runs.
    #[must_use]
    pub fn period(mut self, period: Duration) -> Self {
        self.check.period = period;
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.check.timeout = timeout;
        self
    }

    /// How many results in a row change its verdict.
    #[must_use]
    pub fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.check.thresholds = thresholds;
        self
    }

    /// What a measured value means.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.check.limits = limits;
        self
    }

    /// Lets a dependency decide about liveness after all. A dependency's outage will then have
    /// healthy processes killed.
    #[must_use]
    pub fn force_liveness(mut self) -> Self {
        self.force = true;
        self
    }

    /// The check.
    ///
    /// # Errors
    /// [`Kind::Configuration`] without a name, period or timeout, for thresholds that contradict
    /// each other, and for liveness that depends on a dependency without
    /// [`CheckBuilder::force_liveness`].
    pub fn build(self) -> Result<Check> {
        let CheckBuilder { check, force } = self;
        let invalid = |message: String| {
            let error = Error::new(Kind::Configuration, "build check", message);
            Err(error.with("check", check.name.clone()))
        };
        if check.name.is_empty() {
            return invalid("a check needs a name".into());
        }
        if check.period.is_zero() || check.timeout.is_zero() {
            return invalid(format!("check `{}`: period and timeout must be above 0", check.name));
        }
        if check.is_liveness() && check.kinds.contains(&CheckKind::Dependency) && !force {
            return invalid(format!(
                "check `{}`: liveness must not depend on a dependency, whose outage would have \
                 healthy processes killed; make it a readiness check or force it",
                check.name
            ));
        }
        check.thresholds.validate()?;
        Ok(check)
    }
}

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
    /// What the run reported.
    pub outcome: Outcome,
}

/// A check with all that is known from its runs.
#[derive(Clone, Debug)]
pub struct CheckState {
    check: Check,
    hysteresis: Hysteresis,
    history: History<CheckRecord>,
}

impl CheckState {
    /// Nothing known yet; keeps the last `history_length` records, at least one.
    pub fn new(check: Check, history_length: usize) -> Self {
        let hysteresis = Hysteresis::new(check.thresholds);
        CheckState { check, hysteresis, history: History::new(history_length.max(1)) }
    }

    /// The definition.
    pub fn check(&self) -> &Check {
        &self.check
    }

    /// The verdict now, as it is.
    pub fn verdict(&self) -> Verdict {
        self.hysteresis.verdict()
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
            Some(said) => super::aggregate([said, judged]),
        };
        let step = self.hysteresis.feed(raw);
        self.history.push(CheckRecord { at, at_ms, took, raw, verdict: step.verdict, outcome });
        step
    }
}

#[cfg(test)]
mod tests {
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
    fn liveness_never_depends_on_a_dependency_unless_forced() {
        let builder = Check::builder("db", CheckKind::Dependency).also(CheckKind::Liveness);
        let error = builder.clone().build().unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(builder.force_liveness().build().unwrap().is_liveness());
        let ready = Check::builder("db", CheckKind::Dependency).build().unwrap();
        assert!(ready.is_readiness() && !ready.is_liveness());
    }

    #[test]
    fn a_check_that_cannot_run_is_refused() {
        let builder = |name| Check::builder(name, CheckKind::Resource);
        for wrong in [
            builder(""),
            builder("a").period(Duration::ZERO),
            builder("a").timeout(Duration::ZERO),
            builder("a").thresholds(Thresholds { success: 0, warn: 1, fail: 1 }),
        ] {
            assert_eq!(wrong.build().unwrap_err().kind(), Kind::Configuration);
        }
        assert!(CheckKind::parse("livenes").unwrap_err().message().contains("`liveness`"));
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
        assert_eq!(limits.judge(f64::NAN), Verdict::Fail);
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
}
