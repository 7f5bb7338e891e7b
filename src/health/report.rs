//! What a component says about its health, in the requirement's form.

use serde_json::{Map, Value};

use super::record::CheckState;
use super::status::{Verdict, aggregate, lifecycle, live, ready};
use crate::clock::Instant;
use crate::lifecycle::State;

/// The requirement's three counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Events the component's handlers finished.
    pub events_processed: u64,
    /// Events the component published.
    pub events_published: u64,
    /// Failed attempts and failed hooks.
    pub errors_encountered: u64,
}

/// The requirement's health model, field for field, with `health`, `live` and `ready` beside the
/// lifecycle's `status`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct HealthReport {
    /// The component's name.
    pub component_id: String,
    /// Its state.
    pub status: State,
    /// Its version.
    pub version: String,
    /// Whole seconds since it started.
    pub uptime: u64,
    /// When a check last ran, in Unix milliseconds; null before the first.
    pub last_checked: Option<i64>,
    /// Named facts.
    pub details: Map<String, Value>,
    /// Its counters.
    pub metrics: Counters,
    /// The verdict over state and checks.
    pub health: Verdict,
    /// Whether it lives.
    pub live: bool,
    /// Whether it can take work.
    pub ready: bool,
}

/// What a report is made of.
#[derive(Clone, Debug)]
pub struct Probe<'a> {
    /// The component's name.
    pub component_id: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its state.
    pub state: State,
    /// When it started, if it did.
    pub started: Option<Instant>,
    /// The present.
    pub now: Instant,
    /// Its counters.
    pub metrics: Counters,
    /// Facts of the core (memory, delay), which no check of the component's can overwrite.
    pub details: Map<String, Value>,
}

impl HealthReport {
    /// Adds up a component's state and `checks`.
    pub fn new(probe: Probe<'_>, checks: &[CheckState]) -> Self {
        let Probe { component_id, version, state, started, now, metrics, mut details } = probe;
        let of = |wanted: fn(&CheckState) -> bool| {
            checks.iter().filter(move |check| wanted(check)).map(CheckState::contribution)
        };
        let known: Vec<String> = details.keys().cloned().collect();
        let latest = checks.iter().filter_map(|check| check.history().last());
        let last_checked = latest.map(|record| record.at_ms).max();
        let facts = checks.iter().filter_map(|check| check.history().last());
        for (name, fact) in facts.flat_map(|record| &record.outcome.details) {
            // Of the checks' the last one counts; the core's stand.
            if !known.contains(name) {
                details.insert(name.clone(), fact.clone());
            }
        }
        HealthReport {
            health: verdict(state, checks),
            live: live(state, of(|check| check.check().is_liveness())),
            ready: ready(state, of(|check| check.check().is_readiness()))
                && !checks.iter().any(CheckState::is_awaited),
            component_id: component_id.into(),
            status: state,
            version: version.into(),
            uptime: started.map_or(0, |started| now.saturating_since(started).as_secs()),
            last_checked,
            details,
            metrics,
        }
    }
}

/// What a component's state and its checks add up to: unknown while one without which it cannot
/// take work has not said anything, and nothing is wrong.
pub fn verdict(state: State, checks: &[CheckState]) -> Verdict {
    let said = checks.iter().map(CheckState::contribution);
    let whole = aggregate(said.chain([lifecycle(state)]));
    let unknown = whole == Verdict::Pass && checks.iter().any(CheckState::is_awaited);
    if unknown { Verdict::Unknown } else { whole }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::check::{Check, CheckKind};
    use super::super::record::Outcome;
    use super::super::status::Criticality;
    use super::*;

    fn probe(state: State) -> Probe<'static> {
        let details = json!({"memory_usage": 256.5, "event_processing_delay": 12});
        Probe {
            component_id: "data_collection_framework",
            version: "1.0.0",
            state,
            started: Some(Instant::ZERO),
            now: Instant::from_nanos(86_400_999_000_000),
            metrics: Counters {
                events_processed: 15_243,
                events_published: 8_721,
                errors_encountered: 3,
            },
            details: details.as_object().cloned().unwrap_or_default(),
        }
    }

    fn check(criticality: Criticality, verdict: Verdict, at_ms: i64) -> CheckState {
        let check = Check::builder("database", CheckKind::Dependency).criticality(criticality);
        let mut state = CheckState::new(check.build().unwrap(), 10);
        let mut outcome = Outcome::new(verdict).with_message("pinged");
        outcome.details.insert("database_connection".into(), json!("connected"));
        state.record(Instant::ZERO, at_ms, Duration::ZERO, outcome);
        state
    }

    #[test]
    fn the_report_is_the_requirements_json_and_three_fields() {
        let checks = [check(Criticality::Critical, Verdict::Pass, 1_645_541_585_432)];
        let report = HealthReport::new(probe(State::Running), &checks);
        let expected = json!({
            "component_id": "data_collection_framework",
            "status": "running",
            "version": "1.0.0",
            "uptime": 86_400,
            "last_checked": 1_645_541_585_432_i64,
            "details": {
                "memory_usage": 256.5,
                "event_processing_delay": 12,
                "database_connection": "connected",
            },
            "metrics": {
                "events_processed": 15_243,
                "events_published": 8_721,
                "errors_encountered": 3,
            },
            "health": "pass",
            "live": true,
            "ready": true,
        });
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(text, expected.to_string(), "the same fields in the same order");
    }

    #[test]
    fn a_failing_dependency_takes_readiness_but_never_life() {
        let report = |criticality| {
            let checks = [check(criticality, Verdict::Fail, 0)];
            let report = HealthReport::new(probe(State::Running), &checks);
            (report.health, report.live, report.ready)
        };
        assert_eq!(report(Criticality::Critical), (Verdict::Fail, true, false));
        assert_eq!(report(Criticality::Important), (Verdict::Warn, true, true));
        assert_eq!(report(Criticality::Optional), (Verdict::Pass, true, true));
    }

    #[test]
    fn nothing_is_known_before_the_checks_that_count_have_answered() {
        let look = |criticality, answers: &[Verdict]| {
            let check = Check::builder("database", CheckKind::Dependency).criticality(criticality);
            let mut state = CheckState::new(check.build().unwrap(), 10);
            state.begin_anew(true);
            for answer in answers {
                state.record(Instant::ZERO, 0, Duration::ZERO, Outcome::new(*answer));
            }
            let report = HealthReport::new(probe(State::Running), &[state]);
            (report.health, report.live, report.ready)
        };
        assert_eq!(look(Criticality::Critical, &[]), (Verdict::Unknown, true, false));
        assert_eq!(look(Criticality::Critical, &[Verdict::Pass]), (Verdict::Pass, true, true));
        assert_eq!(look(Criticality::Critical, &[Verdict::Fail]), (Verdict::Fail, true, false));
        assert_eq!(look(Criticality::Important, &[]), (Verdict::Pass, true, true));
        assert_eq!(look(Criticality::Optional, &[]), (Verdict::Pass, true, true));
    }

    #[test]
    fn without_checks_the_state_speaks() {
        let report = HealthReport::new(probe(State::Starting), &[]);
        assert_eq!(report.last_checked, None);
        assert_eq!(
            (report.health, report.live, report.ready),
            (Verdict::OutOfService, true, false)
        );
    }
}
