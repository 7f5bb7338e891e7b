//! Stopping: in reverse order, past errors, by a deadline.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::directory::Registry;
use super::graph::StartPlan;
use super::hook::{self, in_order};
use super::record::{SYSTEM, What};
use super::slot::Slot;
use super::start::again;
use crate::clock::Instant;
use crate::error::{Error, Kind, Result};
use crate::lifecycle::State;

/// How much of the time for stopping is kept for each layer that stops later, at most: one that
/// hangs must not keep those it depends on from stopping. All of it is no more than one half.
const MOST_KEPT: Duration = Duration::from_secs(1);

/// What came of stopping everything.
#[derive(Clone, Debug, Default)]
pub struct StopReport {
    /// Those that stopped in good order, in the order in which they did.
    pub stopped: Vec<String>,
    /// Those that did not, with the error.
    pub failed: Vec<(String, Arc<Error>)>,
    /// Deliveries that were still at work when the bus closed, by subscription.
    pub left: Vec<(String, u64)>,
    /// How long it took.
    pub took: Duration,
}

impl StopReport {
    /// Whether everything stopped in good order and nothing was left.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty() && self.left.is_empty()
    }
}

impl Registry {
    /// From now on nothing starts and nothing is restarted, until somebody asks for a start.
    pub fn begin_shutdown(&self) {
        self.0.closing.store(true, Ordering::Release);
        self.ended_token().cancel();
    }

    /// From now on something may start again.
    pub(super) fn reopen(&self) {
        if self.0.closing.swap(false, Ordering::AcqRel) {
            *self.0.ended.lock() = CancellationToken::new();
        }
    }

    /// Cancelled when everything stops.
    pub(super) fn ended_token(&self) -> CancellationToken {
        self.0.ended.lock().clone()
    }

    /// Stops every component, dependents first, independent ones in parallel, all within
    /// `deadline`: each gets `service_timeout` or what is left, whichever is less, but for a
    /// little that is kept for those that stop after it. Past errors.
    pub async fn stop_all(&self, deadline: Duration) -> StopReport {
        self.begin_shutdown();
        let begun = self.0.clock.now();
        // Without a plan nothing has started by one, and any order will do.
        let plan = self.plan().unwrap_or_default();
        let mut names: Vec<String> = plan.stop_order().map(str::to_owned).collect();
        let id = self.0.record.note(SYSTEM, What::Request, "the system was stopped", None);
        for slot in self.slots().iter().rev() {
            slot.with(|known| (known.wanted, known.blocked_by) = (false, None));
            slot.blame(Some(id));
            if plan.step(slot.name()).is_none() {
                names.push(slot.name().to_owned());
            }
        }
        let layers = plan.layers();
        let share = MOST_KEPT.min(deadline / (2 * layers.len().max(1) as u32));
        let until = |name: &str| {
            let below = layers.iter().position(|layer| layer.iter().any(|other| other == name));
            begun.saturating_add(deadline - share * below.unwrap_or(0) as u32)
        };
        let results = in_order(names, followers(&plan), |name| {
            let until = until(&name);
            async move {
                let slot = self.get(&name).ok()?;
                Some(self.stop_one(&slot, until, "shutdown").await)
            }
        });
        let mut report = StopReport::default();
        for (name, result) in results.await {
            match result {
                Some(Ok(())) => report.stopped.push(name),
                Some(Err(error)) => report.failed.push((name, error)),
                None => {}
            }
        }
        report.took = self.0.clock.now().saturating_since(begun);
        report
    }

    /// Stops one component, its hard dependents first; they resume when it starts again.
    ///
    /// # Errors
    /// What its `stop` said, or that it did not finish; it is failed then.
    pub async fn stop(&self, name: &str) -> Result<()> {
        self.stop_by_hand(name, false).await
    }

    /// Stops one component because somebody asks for it; whether it is to start again at once.
    pub(super) async fn stop_by_hand(&self, name: &str, comes_back: bool) -> Result<()> {
        let slot = self.get(name)?;
        slot.with(|known| (known.wanted, known.blocked_by) = (false, None));
        slot.begin(What::Request, "a stop was asked for", None);
        if let Ok(plan) = self.plan() {
            self.park_dependents(&slot, &plan, "stopped").await;
        }
        let until = self.0.clock.now().saturating_add(self.0.options.service_timeout);
        let result = match comes_back {
            true => self.stop_to_come_back(&slot, until, "stopped on request").await,
            false => self.stop_one(&slot, until, "stopped on request").await,
        };
        if matches!(slot.state(), State::Stopped | State::Failed) {
            // A start that was asked for meanwhile has made way, also to a stop that failed.
            slot.with(|known| known.wanted = false);
        }
        if let Ok(plan) = self.plan() {
            // Some may have come up while it was still there.
            self.park_dependents(&slot, &plan, "stopped").await;
            self.tell_leaning(&slot, &plan);
        }
        result.map_err(|error| again(&error))
    }

