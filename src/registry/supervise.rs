//! Carrying out what a [`Supervisor`](super::supervision::Supervisor) decides: restarts, giving up
//! and handing over to the supervisor above.
//!
//! Whatever ends is handed in at the desk of its supervisor, which decides on one exit after the
//! other; what was decided is carried out beside it. A start that the system makes by itself and
//! that fails is one more exit; one that a person asked for is that person's.

mod carrying_out;
mod desk;
mod giving_up;

use std::sync::Arc;

use serde::Serialize;

use self::carrying_out::Restart;
pub(super) use self::desk::Desks;
use self::desk::{Desk, Exit, ExitKind};
use super::directory::Registry;
use super::graph::StartPlan;
use super::record::{Id, What};
use super::slot::Slot;
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
    /// then is supervision's, in the background. While it starts, its start fails with that.
    /// False if it neither was at work nor started.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown name.
    pub fn component_failed(&self, name: &str, cause: Cause, error: Error) -> Result<bool> {
        let slot = self.get(name)?;
        let error = match slot.fail_at_start(error) {
            Ok(()) => return Ok(true),
            Err(error) => error,
        };
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
        self.hand_to(desk, Exit { child, component, life, cause, kind, id, defeat: None });
    }

    fn hand_to(&self, desk: Arc<Desk>, exit: Exit) {
        if desk.push(exit) {
            self.work_at(desk);
        }
    }

    /// Decides about all that need not wait.
    fn work_at(&self, desk: Arc<Desk>) {
        let registry = self.clone();
        self.0.spawner.spawn(Box::pin(async move {
            while let Some(exit) = desk.pop() {
                let component = exit.component.clone();
                registry.guarded(&component, registry.work_on(&desk, exit)).await;
            }
            if let Ok(plan) = registry.plan() {
                registry.resume(&plan).await;
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
                    self.start_afresh(desk, &exit, &slot, &order);
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
            Verdict::Leave => self.leave_later(desk, slot, plan, exit),
            Verdict::GiveUp { stop, cooldown } => {
                desk.call_off();
                let stop = self.expand(&stop, &order);
                self.give_up_now(desk, &slot, &plan, &exit, &stop, cooldown).await;
            }
            Verdict::Restart { stop, mut affected, after, attempt } => {
                let mut concerns = vec![exit.child.clone()];
                concerns.extend(stop.iter().chain(&affected).cloned());
                affected.extend(desk.supersede(&concerns));
                let back = self.expand(&affected, &order);
                if back.is_empty() {
                    return;
                }
                self.reset_below(&affected, &order);
                let (desk, stop) = (desk.clone(), self.expand(&stop, &order));
                let restart = Restart { desk, slot, plan, exit, stop, back, after };
                self.restart_later(restart, (concerns, affected), attempt);
            }
        }
    }

    /// A component runs again, whoever started it.
    pub(super) fn is_up(&self, slot: &Slot) {
        let now = self.0.clock.now();
        for (desk, child) in self.desks_over(slot) {
            desk.decide(|supervisor| supervisor.on_running(&child, now));
        }
    }
}
