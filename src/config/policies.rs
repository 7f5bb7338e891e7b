//! The named policies of `error_handling.policies`: which stages there are, and their keys.

use serde_json::{Map, Value};

use super::layers::lookup;
use super::schema::Kind::{Choice, Duration, Flag, Integer, Number};
use super::schema::Unit::{Milliseconds, Seconds};
use super::schema::Zero::{Allowed, Refused};
use super::schema::{Key, Kind, optional};
use super::{path, validate};

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

/// The key at `path`, the part below the policy's name.
pub(super) fn find(below: &str) -> Option<&'static Key> {
    POLICY_KEYS.iter().find(|key| key.path == below)
}

/// What a value at `path`, from the root, must be, if it is a policy's.
pub(super) fn kind_of(path: &str) -> Option<Kind> {
    let below = path.strip_prefix(POLICIES)?.strip_prefix('.')?;
    let (_, key) = below.split_once('.')?;
    find(key).map(|key| key.kind)
}

/// The names that may stand directly in `section` of a policy, the empty one for itself.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in POLICY_KEYS {
        let below = match key.path.strip_prefix(section) {
            Some(below) if section.is_empty() => below,
            Some(below) => match below.strip_prefix('.') {
                Some(below) => below,
                None => continue,
            },
            None => continue,
        };
        let name = below.split('.').next().unwrap_or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What was said of one policy: as it is used, durations in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySection {
    /// Its name.
    pub name: String,
    /// Its keys, as a tree.
    pub options: Map<String, Value>,
}

/// Every policy of a validated tree, in its order.
pub(super) fn policies(tree: &Map<String, Value>) -> Vec<PolicySection> {
    let Some(Value::Object(sections)) = lookup(tree, POLICIES) else { return Vec::new() };
    let section = |(name, section): (&String, &Value)| {
        // Where unknown keys are only warned of, they lead nowhere.
        let mut options = known(section, "");
        for key in POLICY_KEYS {
            if let Kind::Duration(unit, _) = key.kind
                && let Some(value) = lookup(&options, key.path)
                && let Some(time) = validate::duration_of(value, unit)
            {
                path::set(&mut options, key.path, time.as_secs_f64().into());
            }
        }
        PolicySection { name: name.clone(), options }
    };
    sections.iter().map(section).collect()
}

/// What is known of a policy's section `below`.
fn known(section: &Value, below: &str) -> Map<String, Value> {
    let mut options = Map::new();
    for (name, value) in section.as_object().into_iter().flatten() {
        let key = path::join(below, name);
        if find(&key).is_some() {
            options.insert(name.clone(), value.clone());
        } else if !names_in(&key).is_empty() {
            options.insert(name.clone(), Value::Object(known(value, &key)));
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_seconds_whatever_their_unit() {
        let tree = json!({"error_handling": {"policies": {"exchange": {
            "timeout": "2m",
            "retry": {"initial_delay": 250, "max_attempts": 5, "tries": 7},
            "circuit_breaker": {},
            "retri": {},
        }}}});
        let found = policies(tree.as_object().unwrap());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "exchange");
        let wanted = json!({
            "timeout": 120.0,
            "retry": {"initial_delay": 0.25, "max_attempts": 5},
            "circuit_breaker": {},
        });
        assert_eq!(Value::Object(found[0].options.clone()), wanted);
    }

    #[test]
    fn keys_are_known_by_their_place() {
        let at = |path: &str| kind_of(path).is_some();
        assert!(at("error_handling.policies.exchange.retry.max_delay"));
        assert!(!at("error_handling.policies.retry"));
        assert!(!at("error_handling.retry.max_delay"));
        assert_eq!(
            names_in(""),
            [
                "timeout",
                "retry",
                "hedge",
                "circuit_breaker",
                "rate_limit",
                "bulkhead",
                "attempt_timeout"
            ]
        );
        assert_eq!(names_in("retry.budget"), ["ratio", "min_per_second", "ttl"]);
    }
}
