//! What the core measures itself, as checks like all others: of each component, and of the
//! process. There is a check only where the configuration has a limit for it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Monitor, health_thresholds};
use crate::bus::{Bus, Spread, Watcher};
use crate::clock::{Clock, Instant};
use crate::config::{HealthSettings, LimitSettings, MeasuredSettings};
use crate::health::{
    Check, CheckKind, CheckState, Limits, Outcome, ProcessSample, Verdict, aggregate, sample,
};

/// What is measured of a component; in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// How long events wait for its handlers.
    QueueDelay,
    /// What 99 of 100 runs of its handlers stay below.
    HandlerP99,
    /// How late their event loop comes.
    LoopLag,
}

fn limits(said: LimitSettings<f64>) -> Option<Limits> {
    let some = |limit: f64| (limit > 0.0).then_some(limit);
    let limits = Limits { warn: some(said.warn), fail: some(said.fail), lower_is_worse: false };
    (limits.warn.is_some() || limits.fail.is_some()).then_some(limits)
}

fn check(
    settings: &HealthSettings,
    name: &str,
    kind: CheckKind,
    said: LimitSettings<f64>,
) -> Option<Check> {
    let limits = limits(said)?;
    let check = Check::builder(name, kind)
        .period(settings.check_interval)
        .timeout(settings.check_timeout)
        .thresholds(health_thresholds(settings))
        .limits(limits);
    check.build().ok() // the configuration was found valid
}

/// The checks of each component.
pub(super) fn of_component(
    settings: &HealthSettings,
    limits: &MeasuredSettings,
) -> Vec<(Measure, Check)> {
    let all = [
        (Measure::QueueDelay, "queue_delay", limits.queue_delay),
        (Measure::HandlerP99, "handler_p99", limits.handler_p99),
        (Measure::LoopLag, "loop_lag", limits.loop_lag),
    ];
    let found = all.into_iter().filter_map(|(measure, name, said)| {
        let said = LimitSettings { warn: millis(said.warn), fail: millis(said.fail) };
        Some((measure, check(settings, name, CheckKind::Performance, said)?))
    });
    found.collect()
}

impl Measure {
    /// The value now; what it is compared with in `before` is renewed.
    pub(super) fn take(self, bus: &Bus, component: &str, before: &Mutex<Before>) -> Outcome {
        let value = match self {
            Measure::QueueDelay => bus.delay_of(component, Watcher::Limit),
            Measure::HandlerP99 => {
                let now = bus.durations_of(component);
                let earlier = std::mem::replace(&mut before.lock().spread, now.clone());
                now.since(&earlier).quantile(0.99)
            }
            Measure::LoopLag => bus.lag_of(component).map(|lag| lag.last),
        };
        Outcome::measured(value.map_or(0.0, millis))
    }
}

/// What had been measured of a component at the last look.
#[derive(Default)]
pub(super) struct Before {
    /// How long its handlers had taken.
    spread: Spread,
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

/// The health of the process.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessHealth {
    /// The verdict over its checks; `pass` without any.
    pub health: Verdict,
    /// Resident memory in MB.
    pub memory_usage: Option<f64>,
    /// Processors kept busy between the last two looks; none before the second one.
    pub cpu_usage: Option<f64>,
    /// CPU time in seconds since the process began.
    pub cpu_seconds: Option<f64>,
    /// Open file descriptors.
    pub descriptors: Option<u64>,
    /// How many may be open.
    pub descriptor_limit: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// What is wrong, if anything is.
    pub reasons: Vec<String>,
}

/// What was found of the CPU at the last look.
#[derive(Default)]
struct Cpu {
    /// When that was, and the CPU time of the process then.
    last: Option<(Instant, f64)>,
    /// Processors kept busy since the look before.
    busy: Option<f64>,
}

/// Watches the process.
pub(super) struct ProcessWatch {
    states: Mutex<Vec<CheckState>>,
    cpu: Mutex<Cpu>,
    pub(super) told: Mutex<Verdict>,
}

impl ProcessWatch {
    pub(super) fn new(settings: &HealthSettings) -> ProcessWatch {
        let watch = ProcessWatch {
            states: Mutex::default(),
            cpu: Mutex::default(),
            told: Mutex::new(Verdict::Pass),
        };
        watch.limit(settings, &settings.limits);
        watch
    }

