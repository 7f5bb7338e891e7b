//! Whether to try again and after how long: a pure decision, for others to carry out.
//!
//! The order is fixed: category -> attempts -> elapsed -> wait (raw, cap, jitter, floor, server's
//! hint) -> time left -> budget. The budget comes last and apart (see [`super::BudgetedCall`]),
//! since asking it costs a token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::backoff::{Backoff, Draws};
use crate::error::{Category, Error, Kind, Result};

/// One failed attempt, as far as the decision needs it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Which attempt failed; the first call is 1.
    pub number: u32,
    /// What kind of failure it was.
    pub category: Category,
    /// Whether a circuit breaker rejected it, so that nothing was called.
    pub circuit_open: bool,
    /// Time since the first attempt began.
    pub elapsed: Duration,
    /// Time until the caller's own deadline.
    pub deadline_left: Option<Duration>,
    /// How long the server asked to wait.
    pub hint: Option<Duration>,
}

impl Attempt {
    /// The `number`-th attempt failed with `category` after `elapsed`; no deadline, no hint.
    pub fn new(number: u32, category: Category, elapsed: Duration) -> Self {
        Attempt { number, category, circuit_open: false, elapsed, deadline_left: None, hint: None }
    }

    /// The attempt failed with `error`, which knows its category.
    pub fn failed(number: u32, error: &Error, elapsed: Duration) -> Self {
        let circuit_open = error.kind() == Kind::CircuitOpen;
        Attempt { circuit_open, ..Attempt::new(number, error.category(), elapsed) }
    }
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again.
    Retry {
        /// After this wait.
        after: Duration,
    },
    /// Hand the original error to the caller.
    GiveUp {
        /// Why.
        reason: GiveUp,
    },
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GiveUp {
    /// The same work would fail again.
    NotRetryable,
    /// A circuit breaker rejected the call; trying again at once is what it prevents.
    CircuitOpen,
    /// All attempts are used.
    Attempts,
    /// The time for all attempts is over, or would be after the wait.
    Elapsed,
    /// The caller's deadline would pass during the wait.
    Deadline,
    /// The wait outgrew all bounds and has no cap.
    Overflow,
    /// The dependency gets too many retries already.
    Budget,
}

impl GiveUp {
    /// The name used in events and notes.
    pub fn as_str(self) -> &'static str {
        match self {
            GiveUp::NotRetryable => "not_retryable",
            GiveUp::CircuitOpen => "circuit_open",
            GiveUp::Attempts => "attempts",
            GiveUp::Elapsed => "elapsed",
            GiveUp::Deadline => "deadline",
            GiveUp::Overflow => "overflow",
            GiveUp::Budget => "budget",
        }
    }
}

impl fmt::Display for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often and when to try again.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    max_attempts: Option<u32>,
    max_elapsed: Option<Duration>,
    backoff: Backoff,
    retry_circuit_open: bool,
    rng: Arc<Mutex<fastrand::Rng>>,
}

impl Default for RetryPolicy {
    /// The requirement's: 3 attempts, 100 ms doubling up to 10 s, full jitter.
    fn default() -> Self {
        RetryPolicy {
            max_attempts: Some(3),
            max_elapsed: None,
            backoff: Backoff::default(),
            retry_circuit_open: false,
            rng: Arc::new(Mutex::new(fastrand::Rng::new())),
        }
    }
}

impl RetryPolicy {
    /// Starts from the default policy.
    pub fn builder() -> RetryPolicyBuilder {
        RetryPolicyBuilder { policy: RetryPolicy::default(), seed: None }
    }

    /// The most attempts, the first call included.
    pub fn max_attempts(&self) -> Option<u32> {
        self.max_attempts
    }

    /// The longest time for all attempts.
    pub fn max_elapsed(&self) -> Option<Duration> {
        self.max_elapsed
    }

    /// The schedule of waits.
    pub fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// The random numbers for one run of attempts, derived from the policy's seed.
    pub fn draws(&self) -> Draws {
        Draws::from_rng(self.rng.lock().fork())
    }

    /// What to do after `attempt` failed. `draws` belong to this run of attempts.
    pub fn decide(&self, attempt: &Attempt, draws: &mut Draws) -> Decision {
        match self.wait(attempt, draws) {
            Ok(after) => Decision::Retry { after },
            Err(reason) => Decision::GiveUp { reason },
        }
    }

