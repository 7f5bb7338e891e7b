//! What was decided is done: each decision by itself, beside those about others.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::Notice;
use super::desk::{Desk, Exit, ExitKind, Ticket};
use crate::error::{Error, Kind};
use crate::registry::Registry;
use crate::registry::graph::StartPlan;
use crate::registry::hook::panic_text;
use crate::registry::record::{Id, What};
use crate::registry::slot::{Known, Slot};
use crate::registry::start::{By, Outcome};
use crate::registry::supervision::Cause;

/// A restart that was decided on.
pub(super) struct Restart {
    pub(super) desk: Arc<Desk>,
    /// The one that ended.
    pub(super) slot: Arc<Slot>,
    pub(super) plan: Arc<StartPlan>,
    pub(super) exit: Exit,
    /// Whom to stop, in start order.
    pub(super) stop: Vec<Arc<Slot>>,
    /// Whom to start, in start order.
    pub(super) back: Vec<Arc<Slot>>,
    pub(super) after: Duration,
}

impl Registry {
    /// Does `work` for a component; a panic in it is told, and ends nothing else.
    pub(super) async fn guarded(&self, component: &str, work: impl Future<Output = ()>) {
        let Err(panic) = AssertUnwindSafe(work).catch_unwind().await else { return };
        let text = format!("supervision of `{component}` panicked: {}", panic_text(&*panic));
        tracing::error!(target: "tiebeam::registry", component, "{text}");
        let told = catch_unwind(AssertUnwindSafe(|| {
            let Ok(slot) = self.get(component) else { return };
            let id = slot.begin(What::GaveUp, text.clone(), None);
            if !slot.state().is_operational() {
                // What was to be done about it is not: a person has to look.
                slot.with(|known| (known.given_up, known.cause) = (true, text.clone()));
            }
            let error = Error::new(Kind::Internal, "supervise", text.clone());
            slot.report(&error.with("hook", "supervise"), "give_up");
            slot.blame(Some(id));
            if !slot.state().is_operational() {
                self.0.bus.end_suspended(component); // nobody brings it back
            }
        }));
        if told.is_err() {
            tracing::error!(target: "tiebeam::registry", component, "and so did telling of it");
        }
    }

    /// Does what was decided in the background; then it is time for what waited for that.
    fn carry_out(
        &self,
        (desk, ticket): (Arc<Desk>, Ticket),
        component: String,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let registry = self.clone();
        self.0.spawner.spawn(Box::pin(async move {
            registry.guarded(&component, work).await;
            if desk.finish(ticket) {
                registry.work_at(desk);
            }
            if let Ok(plan) = registry.plan() {
                registry.resume(&plan).await;
            }
        }));
    }

    /// Nobody starts it again: that is its end, or the consequence of another's.
    pub(super) fn leave_later(
        &self,
        desk: &Arc<Desk>,
        slot: Arc<Slot>,
        plan: Arc<StartPlan>,
        exit: Exit,
    ) {
        if exit.kind == ExitKind::Again {
            return;
        }
        // At once: who has given up may be let start again before the rest is done.
        let given_up = self.desks_over(&slot).iter().any(|(d, _)| d.decide(|s| s.has_given_up()));
        if given_up {
            slot.with(|known| known.held = true);
        } else if exit.kind == ExitKind::Ended {
            slot.with(|known| known.ended = true);
        }
        let ticket = desk.begin(vec![exit.child.clone()], Vec::new());
        let (registry, name) = (self.clone(), slot.name().to_owned());
        let work = async move { registry.leave(&slot, &plan, &exit, given_up).await };
        self.carry_out((desk.clone(), ticket), name, work);
    }

    async fn leave(&self, slot: &Arc<Slot>, plan: &StartPlan, exit: &Exit, given_up: bool) {
        if exit.kind == ExitKind::Ended && exit.cause == Cause::Normal {
            self.park_dependents(slot, plan, "finished").await;
            // Somebody may have started it anew meanwhile, or wants it to go on as it is.
            let is_over =
                |known: &mut Known| known.lives == exit.life && (known.ended || known.held);
            if slot.with(is_over) {
                let meant = || slot.with(is_over);
                self.stop_with_dependents(slot, plan, "finished", false, &meant).await;
            }
        } else if !given_up {
            // It has failed and stays so: what it has begun is to end.
            let last = slot.status();
            self.clean_up((slot, exit.life), &last.cause, last.error.clone()).await;
        }
    }

