//! One run of a check, and what follows from it.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};

use super::{Entry, Monitor, OWN_CHECK, Source, Watched};
use crate::clock::Instant;
use crate::error::{Error, Kind, Result};
use crate::health::{
    Check, CheckKind, CheckState, Criticality, Escalation, HealthReport, Outcome, Remedy, Verdict,
    aggregate,
};
use crate::registry::record::What;
use crate::registry::supervision::Cause;
use crate::registry::{HealthAnswer, Slot, hook};

impl Monitor {
    /// Runs every check of a component now, beside their schedule.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown name.
    pub async fn check_now(&self, name: &str) -> Result<HealthReport> {
        let watched = self.watched(&self.0.registry.get(name)?);
        let entries = watched.known.lock().entries.clone();
        join_all(entries.iter().map(|entry| self.run(&watched, entry))).await;
        self.report(name)
    }

    /// Runs one check and does what follows from it. Nothing is asked of a component that is
    /// not at work, nor of one that tells by itself.
    pub(super) async fn run(&self, watched: &Watched, entry: &Arc<Entry>) {
        let (slot, check) = (&watched.slot, &entry.check);
        let _gate = entry.gate.lock().await;
        self.renew(watched);
        if slot.state().is_operational() {
            let clock = self.0.registry.bus().clock();
            let at = (clock.now(), clock.unix_ms());
            let life = watched.known.lock().life;
            let (outcome, vouches) = match entry.source {
                Source::Told(_) => return self.tell(watched),
                // What it is measured by may be of before; what went well since is seen there.
                Source::Measured(measure) => {
                    let bus = self.0.registry.bus();
                    (measure.take(bus, slot.name(), &watched.before), false)
                }
                Source::Asked => {
                    let asked = || ask(slot, check);
                    let answer =
                        hook::run(clock, check.timeout, slot.name(), OWN_CHECK, asked).await;
                    let vouches = !answer.as_ref().is_ok_and(|answer| answer.by_default);
                    (outcome_of(answer), vouches)
                }
            };
            // It stopped or was restarted meanwhile: this is about nobody any more.
            let same_life = slot.with(|known| known.lives) == life;
            if slot.state().is_operational() && same_life {
                self.settle(watched, entry, at, (outcome, vouches));
            }
        }
        self.tell(watched);
        self.0.answered.notify_waiters();
    }

    /// Books what came of a check at `at` (and in Unix milliseconds), and does what follows.
    /// `vouches` says whether the component itself has looked.
    pub(super) fn settle(
        &self,
        watched: &Watched,
        entry: &Arc<Entry>,
        (at, at_ms): (Instant, i64),
        (outcome, vouches): (Outcome, bool),
    ) {
        let took = self.0.registry.bus().clock().now().saturating_since(at);
        let at_work = watched.slot.state().is_operational();
        let (judged, remedy, flapping) = {
            let mut known = watched.known.lock();
            let Some(index) = known.position(entry) else { return };
            let before = known.states[index].is_flapping();
            let step = known.states[index].record(at, at_ms, took, outcome.clone());
            if at_work && std::mem::take(&mut known.gave_up) {
                known.escalations.iter_mut().for_each(Escalation::passed);
            }
            // With what was measured judged, which the check itself did not do.
            let raw = known.states[index].history().last().map(|record| record.raw);
            let escalation = &mut known.escalations[index];
            let remedy = match raw {
                // Who is not at work, and says so, is not restarted for it.
                Some(Verdict::Fail) if restarts_help(entry) && at_work => escalation.failed(),
                Some(Verdict::Fail) => Remedy::Wait,
                _ => {
                    escalation.passed();
                    Remedy::Wait
                }
            };
            known.gave_up |= remedy == Remedy::GiveUp;
            let flapping = known.states[index].is_flapping();
            let whole = aggregate(known.states.iter().map(CheckState::contribution));
            let judged = Judged { verdict: step.verdict, raw, whole, vouches };
            (judged, remedy, (before != flapping).then_some(flapping))
        };
        if let Some(flapping) = flapping {
            self.tell_of_flapping(watched, &entry.check.name, flapping);
        }
        self.follow(&watched.slot, &entry.check, judged, &outcome, remedy);
        // It may have been removed meanwhile, by whoever did not see this yet.
        if watched.known.lock().position(entry).is_none() {
            watched.slot.relieve(&key_of(&entry.check.name));
        }
    }

