//! What is known of a component's health, put together for whoever asks.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::measured::ProcessHealth;
use super::promises::PromiseHealth;
use super::{Monitor, Phase, Watched};
use crate::error::Result;
use crate::health::{self, CheckState, Counters, HealthReport, Probe, Verdict, aggregate, sample};
use crate::lifecycle::State;
use crate::registry::Slot;

/// How long an event that was given up shows in the health of its component.
const LOSS_SHOWS: Duration = Duration::from_secs(60);

/// The health of the whole system.
#[derive(Clone, Debug, Serialize)]
pub struct SystemHealth {
    /// The system's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The worst of all components, and of the process.
    pub status: Verdict,
    /// Whether everything lives.
    pub live: bool,
    /// Whether everything can take work; not before the start is through, nor while it stops.
    pub ready: bool,
    /// Whether the start is through, whoever it brought to work.
    pub started: bool,
    /// The sum of all counters.
    pub metrics: Counters,
    /// The process that it runs in.
    pub process: ProcessHealth,
    /// By component, in the order of registration.
    pub components: Vec<HealthReport>,
    /// What runs in other processes: what is needed here, and what else is announced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote: Vec<RemoteHealth>,
}

/// A component in another process, as that announced it.
#[derive(Clone, Debug, Serialize)]
pub struct RemoteHealth {
    /// Its name.
    pub component_id: String,
    /// Its state; none where nobody announces it.
    pub status: Option<State>,
    /// Its version.
    pub version: Option<String>,
    /// The verdict over it there.
    pub health: String,
    /// Whether it can take work.
    pub ready: bool,
    /// Where it lives; none where nobody announces it.
    pub lives: Option<Place>,
    /// The components here that depend on it, or want it.
    pub needed_by: Vec<String>,
}

/// Where a component of another process lives.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// The system that it is a part of.
    pub system: String,
    /// What names the process.
    pub instance: std::sync::Arc<str>,
    /// The machine.
    pub host: String,
    /// The process there.
    pub pid: u32,
}

/// What is known of one component, for who tells of it in another form.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Its place in the registry.
    pub slot: &'a Slot,
    /// Its health.
    pub report: &'a HealthReport,
    /// Its checks, with what they last said.
    pub checks: &'a [CheckState],
    /// The states of the circuit breakers before its handlers, by the handler.
    pub breakers: &'a [(String, &'static str)],
    /// How it keeps what it promises.
    pub promises: &'a [PromiseHealth],
}

impl Monitor {
    /// The health of one component, from what is known: nothing is run for it.
    ///
    /// # Errors
    /// [`crate::error::Kind::Configuration`] for an unknown name.
    pub fn report(&self, name: &str) -> Result<HealthReport> {
        let watched = self.watched(&self.0.registry.get(name)?);
        Ok(self.report_of(&watched, sample().memory_mb))
    }

    /// The last results of one component's checks, by check, with their history.
    ///
    /// # Errors
    /// [`crate::error::Kind::Configuration`] for an unknown name.
    pub fn checks(&self, name: &str) -> Result<Vec<CheckState>> {
        let watched = self.watched(&self.0.registry.get(name)?);
        Ok(watched.known.lock().states.clone())
    }

