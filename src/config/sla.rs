//! What a component promises: the keys of its section `sla`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::schema::Kind::{self, Integer, Number};
use super::schema::Unit::{Milliseconds, Seconds};
use super::schema::Zero::Refused;
use super::schema::{Key, optional};
use super::validate::{Fault, check as check_value, duration_of};
use crate::error::did_you_mean;

/// Below this share the budget is so large that no burn rate would be a page.
const LEAST: f64 = 0.932;
const MOST: f64 = 0.999_999_9;

/// The share of the events for `latency` and `delay` unless `target` says another.
const TARGET: f64 = 0.99;

/// The longest that can be promised of handlers.
const LONGEST: Duration = Duration::from_secs(3_600);

const DAY: Duration = Duration::from_secs(86_400);

/// Keys of the section. What is not said is not promised.
#[rustfmt::skip] // a table is read by columns
pub const SLA_KEYS: &[Key] = &[
    optional("availability", Number(LEAST, MOST), "share of its events that its handlers finish"),
    optional("latency", Kind::Duration(Milliseconds, Refused), "how long its handlers take at most, in milliseconds"),
    optional("delay", Kind::Duration(Milliseconds, Refused), "how long events wait for them at most, in milliseconds"),
    optional("target", Number(LEAST, MOST), "share of the events for which the latter two are to hold; 0.99"),
    optional("period", Kind::Duration(Seconds, Refused), "over how long, 3 to 366 days; 30 days"),
    optional("min_events", Integer(1, 1_000_000_000), "fewer events in a window say nothing; 10"),
];

/// What a component promises.
#[derive(Clone, Debug, PartialEq)]
pub struct SlaSettings {
    /// The share of its events that its handlers finish.
    pub availability: Option<f64>,
    /// How long they take at most.
    pub latency: Option<Duration>,
    /// How long events wait for them at most.
    pub delay: Option<Duration>,
    /// The share of the events for which the latter two are to hold.
    pub target: f64,
    /// Over how long.
    pub period: Duration,
    /// Fewer events in a window say nothing.
    pub min_events: u64,
}

/// Checks a section.
pub(super) fn check(value: &Value) -> Result<(), Fault> {
    let Some(section) = value.as_object() else {
        return Err(Fault::new("type", "must be a map, such as `{availability: 0.999}`"));
    };
    for (name, value) in section {
        let Some(key) = SLA_KEYS.iter().find(|key| key.path == name) else {
            let known = || SLA_KEYS.iter().map(|key| key.path);
            let said = match did_you_mean(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
            };
            return Err(Fault::new("unknown_key", format!("has an unknown key `{name}`; {said}")));
        };
        check_value(&key.kind, value)
            .map_err(|fault| Fault::new(fault.rule, format!("`{name}` {}", fault.message)))?;
    }
    let said = read(section);
    if said.period < DAY * 3 || said.period > DAY * 366 {
        return Err(Fault::new("range", "`period` must be 3 to 366 days, such as `30d`"));
    }
    if (said.availability, said.latency, said.delay) == (None, None, None) {
        return Err(Fault::new("required", "promises nothing: say availability, latency or delay"));
    }
    if section.contains_key("target") && (said.latency, said.delay) == (None, None) {
        return Err(Fault::new(
            "required",
            "`target` is the share for which `latency` and `delay` are to hold, and there is \
             neither: add one of them, such as `latency: 250ms`, or leave `target` out",
        ));
    }
    if said.latency.is_some_and(|latency| latency > LONGEST) {
        return Err(Fault::new(
            "range",
            "`latency` must be at most `1h`: longer runs of handlers are not told apart",
        ));
    }
    Ok(())
}

/// What a section says that was found valid.
pub(super) fn read(section: &Map<String, Value>) -> SlaSettings {
    let number = |name: &str| section.get(name).and_then(Value::as_f64);
    let span = |name: &str, unit| section.get(name).and_then(|value| duration_of(value, unit));
    SlaSettings {
        availability: number("availability"),
        latency: span("latency", Milliseconds),
        delay: span("delay", Milliseconds),
        target: number("target").unwrap_or(TARGET),
        period: span("period", Seconds).unwrap_or(DAY * 30),
        min_events: section.get("min_events").and_then(Value::as_u64).unwrap_or(10),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complaint(section: Value) -> String {
        check(&section).unwrap_err().message
    }

    #[test]
    fn a_promise_has_its_units() {
        let section = json!({"availability": 0.999, "latency": 250, "delay": "2s", "period": "7d"});
        assert_eq!(check(&section), Ok(()));
        let said = read(section.as_object().unwrap());
        assert_eq!(said.latency, Some(Duration::from_millis(250)));
        assert_eq!(said.delay, Some(Duration::from_secs(2)));
        assert_eq!((said.period, said.target, said.min_events), (DAY * 7, 0.99, 10));
    }

    #[test]
    fn what_promises_nothing_or_too_much_is_refused() {
        assert!(complaint(json!({"availabilty": 0.99})).contains("did you mean `availability`?"));
        assert!(complaint(json!({"availability": 1.0})).contains("`availability` must be <="));
        assert!(complaint(json!({"availability": 99.9})).contains("<="));
        assert!(complaint(json!({"latency": 0})).contains("> 0"));
        assert!(complaint(json!({"delay": 5, "period": "1d"})).contains("3 to 366 days"));
        assert!(complaint(json!({"target": 0.99})).contains("promises nothing"));
        let odd = complaint(json!({"availability": 0.99, "target": 0.99}));
        assert!(odd.contains("add one of them, such as `latency: 250ms`"), "{odd}");
        assert_eq!(check(&json!({"latency": "1h", "target": 0.99})), Ok(()));
        assert!(complaint(json!({"latency": "61m"})).contains("at most `1h`"));
        assert!(complaint(json!(0.999)).contains("must be a map"));
    }
}
