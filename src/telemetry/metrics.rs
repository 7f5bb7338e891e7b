//! What is measured, as metrics: of the bus, its subscriptions, the components, their checks,
//! and the process.
//!
//! Everything is counted elsewhere anyway; here it is only read. Nothing enters Python.

use std::time::Duration;

use super::exposition::{Exposition, Form};
use super::policies;
use crate::bus::{Bus, Figures, Queue, Series};
use crate::health::{Verdict, sample};
use crate::lifecycle::State;
use crate::registry::{Look, Monitor, PromiseHealth};
use crate::resilience::breaker;

/// All metrics of a system, as text.
pub fn text(monitor: &Monitor, form: Form) -> String {
    let mut out = Exposition::new(form);
    system(&mut out, monitor);
    bus(&mut out, monitor.registry().bus());
    subscriptions(&mut out, monitor.registry().bus());
    components(&mut out, monitor);
    policies::breakers(&mut out, monitor.registry());
    process(&mut out, monitor);
    out.finish()
}

fn system(out: &mut Exposition, monitor: &Monitor) {
    let health = monitor.system();
    let texts = [
        ("name", health.name.as_str()),
        ("version", health.version.as_str()),
        ("tiebeam_version", env!("CARGO_PKG_VERSION")),
    ];
    out.info("tiebeam_system", "The system, and what it is built with.").add(&texts, 1.0);
    let verdicts = Verdict::WORST_FIRST.map(Verdict::as_str);
    out.states("tiebeam_system_health", "The verdict over the system.").add_state(
        &[],
        verdicts,
        health.status.as_str(),
    );
    let flag = |yes: bool| f64::from(u8::from(yes));
    let about = "Whether everything can take work.";
    out.gauge("tiebeam_system_ready", about).add(&[], flag(health.ready));
    out.gauge("tiebeam_system_live", "Whether everything lives.").add(&[], flag(health.live));
}

fn bus(out: &mut Exposition, bus: &Bus) {
    let books = bus.books();
    let mut count = |name, about, value: u64| out.counter(name, about).add(&[], value as f64);
    count("tiebeam_bus_events", "Events that were published.", books.events);
    count("tiebeam_bus_duplicates", "Events that had been published before.", books.duplicates);
    count("tiebeam_bus_quarantined", "What a broker had that was no event.", books.quarantined);
    count("tiebeam_bus_late_replies", "Replies that nobody waited for.", books.late_replies);
    let letters = bus.dead_letters();
    let about = "Dead letters that were given up for want of room.";
    count("tiebeam_bus_dead_letters_evicted", about, letters.evicted());
    let mut gauge = |name, about, value: usize| out.gauge(name, about).add(&[], value as f64);
    gauge("tiebeam_bus_dead_letters", "Dead letters that are kept.", letters.len());
    gauge("tiebeam_bus_pending_requests", "Requests without a reply yet.", books.pending_requests);
    if let Some(lag) = bus.lag() {
        let about = "How late the event loops came when they were last woken, the worst of all.";
        out.gauge("tiebeam_loop_lag_seconds", about).add(&[], lag.last.as_secs_f64());
        let about = "How late an event loop ever came.";
        out.gauge("tiebeam_loop_lag_longest_seconds", about).add(&[], lag.longest.as_secs_f64());
    }
}

fn subscriptions(out: &mut Exposition, bus: &Bus) {
    let rows = bus.series();
    let about = "What became of events, by subscription.";
    let mut events = out.counter("tiebeam_subscription_events", about);
    for row in &rows {
        let tally = &row.figures.tally;
        let outcomes = [
            ("delivered", tally.delivered),
            ("filtered", tally.filtered),
            ("conflated", tally.conflated),
            ("dropped", tally.dropped),
            ("expired", tally.expired),
            ("dead_lettered", tally.dead_lettered),
        ];
        for (outcome, count) in outcomes {
            let [component, name] = labels(row);
            events.add(&[component, name, ("outcome", outcome)], count as f64);
        }
    }
    type Count = fn(&Figures) -> f64;
    let counters: [(&str, &str, Count); 3] = [
        ("tiebeam_subscription_received", "Events that matched the pattern.", |figures| {
            figures.tally.published as f64
        }),
        ("tiebeam_subscription_failures", "Attempts that failed.", |figures| {
            figures.failures as f64
        }),
        ("tiebeam_subscription_retries", "Attempts that follow a failed one.", |figures| {
            figures.retries as f64
        }),
    ];
    for (name, about, read) in counters {
        let mut family = out.counter(name, about);
        rows.iter().for_each(|row| family.add(&labels(row), read(&row.figures)));
    }
    let about = "Events that wait, are being handled, or are to be tried again.";
    let mut in_flight = out.gauge("tiebeam_subscription_in_flight", about);
    // What has ended has nothing but its counts.
    let live = || rows.iter().filter_map(|row| Some((row, row.queue?)));
    live().for_each(|(row, _)| in_flight.add(&labels(row), row.figures.tally.in_flight as f64));
    type Read = fn(Queue) -> f64;
    let gauges: [(&str, &str, Read); 3] = [
        ("tiebeam_subscription_queue_depth", "Events that wait in the mailbox.", |queue| {
            queue.depth as f64
        }),
        ("tiebeam_subscription_queue_capacity", "Events that may wait there.", |queue| {
            queue.capacity as f64
        }),
        (
            "tiebeam_subscription_queue_delay_seconds",
            "How long events wait: the longest of the last ten to twenty seconds, or at present.",
            |queue| queue.delay.as_secs_f64(),
        ),
    ];
    for (name, about, read) in gauges {
        let mut family = out.gauge(name, about);
        live().for_each(|(row, queue)| family.add(&labels(row), read(queue)));
    }
    durations(out, &rows);
}

