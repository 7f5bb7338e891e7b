//! Carrying out what a [`Supervisor`](super::supervision::Supervisor) decides: restarts, giving up
//! and handing over to the supervisor above.
//!
//! Whatever ends is handed in at the desk of its supervisor, which works on one exit after the
//! other. A start that the system makes by itself and that fails is one more exit; one that a
//! person asked for is that person's.

mod desk;
mod giving_up;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub(super) use self::desk::Desks;
use self::desk::{Desk, Exit, ExitKind};
use super::directory::Registry;
use super::graph::StartPlan;
use super::record::{Id, What};
use super::slot::{Known, Slot};
use super::start::Outcome;
use super::supervision::{Cause, Verdict};
use crate::error::{Error, Kind, Result};

/// The payload of `system.supervisor.restarting`, `escalated` and `gave_up`.
#[derive(Serialize)]
struct Notice<'a> {
    component: &'a str,
    /// Whose budget it is: the name of a group or of a component, `system` for everybody's,
    /// or `system:<group>` for that of a group as a whole.
    supervisor: &'a str,
    cause: Cause,
    error: String,
    attempt: Option<u32>,
    after_ms: u64,
    /// Who is stopped and started with it.
    with: Vec<&'a str>,
    /// When one more start is tried, in milliseconds; for `gave_up`.
    retry_in_ms: Option<u64>,
}

impl Registry {
    /// A component that was at work has failed with `error`. It is failed at once; what comes
    /// then is supervision's, in the background. False if it was not at work.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown name.
    pub fn component_failed(&self, name: &str, cause: Cause, error: Error) -> Result<bool> {
        self.failed_because(name, cause, error, None)
    }

    /// The same, caused by that.
    pub(super) fn failed_because(
        &self,
        name: &str,
        cause: Cause,
        error: Error,
        because: Option<Id>,
    ) -> Result<bool> {
        let slot = self.get(name)?;
        let Some(life) = slot.fail_at_work(error, "restart", because) else { return Ok(false) };
        self.ended(slot, life, cause, ExitKind::Ended);
        Ok(true)
    }

    /// A component has done what it is for, and ends in good order: it is stopped, and started
    /// again if it is permanent. False if it was not at work, or has said so already.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown name.
    pub fn component_finished(&self, name: &str, why: &str) -> Result<bool> {
        let slot = self.get(name)?;
        if !slot.state().is_operational() {
            return Ok(false); // and it may say so again when it is
        }
        let known = slot.with(|known| known.lives);
        if slot.with(|k| k.finished.replace(known)) == Some(known) {
            return Ok(false);
        }
        let text = if why.is_empty() { "finished".to_owned() } else { format!("finished: {why}") };
        slot.begin(What::Finished, text, None);
        self.ended(slot, known, Cause::Normal, ExitKind::Ended);
        Ok(true)
    }

    /// Gives a component up: whatever else was tried did not help.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown name.
    pub fn give_up(&self, name: &str, error: Error) -> Result<()> {
        self.give_up_because(name, error, None)
    }

    pub(super) fn give_up_because(
        &self,
        name: &str,
        error: Error,
        because: Option<Id>,
    ) -> Result<()> {
        let slot = self.get(name)?;
        if let Some(life) = slot.fail_at_work(error, "give_up", because) {
            self.ended(slot, life, Cause::Watchdog, ExitKind::Hopeless);
        }
        Ok(())
    }

    /// Those who lean on it hear of it first, then its supervisor.
    fn ended(&self, slot: Arc<Slot>, life: u64, cause: Cause, kind: ExitKind) {
        let registry = self.clone();
        let id = slot.with(|known| known.because);
        self.0.spawner.spawn(Box::pin(async move {
            if let Ok(plan) = registry.plan()
                && cause != Cause::Normal
            {
                registry.tell_leaning(&slot, &plan);
                registry.park_dependents(&slot, &plan, &slot.status().cause).await;
            }
            registry.hand_in(&slot, life, cause, kind, id);
        }));
    }

    /// A start that the system made by itself has failed.
    pub(super) fn start_failed(&self, slot: &Slot, error: &Error) {
        let cause = match error.kind() {
            Kind::Timeout => Cause::Timeout,
            _ => Cause::Error,
        };
        let (life, id) = slot.with(|known| (known.lives, known.because));
        self.hand_in(slot, life, cause, ExitKind::Ended, id);
    }

    fn hand_in(&self, slot: &Slot, life: u64, cause: Cause, kind: ExitKind, id: Option<Id>) {
        let Some((desk, child)) = self.desks_over(slot).into_iter().next() else { return };
        let component = slot.name().to_owned();
        self.hand_to(desk, Exit { child, component, life, cause, kind, id });
    }

    fn hand_to(&self, desk: Arc<Desk>, exit: Exit) {
        if !desk.push(exit) {
            return;
        }
        let registry = self.clone();
        self.0.spawner.spawn(Box::pin(async move {
            while let Some(exit) = desk.pop() {
                registry.work_on(&desk, exit).await;
                if let Ok(plan) = registry.plan() {
                    registry.resume(&plan).await;
                }
            }
        }));
    }

    /// Whom supervision may start: those that somebody wants to run and that have not come to
    /// their end, in start order.
    fn startable(&self, plan: &StartPlan) -> Vec<Arc<Slot>> {
        let slots = plan.order().filter_map(|name| self.get(name).ok());
        slots.filter(|slot| slot.with(|known| known.wanted && !known.ended)).collect()
    }