    fn follow(
        &self,
        slot: &Slot,
        check: &Check,
        Judged { verdict, raw, whole, vouches }: Judged,
        outcome: &Outcome,
        remedy: Remedy,
    ) {
        let key = key_of(&check.name);
        let measured = outcome.value.map(|value| match value {
            _ if value.is_nan() => "what it measured is no number (NaN)".to_owned(),
            _ => format!("{verdict} at {}", rounded(value)),
        });
        let message = outcome.message.as_deref().or(measured.as_deref());
        let message = message.unwrap_or(verdict.as_str());
        let is_bad =
            |verdict| matches!(verdict, Verdict::Warn | Verdict::Fail | Verdict::OutOfService);
        let cause = match raw {
            Some(Verdict::Pass) => {
                slot.check_passed(&check.name, vouches);
                None
            }
            Some(raw) if is_bad(raw) => {
                let text = format!("check {} did not pass: {message}", check.name);
                Some(slot.check_failed(&check.name, text))
            }
            _ => None,
        };
        let bad = raw.is_some_and(|raw| is_bad(check.criticality.contribution(raw)));
        slot.with(|known| {
            if bad || is_bad(whole) {
                known.passes = 0;
            } else if check.name == OWN_CHECK {
                // All checks together make one round, which is as long as the period of this one.
                known.passes = known.passes.saturating_add(1);
            }
        });
        self.0.registry.look_at_dependency(slot.name());
        match check.criticality.contribution(verdict) {
            Verdict::Warn | Verdict::Fail | Verdict::OutOfService => {
                slot.degrade(&key, format!("{}: {message}", check.name), |record| {
                    let last = || record.last(slot.name(), |entry| entry.what == What::Check);
                    cause.or_else(|| last().map(|entry| entry.id))
                });
            }
            Verdict::Pass | Verdict::Unknown => {
                slot.relieve(&key);
            }
        }
        let error = || {
            let text = format!("`{}` is unhealthy: {}: {message}", slot.name(), check.name);
            let error = Error::new(Kind::Transient, "health check", text);
            error.with("component", slot.name()).with("hook", OWN_CHECK)
        };
        // Both fail only for a component that is gone.
        let _ = match remedy {
            Remedy::Wait => Ok(true),
            Remedy::Recover { .. } => {
                self.0.registry.failed_because(slot.name(), Cause::Watchdog, error(), cause)
            }
            Remedy::GiveUp => {
                self.0.registry.give_up_because(slot.name(), error(), cause).map(|()| true)
            }
        };
    }
}

/// What one result comes to.
struct Judged {
    /// The verdict of the check, which has a memory.
    verdict: Verdict,
    /// That of the result alone, with what was measured judged.
    raw: Option<Verdict>,
    /// That of all checks of the component together.
    whole: Verdict,
    /// Whether the component itself has looked.
    vouches: bool,
}

/// The key of the degradation that a check brings.
pub(super) fn key_of(check: &str) -> String {
    format!("check:{check}")
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Restarting mends the component itself, not what it depends on and not a shortage, nor that
/// there is too much to do.
fn restarts_help(Entry { check, source, .. }: &Entry) -> bool {
    let outside = [CheckKind::Dependency, CheckKind::Resource];
    check.criticality == Criticality::Critical
        && !outside.contains(&check.kinds[0])
        && !matches!(source, Source::Measured(_))
}

fn ask<'a>(slot: &'a Slot, check: &'a Check) -> BoxFuture<'a, Result<HealthAnswer>> {
    if check.name == OWN_CHECK {
        slot.component().health_check()
    } else {
        slot.component().run_check(&check.name)
    }
}

pub(super) fn outcome_of(result: Result<HealthAnswer>) -> Outcome {
    match result {
        Ok(HealthAnswer { verdict, message, value, details, .. }) => {
            Outcome { verdict: Some(verdict), message, value, details }
        }
        Err(error) => Outcome::new(Verdict::Fail).with_message(error.message()),
    }
}
