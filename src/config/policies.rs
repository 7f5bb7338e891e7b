//! The named policies of `error_handling.policies`: which stages there are, and their keys.

use super::schema::Kind::{Choice, Duration, Flag, Integer, Number};
use super::schema::Unit::{Milliseconds, Seconds};
use super::schema::Zero::{Allowed, Refused};
use super::schema::{Key, optional};

/// The section that holds the policies; its keys are the users'.
pub const POLICIES: &str = "error_handling.policies";

/// Keys of a policy, below its name. A stage that is not said is not there.
#[rustfmt::skip] // a table is read by columns
pub const POLICY_KEYS: &[Key] = &[
    optional("timeout", Duration(Seconds, Refused), "longest time for all attempts, in seconds"),
    optional("retry.max_attempts", Integer(1, 1_000), "tries, the first included"),
    optional("retry.initial_delay", Duration(Milliseconds, Allowed), "wait after the first failure, in milliseconds"),
    optional("retry.multiplier", Number(1.0, 1_000.0), "growth of the wait per failure"),
    optional("retry.max_delay", Duration(Milliseconds, Allowed), "longest wait, in milliseconds"),
    optional("retry.jitter", Choice(&["full", "equal", "none"]), "how the wait is spread"),
    optional("retry.max_elapsed", Duration(Seconds, Refused), "no attempt begins later than this, in seconds"),
    optional("retry.budget.ratio", Number(0.0, 1_000.0), "retries per call"),
    optional("retry.budget.min_per_second", Integer(0, 1_000_000), "retries that need no calls"),
    optional("retry.budget.ttl", Duration(Seconds, Refused), "how long calls count, 1 to 60 seconds"),
    optional("hedge.delay", Duration(Seconds, Allowed), "time until a call is made a second time, in seconds"),
    optional("hedge.max_hedges", Integer(1, 100), "attempts beside the first"),
    optional("circuit_breaker.threshold", Integer(1, 1_000_000), "failures, in a row or among `of` calls"),
    optional("circuit_breaker.of", Integer(1, 1_000_000), "among how many calls failures are counted"),
    optional("circuit_breaker.failure_rate", Number(0.0, 100.0), "failed calls in percent"),
    optional("circuit_breaker.slow_rate", Number(0.0, 100.0), "slow calls in percent"),
    optional("circuit_breaker.slow_call", Duration(Seconds, Refused), "above this a call is slow, in seconds"),
    optional("circuit_breaker.minimum_calls", Integer(1, 1_000_000), "fewer calls give no verdict"),
    optional("circuit_breaker.window_calls", Integer(1, 1_000_000), "over how many calls rates are computed"),
    optional("circuit_breaker.window_time", Duration(Seconds, Refused), "over how many seconds instead"),
    optional("circuit_breaker.reset_timeout", Duration(Seconds, Refused), "time it stays open, in seconds"),
    optional("circuit_breaker.reset_factor", Number(1.0, 1_000.0), "growth of that time per opening"),
    optional("circuit_breaker.reset_max", Duration(Seconds, Refused), "the longest it stays open, in seconds"),
    optional("circuit_breaker.reset_jitter", Flag, "vary it by a tenth"),
    optional("circuit_breaker.probes", Integer(1, 1_000_000), "calls at a time that find out whether to close"),
    optional("circuit_breaker.successes", Integer(1, 1_000_000), "successes that close it"),
    optional("circuit_breaker.successes_of", Integer(1, 1_000_000), "among so many probes"),
    optional("circuit_breaker.probe_timeout", Duration(Seconds, Refused), "time for the probes, in seconds"),
    optional("circuit_breaker.on_probe_timeout", Choice(&["open", "closed"]), "what it is when that has passed"),
    optional("rate_limit.limit", Integer(1, 1_000_000_000), "calls per period"),
    optional("rate_limit.period", Duration(Seconds, Refused), "the period, in seconds"),
    optional("rate_limit.max_wait", Duration(Seconds, Allowed), "longest wait for a permit, in seconds"),
    optional("bulkhead.max_concurrent", Integer(1, 1_000_000), "calls at once"),
    optional("bulkhead.max_waiting", Integer(0, 1_000_000), "calls that may wait for a place"),
    optional("bulkhead.max_wait", Duration(Seconds, Allowed), "longest wait for a place, in seconds"),
    optional("attempt_timeout", Duration(Seconds, Refused), "longest time for one attempt, in seconds"),
];