fn durations(out: &mut Exposition, rows: &[Series]) {
    let about = "How long handlers took: samples, which stand for all.";
    let mut family = out.histogram("tiebeam_handler_duration_seconds", about);
    for row in rows.iter().filter(|row| row.figures.durations.count() > 0) {
        let durations = &row.figures.durations;
        let (bounds, counts) = durations.by_bound();
        family.add_histogram(&labels(row), &bounds, &counts, durations.sum().as_secs_f64());
    }
}

fn labels(row: &Series) -> [(&'static str, &str); 2] {
    [("component", &row.component), ("subscription", &row.name)]
}

/// What one component's metrics are made of, kept so that each family is written in one piece.
struct Part {
    name: String,
    state: State,
    health: Verdict,
    ready: bool,
    live: bool,
    uptime: u64,
    restarts: u64,
    counts: [u64; 3],
    checks: Vec<Check>,
    breakers: Vec<(String, &'static str)>,
    promises: Vec<PromiseHealth>,
}

struct Check {
    name: String,
    verdict: Verdict,
    value: Option<f64>,
    took: Option<Duration>,
    age: Option<Duration>,
    errors: u64,
}

impl Part {
    fn of(look: Look<'_>, now: crate::clock::Instant) -> Part {
        let checks = look.checks.iter().map(|state| {
            let last = state.history().last();
            Check {
                name: state.check().name.clone(),
                verdict: state.verdict(),
                value: last.and_then(|record| record.outcome.value),
                took: last.map(|record| record.took),
                age: state.age(now),
                errors: state.check_errors(),
            }
        });
        let report = look.report;
        let metrics = report.metrics;
        Part {
            name: report.component_id.clone(),
            state: report.status,
            health: report.health,
            ready: report.ready,
            live: report.live,
            uptime: report.uptime,
            restarts: look.slot.status().restarts,
            counts: [
                metrics.events_processed,
                metrics.events_published,
                metrics.errors_encountered,
            ],
            checks: checks.collect(),
            breakers: look.breakers.to_vec(),
            promises: look.promises.to_vec(),
        }
    }
}

fn components(out: &mut Exposition, monitor: &Monitor) {
    let now = monitor.registry().bus().clock().now();
    let mut parts = Vec::new();
    monitor.look(|look| parts.push(Part::of(look, now)));
    let states = State::ALL.map(State::as_str);
    let verdicts = Verdict::WORST_FIRST.map(Verdict::as_str);
    let mut family = out.states("tiebeam_component_state", "Where a component is in its life.");
    for part in &parts {
        family.add_state(&[("component", &part.name)], states, part.state.as_str());
    }
    let mut family = out.states("tiebeam_component_health", "The verdict over a component.");
    for part in &parts {
        family.add_state(&[("component", &part.name)], verdicts, part.health.as_str());
    }
    type Read = fn(&Part) -> f64;
    let gauges: [(&str, &str, Read); 3] = [
        ("tiebeam_component_ready", "Whether it can take work.", |part| {
            f64::from(u8::from(part.ready))
        }),
        ("tiebeam_component_live", "Whether it lives.", |part| f64::from(u8::from(part.live))),
        ("tiebeam_component_uptime_seconds", "Since it started.", |part| part.uptime as f64),
    ];
    for (name, about, read) in gauges {
        let mut family = out.gauge(name, about);
        parts.iter().for_each(|part| family.add(&[("component", &part.name)], read(part)));
    }
    let counters: [(&str, &str, Read); 4] = [
        ("tiebeam_component_events_processed", "Events that its handlers finished.", |part| {
            part.counts[0] as f64
        }),
        ("tiebeam_component_events_published", "Events that it published.", |part| {
            part.counts[1] as f64
        }),
        ("tiebeam_component_errors", "Attempts and hooks that failed.", |part| {
            part.counts[2] as f64
        }),
        ("tiebeam_component_restarts", "How often supervision restarted it.", |part| {
            part.restarts as f64
        }),
    ];
    for (name, about, read) in counters {
        let mut family = out.counter(name, about);
        parts.iter().for_each(|part| family.add(&[("component", &part.name)], read(part)));
    }
    let mut family = out.states("tiebeam_circuit_breaker_state", "The breaker before a handler.");
    for part in &parts {
        for (name, state) in &part.breakers {
            let labels = [("component", part.name.as_str()), ("subscription", name)];
            family.add_state(&labels, breaker::State::ALL.map(breaker::State::as_str), state);
        }
    }
    checks(out, &parts);
    promises(out, &parts);
}

fn promises(out: &mut Exposition, parts: &[Part]) {
    type Read = fn(&PromiseHealth) -> Option<f64>;
    let gauges: [(&str, &str, Read); 3] = [
        ("tiebeam_slo_target_ratio", "The share of events that is to be good.", |p| Some(p.target)),
        ("tiebeam_slo_budget_remaining_ratio", "What is left of the error budget.", |p| {
            Some(p.remaining)
        }),
        (
            "tiebeam_slo_burn_rate",
            "How many times faster than allowed it went in the last hour.",
            |p| p.burn_rate,
        ),
    ];
    for (name, about, read) in gauges {
        let mut family = out.gauge(name, about);
        for (part, promise) in parts.iter().flat_map(|p| p.promises.iter().map(move |s| (p, s))) {
            let labels = [("component", part.name.as_str()), ("objective", promise.objective)];
            family.add_some(&labels, read(promise));
        }
    }
}

fn checks(out: &mut Exposition, parts: &[Part]) {
    let all = || parts.iter().flat_map(|part| part.checks.iter().map(move |check| (part, check)));
    let verdicts = Verdict::WORST_FIRST.map(Verdict::as_str);
    let mut family = out.states("tiebeam_check_status", "What a check says.");
    for (part, check) in all() {
        let labels = [("component", part.name.as_str()), ("check", check.name.as_str())];
        family.add_state(&labels, verdicts, check.verdict.as_str());
    }
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    type Read<'a> = &'a dyn Fn(&Check) -> Option<f64>;
    let gauges: [(&str, &str, Read<'_>); 3] = [
        ("tiebeam_check_value", "What a check measured last.", &|check| check.value),
        ("tiebeam_check_duration_seconds", "How long its last run took.", &|check| {
            seconds(check.took)
        }),
        ("tiebeam_check_age_seconds", "Since its last run.", &|check| seconds(check.age)),
    ];
    for (name, about, read) in gauges {
        let mut family = out.gauge(name, about);
        for (part, check) in all() {
            let labels = [("component", part.name.as_str()), ("check", check.name.as_str())];
            family.add_some(&labels, read(check));
        }
    }
    let mut family = out.counter("tiebeam_check_errors", "Runs that said nothing.");
    for (part, check) in all() {
        let labels = [("component", part.name.as_str()), ("check", check.name.as_str())];
        family.add(&labels, check.errors as f64);
    }
}

/// What the clients of Prometheus call these, in every language.
fn process(out: &mut Exposition, monitor: &Monitor) {
    let process = sample();
    let mut checks = Vec::new();
    monitor.look_at_process(|states| {
        checks.extend(states.iter().map(|s| (s.check().name.clone(), s.verdict().as_str())));
    });
    let mut family = out.states("tiebeam_process_status", "What a limit of the process says.");
    for (name, verdict) in &checks {
        let verdicts = Verdict::WORST_FIRST.map(Verdict::as_str);
        family.add_state(&[("check", name)], verdicts, verdict);
    }
    let about = "User and system time of the process.";
    out.counter("process_cpu_seconds", about).add_some(&[], process.cpu_seconds);
    let mut gauge = |name, about, value| out.gauge(name, about).add_some(&[], value);
    let resident = process.memory_mb.map(|mb| (mb * 1e6).round());
    gauge("process_resident_memory_bytes", "Resident memory.", resident);
    let count = |value: Option<u64>| value.map(|value| value as f64);
    gauge("process_virtual_memory_bytes", "Virtual memory.", count(process.virtual_bytes));
    gauge("process_open_fds", "Open file descriptors.", count(process.descriptors));
    gauge("process_max_fds", "How many may be open.", count(process.descriptor_limit));
    gauge("process_threads", "Threads.", count(process.threads));
    gauge("process_start_time_seconds", "When the process began.", process.started);
}