    /// Tells of a restart, and makes it in the background.
    pub(super) fn restart_later(
        &self,
        restart: Restart,
        (concerns, children): (Vec<String>, Vec<String>),
        attempt: u32,
    ) {
        let Restart { desk, slot, exit, back, after, .. } = &restart;
        let again = exit.kind == ExitKind::Again;
        let why = match exit.cause {
            Cause::Normal => "finished".to_owned(),
            _ => slot.status().cause,
        };
        let text = match again {
            true => "trying once more after the cooldown".to_owned(),
            false => restart_text(attempt, *after),
        };
        let what = if again { What::Retrying } else { What::Restarting };
        let id = slot.begin(what, text, exit.id);
        let notice = Notice {
            component: slot.name(),
            supervisor: &desk.name,
            cause: exit.cause,
            error: why.clone(),
            attempt: Some(attempt),
            after_ms: after.as_millis() as u64,
            with: back.iter().map(|s| s.name()).filter(|name| *name != slot.name()).collect(),
            retry_in_ms: None,
        };
        slot.emit("system.supervisor.restarting", &notice);
        let (registry, name) = (self.clone(), slot.name().to_owned());
        let (desk, ticket) = (desk.clone(), desk.begin(concerns, children));
        let work = async move { registry.restart_now(restart, ticket, (id, &why)).await };
        self.carry_out((desk, ticket), name, work);
    }

    async fn restart_now(&self, restart: Restart, ticket: Ticket, (id, why): (Id, &str)) {
        let Restart { desk, slot, plan, exit: _, stop, back, after } = restart;
        let lives: Vec<u64> = back.iter().map(|slot| slot.with(|known| known.lives)).collect();
        // Somebody else may stop them meanwhile, or have started them anew.
        let meant = || desk.is_on(ticket);
        for other in stop.iter().rev() {
            if other.name() != slot.name() && meant() {
                other.blame(Some(id));
                let with = format!("restarting with {}", slot.name());
                let comes_back = back.iter().any(|slot| Arc::ptr_eq(slot, other));
                self.stop_with_dependents(other, &plan, &with, comes_back, &meant).await;
            }
        }
        // A failed stop is told as an event; the start that follows is the better news.
        let why = format!("restarting: {why}");
        self.stop_with_dependents(&slot, &plan, &why, true, &meant).await;
        self.wait(after).await;
        // Whom a supervisor that has given up meanwhile has stopped is that one's to bring back.
        let given_up = desk.decide(|supervisor| supervisor.has_given_up());
        if self.is_closing() || given_up || self.is_given_up_above(&desk, &slot) {
            return;
        }
        let is_on = desk.starts(ticket);
        let mut names = Vec::new();
        for (other, life) in back.iter().zip(lives) {
            // Somebody may have stopped it meanwhile, or started it by hand.
            if !other.with(|known| known.wanted) || other.state().is_operational() {
                continue;
            }
            // Another decision has taken the place of this one. Whom that leaves alone must not
            // be lost.
            let anew = other.with(|known| known.lives != life || known.held || known.given_up);
            if !is_on && (anew || self.is_concerned(other)) {
                continue;
            }
            other.blame(Some(id));
            other.with(|known| {
                (known.held, known.given_up) = (false, false);
                known.restarts += u64::from(other.name() == slot.name());
            });
            names.push(other.name().to_owned());
        }
        for (name, outcome) in self.start_set(&plan, names, By::Supervision).await {
            if let (Outcome::Failed(error), Ok(failed)) = (outcome, self.get(&name)) {
                self.start_failed(&failed, &error);
            }
        }
    }

    /// Whether any of the supervisors over it is about to do something about it.
    fn is_concerned(&self, slot: &Slot) -> bool {
        self.desks_over(slot).iter().any(|(desk, child)| desk.concerns(child))
    }

    /// Stops a component, those that do not go on without it first.
    pub(super) async fn stop_with_dependents(
        &self,
        slot: &Arc<Slot>,
        plan: &StartPlan,
        cause: &str,
        comes_back: bool,
        meant: &(dyn Fn() -> bool + Sync),
    ) {
        if !meant() {
            return;
        }
        self.park_dependents(slot, plan, cause).await;
        let until = self.0.clock.now().saturating_add(self.0.options.service_timeout);
        // Its error is told as an event.
        let _ = self.stop_while(slot, until, cause, meant).await;
        if !comes_back && meant() {
            self.0.bus.end_suspended(slot.name());
        }
        if !slot.state().is_operational() {
            // Some may have come up while it was still there.
            self.park_dependents(slot, plan, cause).await;
        }
        self.tell_leaning(slot, plan);
    }

    /// Waits for so long, or until everything stops.
    async fn wait(&self, time: Duration) {
        let ended = self.ended_token();
        let over = ended.cancelled();
        futures_util::pin_mut!(over);
        futures_util::future::select(self.0.clock.sleep(time), over).await;
    }
}

fn restart_text(attempt: u32, after: Duration) -> String {
    let number = match attempt {
        1 => "1st".to_owned(),
        2 => "2nd".to_owned(),
        3 => "3rd".to_owned(),
        n => format!("{n}th"),
    };
    let wait = if after.is_zero() {
        String::new()
    } else {
        format!(", after {:.1} s", after.as_secs_f64())
    };
    format!("{number} restart within the period{wait}")
}
