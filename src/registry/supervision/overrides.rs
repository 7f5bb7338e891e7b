//! What single groups and components do otherwise than everybody.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Policy, Strategy};

/// What was said; what was not stays as it is for everybody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Who is restarted with the one that ended; for groups.
    pub strategy: Option<Strategy>,
    /// How many restarts within `period` are borne.
    pub intensity: Option<u32>,
    /// The window in which restarts count.
    pub period: Option<Duration>,
    /// How long after giving up one more start is tried.
    pub cooldown: Option<Duration>,
    /// The longest cooldown.
    pub max_cooldown: Option<Duration>,
    /// The wait before the second restart.
    pub initial: Option<Duration>,
    /// Growth of the wait.
    pub multiplier: Option<f64>,
    /// The longest wait.
    pub max: Option<Duration>,
    /// Whether waits are spread.
    pub jitter: Option<bool>,
}

impl Overrides {
    /// From the options of a section, with durations in seconds; what is of no use here is left
    /// out.
    pub fn from_options(said: &Map<String, Value>) -> Overrides {
        let seconds = |value: &Value| {
            value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        };
        let time = |name: &str| said.get(name).and_then(seconds);
        let wait = |name: &str| said.get("backoff").and_then(|backoff| backoff.get(name));
        Overrides {
            strategy: said.get("strategy").and_then(|v| serde_json::from_value(v.clone()).ok()),
            intensity: said
                .get("intensity")
                .and_then(Value::as_u64)
                .map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            period: time("period"),
            cooldown: time("cooldown"),
            max_cooldown: time("max_cooldown"),
            initial: wait("initial_delay").and_then(seconds),
            multiplier: wait("multiplier").and_then(Value::as_f64),
            max: wait("max_delay").and_then(seconds),
            jitter: wait("jitter").and_then(Value::as_str).map(|word| word == "full"),
        }
    }

    /// `policy` with what was said in its place.
    pub fn over(&self, policy: &Policy) -> Policy {
        let mut policy = policy.clone();
        let Overrides { strategy, intensity, period, cooldown, max_cooldown, .. } = self;
        policy.strategy = strategy.unwrap_or(policy.strategy);
        policy.intensity = intensity.unwrap_or(policy.intensity);
        policy.period = period.unwrap_or(policy.period);
        policy.cooldown = cooldown.unwrap_or(policy.cooldown);
        policy.max_cooldown = max_cooldown.unwrap_or(policy.max_cooldown);
        policy.wait.initial = self.initial.unwrap_or(policy.wait.initial);
        policy.wait.multiplier = self.multiplier.unwrap_or(policy.wait.multiplier);
        policy.wait.max = self.max.unwrap_or(policy.wait.max);
        policy.wait.jitter = self.jitter.unwrap_or(policy.wait.jitter);
        policy
    }
}