    /// Goes by these limits; what is known of those that stay is kept.
    pub(super) fn limit(&self, settings: &HealthSettings, limits: &MeasuredSettings) {
        let all = [
            ("memory", limits.memory),
            ("cpu", limits.cpu),
            ("descriptors", limits.descriptors),
            ("threads", limits.threads),
        ];
        let mut states = self.states.lock();
        let before = std::mem::take(&mut *states);
        let checks = all
            .into_iter()
            .filter_map(|(name, said)| check(settings, name, CheckKind::Resource, said));
        states.extend(checks.map(|check| {
            let same = |state: &&CheckState| {
                state.check().name == check.name && state.check().limits == check.limits
            };
            let known = before.iter().find(same).cloned();
            known.unwrap_or_else(|| CheckState::new(check, settings.history_length))
        }));
    }

    /// Looks at the process, and judges what it sees.
    pub(super) fn run(&self, clock: &Clock) {
        let (now, at_ms, process) = (clock.now(), clock.unix_ms(), sample());
        let busy = self.busy(now, process.cpu_seconds);
        let share = process
            .descriptors
            .zip(process.descriptor_limit)
            .map(|(open, most)| open as f64 / most.max(1) as f64);
        for state in self.states.lock().iter_mut() {
            let value = match state.check().name.as_str() {
                "memory" => process.memory_mb,
                "cpu" => busy,
                "descriptors" => share,
                _ => process.threads.map(|threads| threads as f64),
            };
            if let Some(value) = value {
                state.record(now, at_ms, Duration::ZERO, Outcome::measured(value));
            }
        }
    }

    /// Processors kept busy since the last look.
    fn busy(&self, now: Instant, seconds: Option<f64>) -> Option<f64> {
        let seconds = seconds?;
        let mut cpu = self.cpu.lock();
        let last = cpu.last.replace((now, seconds));
        let (then, before) = last?;
        let passed = now.saturating_since(then).as_secs_f64();
        if passed > 0.0 {
            cpu.busy = Some((seconds - before) / passed);
        }
        cpu.busy
    }

    /// What is known of the process; memory and the like are read for it.
    pub(super) fn health(&self, process: ProcessSample) -> ProcessHealth {
        let states = self.states.lock();
        let found = aggregate(states.iter().map(CheckState::contribution));
        let reasons = states.iter().filter(|state| state.verdict() != Verdict::Pass);
        let reasons = reasons.filter_map(|state| {
            let value = state.history().last()?.outcome.value?;
            Some(format!("{} of the process: {value:.3}", state.check().name))
        });
        ProcessHealth {
            health: if found == Verdict::Unknown { Verdict::Pass } else { found },
            memory_usage: process.memory_mb,
            cpu_usage: self.cpu.lock().busy,
            cpu_seconds: process.cpu_seconds,
            descriptors: process.descriptors,
            descriptor_limit: process.descriptor_limit,
            threads: process.threads,
            reasons: reasons.collect(),
        }
    }

    /// Shows its checks to `look`.
    pub(super) fn look(&self, look: impl FnOnce(&[CheckState])) {
        look(&self.states.lock());
    }
}

impl Monitor {
    pub(super) fn watch_process(&self, token: CancellationToken) {
        let (inner, clock) = (Arc::downgrade(&self.0), self.0.registry.bus().clock().clone());
        let period = self.0.settings.check_interval;
        self.0.registry.0.spawner.spawn(Box::pin(async move {
            while let Some(monitor) = inner.upgrade().map(Monitor) {
                monitor.0.process.run(&clock);
                monitor.tell_of_process();
                drop(monitor);
                if token.run_until_cancelled(clock.sleep(period)).await.is_none() {
                    return;
                }
            }
        }));
    }

    /// Tells when the verdict over the process is another than before.
    pub(super) fn tell_of_process(&self) {
        let health = self.0.process.health(ProcessSample::default());
        let before = std::mem::replace(&mut *self.0.process.told.lock(), health.health);
        if before != health.health {
            let change = json!({
                "component": null,
                "from": before,
                "to": health.health,
                "status": null,
                "reasons": health.reasons,
            });
            self.0.registry.bus().emit("system.health.changed", &change);
        }
    }
}
