//! Health in the form of `application/health+json` (draft-inadarei-api-health-check-06).
//!
//! What that has no word for: out of service is `fail`, and what nothing is known of is `warn`.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::timestamp::rfc3339;
use crate::clock::Instant;
use crate::config::redact;
use crate::health::{CheckState, ProcessSample, Verdict, sample};
use crate::registry::{Look, Monitor, SystemHealth};

/// The media type.
pub const MEDIA_TYPE: &str = "application/health+json";

/// The health of a system, and how an HTTP answer tells it.
pub fn system(monitor: &Monitor) -> (u16, Value) {
    let health = monitor.system();
    let clock = monitor.registry().bus().clock();
    let (now, time) = (clock.now(), rfc3339(clock.unix_ms()));
    let mut checks = Map::new();
    monitor.look(|look| component(&mut checks, look, now, &time));
    let mut verdicts = HashMap::new();
    monitor.look_at_process(|states| {
        verdicts.extend(states.iter().map(|s| (s.check().name.clone(), s.verdict())));
    });
    process(&mut checks, &verdicts, sample(), &time);
    let mut said = json!({
        "status": word(health.status),
        "serviceId": health.name,
        "description": format!("health of {}", health.name),
    });
    if !health.version.is_empty() {
        said["version"] = json!(health.version);
    }
    if let Some(why) = output(&health) {
        said["output"] = text(&why);
    }
    said["checks"] = Value::Object(checks);
    (health.status.http_status(), said)
}

/// Why it is not well, in one text.
fn output(health: &SystemHealth) -> Option<String> {
    if matches!(health.status, Verdict::Pass) {
        return None;
    }
    let troubled = health.components.iter().filter(|report| report.health != Verdict::Pass);
    let told: Vec<String> = troubled
        .map(|report| format!("{}: {}", report.component_id, super::probes::reason(report)))
        .chain(health.process.reasons.iter().cloned())
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn component(checks: &mut Map<String, Value>, look: Look<'_>, now: Instant, time: &str) {
    let report = look.report;
    let name = &report.component_id;
    let mut state = json!({
        "componentId": name,
        "componentType": "component",
        "observedValue": report.status,
        "status": word(report.health),
        "time": time,
    });
    if report.health != Verdict::Pass {
        state["output"] = text(&super::probes::reason(report));
    }
    push(checks, format!("{name}:state"), state);
    for check in look.checks {
        push(checks, format!("{name}:{}", check.check().name), entry(name, check, now));
    }
}

/// Names of different things may come to the same key, which has a list of them.
fn push(checks: &mut Map<String, Value>, key: String, entry: Value) {
    match checks.entry(key).or_insert_with(|| json!([])) {
        Value::Array(entries) => entries.push(entry),
        other => *other = json!([entry]),
    }
}

/// What components say of themselves may hold a secret by mistake.
fn text(said: &str) -> Value {
    json!(redact::text(said))
}

fn entry(component: &str, state: &CheckState, now: Instant) -> Value {
    let mut entry = json!({
        "componentId": component,
        "componentType": state.check().kinds[0].as_str(),
        "status": word(state.contribution()),
    });
    let Some(record) = state.history().last() else { return entry };
    if let Some(value) = record.outcome.value {
        entry["observedValue"] = json!(value);
    }
    entry["time"] = json!(rfc3339(record.at_ms));
    if let Some(message) = &record.outcome.message {
        entry["output"] = text(message);
    }
    if state.is_stale(now) {
        entry["stale"] = json!(true);
    }
    entry
}

fn process(
    checks: &mut Map<String, Value>,
    verdicts: &HashMap<String, Verdict>,
    process: ProcessSample,
    time: &str,
) {
    let measured = [
        ("memory", process.memory_mb, Some("MB")),
        ("cpu", process.cpu_seconds, Some("s")),
        ("descriptors", process.descriptors.map(|count| count as f64), None),
        ("threads", process.threads.map(|count| count as f64), None),
    ];
    for (name, value, unit) in measured {
        let Some(value) = value else { continue };
        let mut entry = json!({
            "componentType": "system",
            "observedValue": value,
            "status": word(verdicts.get(name).copied().unwrap_or(Verdict::Pass)),
            "time": time,
        });
        if let Some(unit) = unit {
            entry["observedUnit"] = json!(unit);
        }
        push(checks, format!("process:{name}"), entry);
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Warn | Verdict::Unknown => "warn",
        Verdict::Fail | Verdict::OutOfService => "fail",
    }
}