    /// Shows what is known of each component to `look`, in the order of registration.
    pub fn look(&self, mut look: impl FnMut(Look<'_>)) {
        for slot in self.0.registry.slots() {
            let watched = self.watched(&slot);
            let report = self.report_of(&watched, None);
            let (breakers, promises) = (self.breakers(&slot), self.promises(&watched));
            let known = watched.known.lock();
            look(Look {
                slot: &slot,
                report: &report,
                checks: &known.states,
                breakers: &breakers,
                promises: &promises,
            });
        }
    }

    /// Shows the checks of the process to `look`.
    pub fn look_at_process(&self, look: impl FnOnce(&[CheckState])) {
        self.0.process.look(look);
    }

    /// The health of everything.
    pub fn system(&self) -> SystemHealth {
        let now = sample();
        let memory = now.memory_mb;
        let process = self.0.process.health(now);
        let slots = self.0.registry.slots();
        let components: Vec<HealthReport> =
            slots.iter().map(|slot| self.report_of(&self.watched(slot), memory)).collect();
        let mut metrics = Counters::default();
        for report in &components {
            metrics.events_processed += report.metrics.events_processed;
            metrics.events_published += report.metrics.events_published;
            metrics.errors_encountered += report.metrics.errors_encountered;
        }
        let system = self.0.registry.0.config.read().settings().system.clone();
        let phase = self.phase();
        // Without components nothing is known, but for that it is not meant to work yet.
        let itself =
            (phase != Phase::Installed && components.is_empty()).then_some(Verdict::OutOfService);
        SystemHealth {
            name: system.name,
            version: system.version,
            status: aggregate(components.iter().map(|report| report.health).chain(itself).chain(
                // What is well is no news where nothing else is known.
                Some(process.health).filter(|health| *health != Verdict::Pass),
            )),
            live: components.iter().all(|report| report.live),
            ready: phase == Phase::Installed
                && process.health != Verdict::Fail
                && components.iter().all(|report| report.ready),
            started: phase != Phase::Expected,
            metrics,
            process,
            components,
            remote: self.remote(),
        }
    }

    /// What is known of components elsewhere: those that are needed and nobody announces, too.
    fn remote(&self) -> Vec<RemoteHealth> {
        let registry = &self.0.registry;
        let plan = registry.plan().unwrap_or_default();
        let needing = |name: &str| -> Vec<String> {
            let leans = plan.steps().filter(|step| step.elsewhere().any(|other| other == name));
            leans.map(|step| step.name.clone()).collect()
        };
        let services = registry.others().services();
        let mut absent: Vec<&str> = plan.steps().flat_map(|step| step.elsewhere()).collect();
        absent.sort_unstable();
        absent.dedup();
        absent.retain(|name| !services.iter().any(|service| service.told.name == *name));
        let missing = absent.into_iter().map(|name| RemoteHealth {
            component_id: name.to_owned(),
            status: None,
            version: None,
            health: Verdict::Unknown.as_str().to_owned(),
            ready: false,
            lives: None,
            needed_by: needing(name),
        });
        let known = services.iter().map(|service| RemoteHealth {
            component_id: service.told.name.clone(),
            status: Some(service.told.state),
            version: Some(service.told.version.clone()),
            health: service.told.health.clone(),
            ready: service.is_ready(),
            lives: Some(Place {
                system: service.system.clone(),
                instance: service.instance.clone(),
                host: service.host.clone(),
                pid: service.pid,
            }),
            needed_by: needing(&service.told.name),
        });
        known.chain(missing).collect()
    }

    /// The health of each component, without what is asked of the machine for it.
    pub(in crate::registry) fn brief(&self) -> Vec<HealthReport> {
        let slots = self.0.registry.slots();
        slots.iter().map(|slot| self.report_of(&self.watched(slot), None)).collect()
    }

    fn promises(&self, watched: &Watched) -> Vec<PromiseHealth> {
        let now = self.0.registry.bus().clock().now();
        watched.promises.lock().as_mut().map(|all| all.health(now)).unwrap_or_default()
    }

    pub(super) fn report_of(&self, watched: &Watched, memory_mb: Option<f64>) -> HealthReport {
        self.renew(watched);
        let slot = &watched.slot;
        let bus = self.0.registry.bus();
        let (status, meters, now) = (slot.status(), slot.meters(), bus.clock().now());
        let mut details = Map::new();
        if let Some(memory) = memory_mb {
            details.insert("memory_usage".into(), json!((memory * 10.0).round() / 10.0));
        }
        let subscriptions = bus.subscriptions_of(slot.name());
        let delay = subscriptions.iter().map(|s| s.delay()).max().unwrap_or_default();
        details.insert("event_processing_delay".into(), number(millis(delay)));
        let durations = bus.durations_of(slot.name());
        for (name, quantile) in [("handler_p50", 0.5), ("handler_p99", 0.99)] {
            if let Some(took) = durations.quantile(quantile) {
                details.insert(name.into(), number(millis(took)));
            }
        }
        if let Some(lag) = bus.lag_of(slot.name()) {
            details.insert("loop_lag".into(), number(millis(lag.last)));
            details.insert("longest_loop_lag".into(), number(millis(lag.longest)));
        }
        if let Some(error) = meters.last_error() {
            details.insert("last_error".into(), json!(error));
        }
        let breakers: Map<String, Value> =
            self.breakers(slot).into_iter().map(|(name, state)| (name, json!(state))).collect();
        if !breakers.is_empty() {
            details.insert("circuit_breakers".into(), Value::Object(breakers));
        }
        let promises = self.promises(watched);
        let reasons = self.reasons_of(watched);
        if !promises.is_empty() {
            details.insert("sla".into(), json!(promises));
        }
        if !reasons.is_empty() {
            details.insert("reasons".into(), json!(reasons));
        }
        let probe = Probe {
            component_id: slot.name(),
            version: &slot.descriptor().version,
            state: status.state,
            started: status.started.filter(|_| status.state.is_operational()),
            now,
            metrics: Counters {
                events_processed: bus.tally_of(slot.name()).delivered,
                events_published: meters.events_published(),
                errors_encountered: meters.errors(),
            },
            details,
        };
        let mut report = HealthReport::new(probe, &watched.known.lock().states);
        report.health = self.weighed(watched, report.health);
        report.ready &= !needs_another(slot);
        report
    }

    /// The verdict over a component.
    pub(super) fn verdict_of(&self, watched: &Watched) -> Verdict {
        self.renew(watched);
        let state = watched.slot.state();
        let found = health::verdict(state, &watched.known.lock().states);
        self.weighed(watched, found)
    }

    /// A verdict with what no check says.
    fn weighed(&self, watched: &Watched, found: Verdict) -> Verdict {
        // What it cannot do without runs elsewhere, and is gone: it does not work, and a restart
        // would not help.
        if needs_another(&watched.slot) {
            return Verdict::Fail;
        }
        let well = matches!(found, Verdict::Pass | Verdict::Unknown);
        if well && !self.troubles(watched).is_empty() { Verdict::Warn } else { found }
    }

    /// Why a component is not simply well.
    pub(super) fn reasons_of(&self, watched: &Watched) -> Vec<String> {
        let mut reasons = reasons(&watched.slot);
        let awaited: Vec<String> = {
            let known = watched.known.lock();
            let states = known.states.iter().filter(|state| state.is_awaited());
            states.map(|state| state.check().name.clone()).collect()
        };
        if watched.slot.state().is_operational() && !awaited.is_empty() {
            reasons.push(format!("no answer yet from {}", awaited.join(", ")));
        }
        reasons.extend(self.troubles(watched));
        reasons
    }

    /// What makes it less than well beside its state and its checks.
    fn troubles(&self, watched: &Watched) -> Vec<String> {
        let slot = &watched.slot;
        let (bus, meters) = (self.0.registry.bus(), slot.meters());
        let now = bus.clock().now();
        let mut troubles = Vec::new();
        let lost = meters.last_loss().is_some_and(|at| now.saturating_since(at) < LOSS_SHOWS);
        if lost && slot.state().is_operational() {
            let last =
                meters.last_error().map(|error| format!("{}: {}", error.error_type, error.message));
            troubles.push(format!("an event was given up: {}", last.unwrap_or_default()));
        }
        troubles.extend(bus.stalls().reasons(slot.name()));
        troubles.extend(self.promises(watched).iter().filter_map(|kept| {
            let rate = kept.burn_rate.unwrap_or_default();
            let (what, alert) = (kept.objective, kept.alert?);
            Some(format!("{alert}: the budget for {what} goes {rate:.1} times too fast"))
        }));
        troubles
    }
}

/// Whether it lacks what runs elsewhere, and what it cannot do without.
fn needs_another(slot: &Slot) -> bool {
    slot.with(|known| known.degradations.keys().any(|key| key.starts_with("needs:")))
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// Why a component is not simply well.
fn reasons(slot: &Slot) -> Vec<String> {
    let status = slot.status();
    if status.state.is_operational() {
        return status.degradations.into_values().collect();
    }
    vec![status.cause]
}

/// Whole figures without a fraction, as in the requirement's example.
fn number(value: f64) -> Value {
    let rounded = (value * 1e3).round() / 1e3;
    if rounded.fract() == 0.0 { json!(rounded as u64) } else { json!(rounded) }
}