    fn wait(&self, attempt: &Attempt, draws: &mut Draws) -> Result<Duration, GiveUp> {
        if attempt.circuit_open && !self.retry_circuit_open {
            return Err(GiveUp::CircuitOpen);
        }
        if !attempt.category.is_retryable() {
            return Err(GiveUp::NotRetryable);
        }
        if self.max_attempts.is_some_and(|most| attempt.number >= most) {
            return Err(GiveUp::Attempts);
        }
        if self.max_elapsed.is_some_and(|limit| attempt.elapsed >= limit) {
            return Err(GiveUp::Elapsed);
        }
        let after =
            self.backoff.wait(attempt.number, draws, attempt.hint).ok_or(GiveUp::Overflow)?;
        // A wait that ends exactly at the limit leaves no time for the attempt.
        let end = attempt.elapsed.saturating_add(after);
        if self.max_elapsed.is_some_and(|limit| end >= limit) {
            return Err(GiveUp::Elapsed);
        }
        if attempt.deadline_left.is_some_and(|left| after >= left) {
            return Err(GiveUp::Deadline);
        }
        Ok(after)
    }
}

/// Builds a [`RetryPolicy`]; what is not set is the requirement's default.
#[derive(Clone, Debug)]
pub struct RetryPolicyBuilder {
    policy: RetryPolicy,
    seed: Option<u64>,
}

impl RetryPolicyBuilder {
    /// The most attempts, the first call included; `None` leaves the end to `max_elapsed`.
    #[must_use]
    pub fn max_attempts(mut self, most: impl Into<Option<u32>>) -> Self {
        self.policy.max_attempts = most.into();
        self
    }

    /// The longest time from the first attempt until the last may begin.
    #[must_use]
    pub fn max_elapsed(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.policy.max_elapsed = limit.into();
        self
    }

    /// The schedule of waits.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// Whether a rejection by a circuit breaker is tried again like any other failure.
    #[must_use]
    pub fn retry_circuit_open(mut self, yes: bool) -> Self {
        self.policy.retry_circuit_open = yes;
        self
    }