    async fn work_on(&self, desk: &Arc<Desk>, exit: Exit) {
        let (Ok(plan), Ok(slot)) = (self.plan(), self.get(&exit.component)) else { return };
        // Those who were stopped with it are still wanted when the cooldown is over.
        let of_group = exit.child != exit.component;
        let again = exit.kind == ExitKind::Again;
        let wanted = again || of_group || slot.with(|known| known.wanted);
        if self.is_closing() || !wanted {
            return;
        }
        let stale = slot.with(|known| known.lives) != exit.life;
        let order = self.startable(&plan);
        let children = self.children(&desk.seat, &order);
        let names: Vec<&str> = children.iter().map(String::as_str).collect();
        let now = self.0.clock.now();
        let verdict = match exit.kind {
            ExitKind::Again => desk.try_again(now, &names),
            _ if stale => {
                if of_group {
                    // Its end was passed on, and somebody has started it anew since.
                    self.start_afresh(&exit.child, &slot, &order);
                }
                return;
            }
            // It waits with everybody whom the one above has stopped.
            _ if self.is_given_up_above(desk, &slot) => {
                slot.with(|known| known.held = true);
                Verdict::Leave
            }
            ExitKind::Hopeless => desk.decide(|s| s.surrender(&exit.child, now, &names)),
            ExitKind::Ended => desk.decide(|s| s.on_exit(&exit.child, exit.cause, now, &names)),
        };
        match verdict {
            Verdict::Leave => self.leave(&slot, &plan, &exit).await,
            Verdict::GiveUp { stop, cooldown } => {
                let stop = self.expand(&stop, &order);
                self.give_up_now(desk, &slot, &plan, &exit, &stop, cooldown).await;
            }
            Verdict::Restart { stop, affected, after, attempt } => {
                let stop = self.expand(&stop, &order);
                let back = self.expand(&affected, &order);
                self.reset_below(&affected, &order);
                self.restart_now(desk, &slot, &plan, &exit, (&stop, &back), after, attempt).await;
            }
        }
    }

    /// Nobody starts it again: that is its end, or the consequence of another's.
    async fn leave(&self, slot: &Arc<Slot>, plan: &StartPlan, exit: &Exit) {
        if exit.kind == ExitKind::Again {
            return;
        }
        let given_up = self.desks_over(slot).iter().any(|(d, _)| d.decide(|s| s.has_given_up()));
        if given_up {
            slot.with(|known| known.held = true);
        } else if exit.kind == ExitKind::Ended {
            slot.with(|known| known.ended = true);
        }
        if exit.kind == ExitKind::Ended && exit.cause == Cause::Normal {
            self.park_dependents(slot, plan, "finished").await;
            // Somebody may have started it anew meanwhile, or wants it to go on as it is.
            let is_over =
                |known: &mut Known| known.lives == exit.life && (known.ended || known.held);
            if slot.with(is_over) {
                self.stop_with_dependents(slot, plan, "finished").await;
            }
        } else if !given_up {
            // It has failed and stays so: what it has begun is to end.
            let last = slot.status();
            self.clean_up(slot, &last.cause, last.error.clone()).await;
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one verdict")]
    async fn restart_now(
        &self,
        desk: &Arc<Desk>,
        slot: &Arc<Slot>,
        plan: &StartPlan,
        exit: &Exit,
        (stop, back): (&[Arc<Slot>], &[Arc<Slot>]),
        after: Duration,
        attempt: u32,
    ) {
        let again = exit.kind == ExitKind::Again;
        if back.is_empty() {
            return;
        }
        let why = match exit.cause {
            Cause::Normal => "finished".to_owned(),
            _ => slot.status().cause,
        };
        let text = match again {
            true => "trying once more after the cooldown".to_owned(),
            false => restart_text(attempt, after),
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
        for other in stop.iter().rev() {
            if other.name() != slot.name() {
                other.blame(Some(id));
                let with = format!("restarting with {}", slot.name());
                self.stop_with_dependents(other, plan, &with).await;
            }
        }
        // A failed stop is told as an event; the start that follows is the better news.
        self.stop_with_dependents(slot, plan, &format!("restarting: {why}")).await;
        self.wait(after).await;
        // Whom a supervisor above has stopped meanwhile is that one's to bring back.
        if self.is_closing() || self.is_given_up_above(desk, slot) {
            return;
        }
        let mut names = Vec::new();
        for other in back {
            // Somebody may have stopped it meanwhile.
            if other.with(|known| known.wanted) {
                other.blame(Some(id));
                other.with(|known| {
                    (known.held, known.given_up) = (false, false);
                    known.restarts += u64::from(other.name() == slot.name());
                });
                names.push(other.name().to_owned());
            }
        }
        for (name, outcome) in self.start_set(plan, names, true).await {
            if let (Outcome::Failed(error), Ok(failed)) = (outcome, self.get(&name)) {
                self.start_failed(&failed, &error);
            }
        }
    }

    /// Stops a component, those that do not go on without it first.
    async fn stop_with_dependents(&self, slot: &Arc<Slot>, plan: &StartPlan, cause: &str) {
        self.park_dependents(slot, plan, cause).await;
        let until = self.0.clock.now().saturating_add(self.0.options.service_timeout);
        // Its error is told as an event.
        let _ = self.stop_one(slot, until, cause).await;
        // Some may have come up while it was still there.
        self.park_dependents(slot, plan, cause).await;
        self.tell_leaning(slot, plan);
    }

    /// Waits for so long, or until everything stops.
    async fn wait(&self, time: Duration) {
        let ended = self.ended_token();
        let over = ended.cancelled();
        futures_util::pin_mut!(over);
        futures_util::future::select(self.0.clock.sleep(time), over).await;
    }

    /// A component runs again, whoever started it.
    pub(super) fn is_up(&self, slot: &Slot) {
        let now = self.0.clock.now();
        for (desk, child) in self.desks_over(slot) {
            desk.decide(|supervisor| supervisor.on_running(&child, now));
        }
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
