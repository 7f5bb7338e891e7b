//! Giving up: for a while, for good, or to the supervisor above.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Notice;
use super::desk::{Desk, Exit, ExitKind, Seat};
use crate::error::{Error, Kind};
use crate::lifecycle::State;
use crate::registry::Registry;
use crate::registry::graph::StartPlan;
use crate::registry::record::What;
use crate::registry::slot::Slot;
use crate::registry::supervision::{Cause, Supervisor};

/// The payload of `system.supervisor.reset`: a person has started what was given up.
#[derive(Serialize)]
struct Reset<'a> {
    component: &'a str,
    supervisor: &'a str,
}

impl Registry {
    /// The stop hook runs, and the component ends as failed, with the cause. Its siblings stop.
    pub(super) async fn give_up_now(
        &self,
        desk: &Arc<Desk>,
        slot: &Arc<Slot>,
        plan: &StartPlan,
        exit: &Exit,
        stop: &[Arc<Slot>],
        cooldown: Option<Duration>,
    ) {
        let above = self.desks_over(slot).into_iter().skip_while(|(d, _)| !Arc::ptr_eq(d, desk));
        let above = above.into_iter().nth(1);
        if exit.cause == Cause::Normal {
            // One that finished too often is still at work.
            let error =
                Error::new(Kind::Lifecycle, "restart", "it finished, more often than is borne");
            slot.fail_at_work(error.with("component", slot.name()), "give_up", exit.id);
        }
        let (last, life) = (slot.status(), slot.with(|known| known.lives));
        let gave_up = match &above {
            Some(_) => format!("the supervisor of {} gave up", desk.name),
            None => "gave up".to_owned(),
        };
        let why = match last.cause.strip_prefix("gave up: ") {
            Some(_) => last.cause.clone(),
            None => format!("gave up: {}", last.cause),
        };
        let what = if above.is_some() { What::Escalated } else { What::GaveUp };
        let id = slot.begin(what, gave_up, exit.id);
        for other in stop.iter().filter(|other| other.name() != slot.name()) {
            // First all, then one after the other: none of them is to come back meanwhile.
            other.blame(Some(id));
            other.with(|known| known.held = true);
        }
        slot.with(|known| known.given_up = true);
        for other in stop.iter().rev().filter(|other| other.name() != slot.name()) {
            if !desk.decide(|supervisor| supervisor.has_given_up()) {
                break; // somebody starts them anew
            }
            let with = format!("{} was given up", slot.name());
            // Whoever lets go of it meanwhile starts it anew.
            let meant = || {
                other.with(|known| known.held)
                    && desk.decide(|supervisor| supervisor.has_given_up())
            };
            self.stop_with_dependents(other, plan, &with, false, &meant).await;
        }
        self.park_dependents(slot, plan, &why).await;
        self.clean_up((slot, life), &why, last.error.clone()).await;
        self.tell_leaning(slot, plan);
        if !desk.decide(|supervisor| supervisor.has_given_up()) {
            // A person has started it anew meanwhile: those who stopped with it follow it.
            slot.with(|known| known.given_up = false);
            for other in stop.iter().filter(|other| !other.state().is_operational()) {
                other.with(|known| known.held = true);
                release(other, slot);
            }
            return;
        }
        // Who is stopped with it: of a group that is given up as a whole, the other members too,
        // whom its own supervisor has stopped.
        let whole = std::slice::from_ref(&exit.child);
        let mut with = self.expand(whole, &self.startable(plan));
        with.extend(
            stop.iter()
                .filter(|s| !with.iter().any(|w| Arc::ptr_eq(w, s)))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let notice = Notice {
            component: slot.name(),
            supervisor: &desk.name,
            cause: exit.cause,
            error: why,
            attempt: None,
            after_ms: 0,
            with: with.iter().map(|s| s.name()).filter(|name| *name != slot.name()).collect(),
            retry_in_ms: cooldown.map(|time| time.as_millis() as u64),
        };
        match above {
            Some((above, child)) => {
                slot.emit("system.supervisor.escalated", &notice);
                let (component, cause) = (slot.name().to_owned(), Cause::Error);
                // The one above has a budget of its own, whatever the one below thought.
                let kind = ExitKind::Ended;
                let defeat = desk.decide(|supervisor| supervisor.defeat());
                let id = Some(id);
                self.hand_to(above, Exit { child, component, life, cause, kind, id, defeat });
            }
            None => {
                slot.emit("system.supervisor.gave_up", &notice);
                if let Some(cooldown) = cooldown {
                    self.try_again_after(desk, exit, slot, cooldown);
                }
            }
        }
    }

    /// Whether a supervisor further up than `desk` has given up over `slot`: nobody below starts
    /// anything then, until that one tries again or a person does.
    pub(super) fn is_given_up_above(&self, desk: &Arc<Desk>, slot: &Slot) -> bool {
        let desks = self.desks_over(slot).into_iter().map(|(over, _)| over);
        let mut above = desks.skip_while(|over| !Arc::ptr_eq(over, desk)).skip(1);
        above.any(|over| over.decide(|supervisor| supervisor.has_given_up()))
    }

    /// The stop hook of one that failed in that life runs, exactly once for a start that was
    /// entered.
    pub(super) async fn clean_up(
        &self,
        (slot, life): (&Arc<Slot>, u64),
        why: &str,
        error: Option<Arc<Error>>,
    ) {
        let _gate = slot.gate.lock().await;
        let (entered, lives) = slot.with(|known| (known.start_entered, known.lives));
        if lives != life {
            return; // somebody has started it anew, and whatever came of that is his
        }
        if slot.state() == State::Failed && entered {
            let until = self.0.clock.now().saturating_add(self.0.options.service_timeout);
            if self.run_stop(slot, until, "cleaning up").await.is_ok() {
                // Nothing may follow stopping but these two, and stopped it is not.
                let _ = slot.enter(State::Failed, why);
            }
        }
        self.0.bus.end_suspended(slot.name());
        slot.with(|known| {
            if slot.state() == State::Failed {
                known.cause = why.to_owned();
                known.error = error;
            }
        });
    }

    fn try_again_after(&self, desk: &Arc<Desk>, exit: &Exit, slot: &Slot, cooldown: Duration) {
        let weak = Arc::downgrade(&self.0);
        let (clock, ended, desk) = (self.0.clock.clone(), self.ended_token(), desk.clone());
        let exit = Exit {
            child: exit.child.clone(),
            component: exit.component.clone(),
            life: slot.with(|known| known.lives),
            cause: exit.cause,
            kind: ExitKind::Again,
            id: slot.with(|known| known.because),
            defeat: None,
        };
        self.0.spawner.spawn(Box::pin(async move {
            let over = ended.cancelled();
            futures_util::pin_mut!(over);
            futures_util::future::select(clock.sleep(cooldown), over).await;
            let Some(registry) = weak.upgrade().map(Registry) else { return };
            if !registry.is_closing() {
                registry.hand_to(desk, exit);
            }
        }));
    }

    /// A group whose end concerns nobody any more: its past is forgotten, and its members come
    /// back with `slot`.
    pub(super) fn start_afresh(
        &self,
        desk: &Arc<Desk>,
        exit: &Exit,
        slot: &Slot,
        order: &[Arc<Slot>],
    ) {
        let seat = Seat::Group(exit.child.clone());
        // It is over already; or the group was given up once more, which is handed in by itself.
        if self.desk(&seat).decide(|supervisor| supervisor.defeat()) != exit.defeat {
            return;
        }
        let group = [exit.child.clone()];
        self.reset_given_up(&group, order);
        let given_up = desk.decide(|supervisor| supervisor.has_given_up());
        if given_up || self.is_given_up_above(desk, slot) {
            return; // who has given up since has stopped them, and brings them back
        }
        let (left, life) = slot.with(|known| (known.held || known.given_up, known.lives));
        for other in self.expand(&group, order) {
            release(&other, slot);
        }
        if left && !slot.state().is_operational() {
            // It has ended once more, while nobody below decided: somebody has to.
            self.hand_in(slot, life, exit.cause, ExitKind::Ended, exit.id);
        }
    }

    /// Forgets the past of a component that was given up, so that it may be started anew; those
    /// that were stopped with it follow it.
    pub(in crate::registry) fn forgive(&self, slot: &Slot) {
        slot.with(|known| {
            (known.ended, known.given_up, known.held) = (false, false, false);
            known.finished = None;
        });
        for (desk, _) in self.desks_over(slot) {
            if !desk.decide(|supervisor| supervisor.has_given_up()) {
                continue;
            }
            desk.decide(Supervisor::reset);
            let Ok(plan) = self.plan() else { continue };
            let order = self.startable(&plan);
            let children = self.children(&desk.seat, &order);
            self.reset_below(&children, &order);
            for other in self.expand(&children, &order) {
                release(&other, slot);
            }
            slot.emit(
                "system.supervisor.reset",
                &Reset { component: slot.name(), supervisor: &desk.name },
            );
        }
    }
}

/// One that was stopped, or given up, with `slot` comes back with it.
fn release(other: &Slot, slot: &Slot) {
    let waits = other.with(|known| {
        let waits = (known.held || known.given_up) && other.name() != slot.name();
        (known.held, known.given_up) = (false, false);
        waits
    });
    if waits && !other.state().is_operational() {
        other.block(slot.name(), format!("stopped with {}", slot.name()));
    }
}