    /// Stops those who do not go on without `slot`, last first, and notes whom they wait for.
    pub(super) async fn park_dependents(&self, slot: &Slot, plan: &StartPlan, cause: &str) {
        let cause = format!("blocked by {}: {cause}", slot.name());
        let mut names = self.stopped_by(slot.name(), plan);
        names.reverse();
        in_order(names, followers(plan), |name| {
            let cause = &cause;
            async move {
                let Ok(dependent) = self.get(&name) else { return };
                let state = dependent.state();
                let at_work = state.is_operational() || state == State::Starting;
                if at_work {
                    dependent.blame(self.0.record.last_state(slot.name()));
                    let limit = self.0.options.service_timeout;
                    let until = self.0.clock.now().saturating_add(limit);
                    // Its error is told as an event, and it waits like the others.
                    let _ = self.stop_one(&dependent, until, cause).await;
                    self.tell_leaning(&dependent, plan);
                }
                // One that failed by itself, or was stopped by somebody, does not come back.
                let waits = dependent.with(|known| known.blocked_by.is_some());
                let wanted = dependent.with(|known| known.wanted);
                if wanted && (at_work || waits || state == State::Configured) {
                    dependent.block(slot.name(), cause.clone());
                }
            }
        })
        .await;
    }

    /// Stops one component by `until`. Its `stop` hook runs exactly when `start` was entered.
    pub(super) async fn stop_one(
        &self,
        slot: &Arc<Slot>,
        until: Instant,
        cause: &str,
    ) -> Result<(), Arc<Error>> {
        let result = self.stop_to_come_back(slot, until, cause).await;
        self.0.bus.end_suspended(slot.name());
        result
    }

    /// The same for one that is started again: what came since it failed waits for that.
    pub(super) async fn stop_to_come_back(
        &self,
        slot: &Arc<Slot>,
        until: Instant,
        cause: &str,
    ) -> Result<(), Arc<Error>> {
        self.stop_while(slot, until, cause, &|| true).await
    }

    /// The same, if `meant` still when it is this one's turn.
    pub(super) async fn stop_while(
        &self,
        slot: &Arc<Slot>,
        until: Instant,
        cause: &str,
        meant: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), Arc<Error>> {
        let stopper = Stopper::new(slot);
        let left = until.saturating_since(self.0.clock.now());
        let Ok(_gate) = self.0.clock.timeout(left, slot.gate.lock()).await else {
            let message = format!("`{}` was busy until the deadline", slot.name());
            let error = Error::new(Kind::Timeout, "stop", message).with("hook", "stop");
            return Err(Arc::new(error));
        };
        drop(stopper);
        if !meant() {
            // It made way all the same, where it was starting: it is to try once more.
            if slot.with(|known| std::mem::take(&mut known.cut_short)) {
                if slot.state() == State::Starting
                    && self.run_stop(slot, until, cause).await.is_ok()
                {
                    let _ = slot.enter(State::Stopped, cause);
                }
                if slot.with(|known| known.blocked_by.is_none()) {
                    slot.block(slot.name(), "its start was cut short".to_owned());
                }
            }
            return Ok(());
        }
        let entered = slot.with(|known| known.start_entered);
        match (slot.state(), entered) {
            (State::Stopped, _) => Ok(()),
            (State::Initialized | State::Configured | State::Failed, false) => {
                slot.enter(State::Stopped, cause).map_err(Arc::new)
            }
            _ => {
                self.run_stop(slot, until, cause).await?;
                slot.enter(State::Stopped, cause).map_err(Arc::new)
            }
        }
    }

    /// Through stopping; the caller holds the gate and says what comes then.
    pub(super) async fn run_stop(
        &self,
        slot: &Arc<Slot>,
        until: Instant,
        cause: &str,
    ) -> Result<(), Arc<Error>> {
        slot.enter(State::Stopping, cause).map_err(Arc::new)?;
        let unfinished = Unfinished(slot);
        let clock = &self.0.clock;
        let limit = self.0.options.service_timeout.min(until.saturating_since(clock.now()));
        slot.with(|known| {
            known.start_entered = false;
            known.degradations.clear();
        });
        let component = slot.component();
        let result = hook::run(clock, limit, slot.name(), "stop", || component.stop()).await;
        std::mem::forget(unfinished);
        result.map_err(|error| slot.fail(error, "failed"))
    }
}

/// Announces a stop for as long as it waits for the gate, so that a start makes way.
struct Stopper<'a>(&'a Slot);

impl<'a> Stopper<'a> {
    fn new(slot: &'a Slot) -> Self {
        slot.stoppers.fetch_add(1, Ordering::AcqRel);
        slot.interrupt.notify_waiters();
        Stopper(slot)
    }
}

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.stoppers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A stop that is dropped halfway leaves nobody behind as "stopping".
struct Unfinished<'a>(&'a Arc<Slot>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.0.state() == State::Stopping {
            let message = format!("the stop of `{}` was cancelled", self.0.name());
            self.0.fail(Error::new(Kind::Lifecycle, "stop", message), "failed");
        }
    }
}

/// Whoever starts after a component stops before it.
fn followers(plan: &StartPlan) -> impl Fn(&str) -> Vec<String> + '_ {
    |name| {
        let after = plan.steps().filter(|step| step.predecessors().any(|(_, n)| n == name));
        after.map(|step| step.name.clone()).collect()
    }
}