    /// The same seed gives the same waits.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The policy.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for no attempts at all, for a policy without an end, and for a
    /// backoff whose figures contradict each other.
    pub fn build(self) -> Result<RetryPolicy> {
        let RetryPolicyBuilder { mut policy, seed } = self;
        let invalid = |field, message| {
            Err(Error::new(Kind::Configuration, "build retry policy", message).with("field", field))
        };
        if policy.max_attempts == Some(0) {
            let message = "`max_attempts` counts the first call and must be at least 1";
            return invalid("max_attempts", message);
        }
        if policy.max_attempts.is_none() && policy.max_elapsed.is_none() {
            let message = "give `max_attempts` or `max_elapsed`: retries must end";
            return invalid("max_attempts", message);
        }
        policy.backoff.validate()?;
        // A built policy never shares its random numbers with the one it was cloned from.
        let rng = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        policy.rng = Arc::new(Mutex::new(rng));
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Jitter;
    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn constant(seconds: f64) -> RetryPolicyBuilder {
        let backoff = Backoff::constant(secs(seconds)).with_jitter(Jitter::None);
        RetryPolicy::builder().backoff(backoff)
    }

    fn decide(policy: &RetryPolicy, attempt: Attempt) -> Decision {
        policy.decide(&attempt, &mut policy.draws())
    }

    fn transient(number: u32, elapsed: f64) -> Attempt {
        Attempt::new(number, Category::Transient, secs(elapsed))
    }

    const fn give_up(reason: GiveUp) -> Decision {
        Decision::GiveUp { reason }
    }

    #[test]
    fn rc_001_three_attempts_wait_twice() {
        let policy = constant(1.0).max_attempts(3).build().unwrap();
        let again = Decision::Retry { after: secs(1.0) };
        assert_eq!(decide(&policy, transient(1, 0.0)), again);
        assert_eq!(decide(&policy, transient(2, 1.0)), again);
        assert_eq!(decide(&policy, transient(3, 2.0)), give_up(GiveUp::Attempts));
    }

    #[test]
    fn rc_003_the_elapsed_limit_is_inclusive() {
        let policy = constant(0.0).max_attempts(None).max_elapsed(secs(1.0)).build().unwrap();
        for (elapsed, stop) in [(0.999, false), (1.0, true), (1.001, true)] {
            let gave_up = decide(&policy, transient(1, elapsed)) == give_up(GiveUp::Elapsed);
            assert_eq!(gave_up, stop, "at {elapsed}");
        }
    }

    #[test]
    fn rc_004_no_wait_reaches_the_limit_or_the_deadline() {
        for (wait, stop) in [(0.49, false), (0.5, true), (0.51, true)] {
            let policy = constant(wait).max_elapsed(secs(1.0)).build().unwrap();
            let gave_up = decide(&policy, transient(1, 0.5)) == give_up(GiveUp::Elapsed);
            assert_eq!(gave_up, stop, "wait {wait}");
            let policy = constant(wait).build().unwrap();
            let attempt = Attempt { deadline_left: Some(secs(0.5)), ..transient(1, 0.5) };
            assert_eq!(decide(&policy, attempt) == give_up(GiveUp::Deadline), stop, "wait {wait}");
        }
    }

    #[test]
    fn rc_006_a_rejection_by_a_breaker_is_not_retried_unless_wished() {
        let error = Error::new(Kind::CircuitOpen, "call", "open");
        let attempt = Attempt::failed(1, &error, Duration::ZERO);
        let policy = constant(1.0).build().unwrap();
        assert_eq!(decide(&policy, attempt), give_up(GiveUp::CircuitOpen));
        let policy = constant(1.0).retry_circuit_open(true).build().unwrap();
        assert_eq!(decide(&policy, attempt), Decision::Retry { after: secs(1.0) });
    }

    #[test]
    fn only_transient_and_dependency_failures_are_retried() {
        let policy = constant(1.0).build().unwrap();
        for category in Category::ALL {
            let retried = decide(&policy, Attempt::new(1, category, Duration::ZERO))
                != give_up(GiveUp::NotRetryable);
            let expected = matches!(category, Category::Transient | Category::Dependency);
            assert_eq!(retried, expected, "{category}");
        }
    }

    #[test]
    fn the_default_is_the_requirements() {
        let policy = RetryPolicy::default();
        let mut upper = Draws::fixed(1.0);
        for (number, ms) in [(1, 100), (2, 200)] {
            let after = Duration::from_millis(ms);
            let decision = policy.decide(&transient(number, 0.0), &mut upper);
            assert_eq!(decision, Decision::Retry { after });
        }
        assert_eq!(decide(&policy, transient(3, 0.0)), give_up(GiveUp::Attempts));
        assert_eq!(policy.backoff().cap(), Some(secs(10.0)));
    }

    #[test]
    fn a_servers_hint_counts_against_the_deadline() {
        let policy = constant(1.0).build().unwrap();
        let hinted = Attempt { hint: Some(secs(5.0)), ..transient(1, 0.0) };
        assert_eq!(decide(&policy, hinted), Decision::Retry { after: secs(5.0) });
        let late = Attempt { deadline_left: Some(secs(4.0)), ..hinted };
        assert_eq!(decide(&policy, late), give_up(GiveUp::Deadline));
    }

    #[test]
    fn a_policy_without_attempts_or_end_is_refused() {
        let endless = RetryPolicy::builder().max_attempts(None).build();
        let bad_curve = Backoff::exponential(secs(1.0), -2.0);
        for wrong in [
            endless,
            RetryPolicy::builder().max_attempts(0).build(),
            RetryPolicy::builder().backoff(bad_curve).build(),
        ] {
            assert_eq!(wrong.unwrap_err().kind(), Kind::Configuration);
        }
    }

    #[test]
    fn a_seed_repeats_runs_which_differ_among_themselves() {
        let waits = || {
            let policy = RetryPolicy::builder().seed(5).build().unwrap();
            [policy.draws(), policy.draws()]
                .map(|mut draws| policy.decide(&transient(1, 0.0), &mut draws))
        };
        let [first, second] = waits();
        assert_eq!([first, second], waits());
        assert_ne!(first, second);
    }
}
