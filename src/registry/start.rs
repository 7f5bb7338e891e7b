//! Starting: by the plan, in parallel where nothing speaks against it, past failures.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::directory::Registry;
use super::graph::StartPlan;
use super::hook::{self, in_order};
use super::record::{SYSTEM, What};
use super::slot::Slot;
use crate::bus::Subscription;
use crate::clock::Instant;
use crate::error::{Error, Kind, Result};
use crate::lifecycle::State;

/// The wait after the first [`Kind::NotReady`]; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A start that says "not yet" is repeated for this many times `service_timeout`: longer than a
/// hook may take, since waiting for something else is no sign of a hang.
const READINESS_FACTOR: u32 = 3;

/// What came of starting several components.
#[derive(Clone, Debug, Default)]
pub struct StartReport {
    /// Those that do their work, in the order in which they came up.
    pub started: Vec<String>,
    /// Those that failed, with the error.
    pub failed: Vec<(String, Arc<Error>)>,
    /// Those that stay configured, with the cause.
    pub blocked: Vec<(String, String)>,
    /// Those whose start was cut short by a stop.
    pub interrupted: Vec<String>,
}

impl StartReport {
    /// Whether everything runs.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.blocked.is_empty() && self.interrupted.is_empty()
    }
}

/// What came of starting one component.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Up,
    Failed(Arc<Error>),
    Blocked(String),
    Interrupted,
}

/// Who starts a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Somebody who asked for it.
    Person,
    /// Supervision, in the place of its last life.
    Supervision,
    /// Nobody but what it waited for, which is there again.
    Return,
}

impl Registry {
    /// Initializes and configures every component, in start order; one that fails is failed,
    /// the others go on.
    ///
    /// # Errors
    /// Only a plan that cannot be made; nothing has been touched then.
    pub async fn prepare_all(&self) -> Result<StartReport> {
        let plan = self.plan()?;
        let names = plan.order().map(str::to_owned).collect();
        let results = in_order(names, predecessors(&plan), |name| async move {
            let slot = self.get(&name).ok()?;
            let _gate = slot.gate.lock().await;
            if slot.state() != State::Initialized {
                return None;
            }
            match self.unless_stopped(&slot, self.prepare(&slot)).await {
                Some(prepared) => prepared.err().map(Outcome::Failed),
                None => Some(Outcome::Interrupted),
            }
        });
        let results = results.await;
        Ok(report(results.into_iter().filter_map(|(name, outcome)| Some((name, outcome?)))))
    }

    /// Starts every component that does not run, dependencies first.
    ///
    /// One that fails blocks its hard dependents, which stay configured with the cause; all
    /// others go on. Being degraded is no failure.
    ///
    /// # Errors
    /// Only a plan that cannot be made (a cycle, a missing dependency): nothing has started.
    pub async fn start_all(&self) -> Result<StartReport> {
        let plan = self.plan()?;
        self.reopen();
        let id = self.0.record.note(SYSTEM, What::Request, "the system was started", None);
        for slot in self.slots() {
            slot.blame(Some(id));
        }
        let prepared = self.prepare_all().await?;
        let failed: Vec<&String> = prepared.failed.iter().map(|(name, _)| name).collect();
        let order = plan.order().filter(|name| !failed.iter().any(|failed| failed == name));
        let names: Vec<String> = order.map(str::to_owned).collect();
        for name in plan.order() {
            if let Ok(slot) = self.get(name) {
                slot.with(|known| known.wanted = true);
                self.forgive(&slot);
            }
        }
        let mut report = report(self.start_set(&plan, names, By::Person).await);
        report.failed.splice(0..0, prepared.failed);
        Ok(report)
    }

    /// Starts one component, and then those that only waited for it.
    ///
    /// # Errors
    /// The error it failed with, as the source of a [`Kind::Lifecycle`] one or itself; for a
    /// blocked one [`Kind::Dependency`]; [`Kind::Closed`] after [`Registry::stop_all`].
    pub async fn start(&self, name: &str) -> Result<()> {
        let slot = self.get(name)?;
        let plan = self.plan()?;
        if self.is_closing() {
            let message = format!("cannot start `{name}`: everything stops, or has stopped");
            return Err(Error::new(Kind::Closed, "start", message).with("component", name));
        }
        slot.with(|known| known.wanted = true);
        slot.begin(What::Request, "a start was asked for", None);
        self.forgive(&slot);
        let mut outcome = self.start_one(&slot, &plan, By::Person).await;
        if matches!(outcome, Outcome::Interrupted)
            && !self.is_closing()
            && slot.with(|known| known.wanted)
        {
            // By a stop of supervision's own; one that a person asks for wants it no more.
            outcome = self.start_one(&slot, &plan, By::Person).await;
        }
        // What it needs may be among those that come back with it; and those who only stopped
        // with it come back also where it fails.
        if !matches!(outcome, Outcome::Interrupted) {
            self.resume(&plan).await;
            if matches!(outcome, Outcome::Blocked(_)) && slot.state().is_operational() {
                outcome = Outcome::Up;
            }
        }
        into_result(name, outcome)
    }

    /// Stops, configures and starts one component; its dependents follow it down and up.
    ///
    /// # Errors
    /// As [`Registry::start`]. An error of `stop` is told as an event, and does not keep the
    /// component from starting.
    pub async fn restart(&self, name: &str) -> Result<()> {
        if let Err(error) = self.stop_by_hand(name, true).await {
            self.get(name)?;
            tracing::warn!(target: "tiebeam::registry", component = name, "{error}");
        }
        self.start(name).await
    }

    /// Configures a running component in place, or one that waits to be started.
    ///
    /// # Errors
    /// What the hook said. A running component stays as it was; whoever reconfigures decides
    /// what to do about that.
    pub async fn reconfigure(&self, name: &str) -> Result<()> {
        let slot = self.get(name)?;
        let _gate = slot.gate.lock().await;
        let config = self.config_of(name);
        let (clock, limit) = (&self.0.clock, self.0.options.service_timeout);
        let (component, change) = (slot.component(), slot.change_to(&config));
        let result =
            hook::run(clock, limit, name, "configure", || component.configure(&config)).await;
        match (result, slot.state()) {
            (Ok(()), State::Configured | State::Stopped) => {
                slot.adopted(&config, change);
                slot.enter(State::Configured, "reconfigured")
            }
            (Ok(()), _) => {
                slot.adopted(&config, change);
                Ok(())
            }
            (result, _) => result.inspect_err(|error| slot.report(error, "kept")),
        }
    }

    /// Starts `names`, each when those before it are done.
    pub(super) async fn start_set(
        &self,
        plan: &StartPlan,
        names: Vec<String>,
        by: By,
    ) -> Vec<(String, Outcome)> {
        in_order(names, predecessors(plan), |name| async move {
            match self.get(&name) {
                Ok(slot) => self.start_one(&slot, plan, by).await,
                Err(_) => Outcome::Interrupted, // unregistered meanwhile
            }
        })
        .await
    }

    /// Starts what was blocked and no longer is, in order.
    pub(super) async fn resume(&self, plan: &StartPlan) {
        // Each once: who does not come up, or is stopped again, is somebody else's to bring back.
        let mut tried: Vec<String> = Vec::new();
        loop {
            let ready = plan.order().filter(|name| {
                if tried.iter().any(|other| other == name) {
                    return false;
                }
                let Ok(slot) = self.get(name) else { return false };
                let waits = slot.with(|known| {
                    let left = known.held || known.given_up || known.ended;
                    known.wanted && known.blocked_by.is_some() && !left
                });
                waits && !slot.state().is_operational() && self.blocker(&slot, plan).is_none()
            });
            let ready: Vec<String> = ready.map(str::to_owned).collect();
            tried.extend(ready.iter().cloned());
            if ready.is_empty() || self.is_closing() {
                return;
            }
            for slot in ready.iter().filter_map(|name| self.get(name).ok()) {
                let back = slot.with(|known| known.blocked_by.clone());
                let because = back.and_then(|name| self.0.record.last_state(&name));
                slot.begin(What::Recovered, "what it waited for is there again", because);
            }
            let results = self.start_set(plan, ready, By::Return).await;
            for (name, outcome) in &results {
                if let (Outcome::Failed(error), Ok(slot)) = (outcome, self.get(name)) {
                    self.start_failed(&slot, error);
                }
            }
            if !results.iter().any(|(_, outcome)| matches!(outcome, Outcome::Up)) {
                return;
            }
        }
    }

    /// Starts one component, whatever state it is in.
    async fn start_one(&self, slot: &Arc<Slot>, plan: &StartPlan, by: By) -> Outcome {
        let supervised = by != By::Person;
        let _gate = slot.gate.lock().await;
        if slot.state().is_operational() {
            if !supervised {
                slot.with(|known| known.wanted = true);
            }
            return Outcome::Up;
        }
        // It was stopped with others, or by a person, while this waited for its turn.
        if supervised && slot.with(|known| known.held || known.given_up || !known.wanted) {
            return Outcome::Interrupted;
        }
        // Another has brought it back before, and what came of that is handed in already.
        if by == By::Return && slot.with(|known| known.blocked_by.is_none()) {
            return Outcome::Interrupted;
        }
        slot.with(|known| (known.supervised, known.cut_short) = (supervised, false));
        let unfinished = Unfinished(slot);
        let starting = self.start_now(slot, plan);
        let outcome = self.unless_stopped(slot, starting).await;
        if outcome.is_none() {
            slot.with(|known| known.cut_short = true);
        }
        let outcome = outcome.unwrap_or(Outcome::Interrupted);
        std::mem::forget(unfinished);
        if !supervised && !matches!(outcome, Outcome::Interrupted) {
            // A stop that was about to end when this was asked for has taken it away.
            slot.with(|known| known.wanted = true);
        }
        match &outcome {
            Outcome::Up => {
                // It may have failed again since, and what comes waits for that: looked at under the
                // lock under which it fails.
                let go_on = slot.with(|_| match slot.state().is_operational() {
                    true => self.0.bus.resume(slot.name()),
                    false => Vec::new(),
                });
                go_on.iter().for_each(Subscription::go_on);
                self.take_stock(slot, plan);
                self.is_up(slot);
                self.tell_leaning(slot, plan);
            }
            Outcome::Failed(_) => {
                if !supervised {
                    self.0.bus.end_suspended(slot.name()); // nobody tries again
                }
                self.tell_leaning(slot, plan);
            }
            // Who waits for another may wait for ever, and whoever publishes must not.
            Outcome::Blocked(_) => self.0.bus.end_suspended(slot.name()),
            Outcome::Interrupted => {}
        }
        outcome
    }

    /// Does `work` on a component unless somebody wants to stop it; the work is dropped then.
    async fn unless_stopped<T>(&self, slot: &Slot, work: impl Future<Output = T>) -> Option<T> {
        let interrupt = slot.interrupt.notified();
        futures_util::pin_mut!(interrupt);
        // Enabled before the look: whoever comes after it is heard.
        interrupt.as_mut().enable();
        if self.is_closing() || slot.stoppers.load(Ordering::Acquire) > 0 {
            return None;
        }
        futures_util::pin_mut!(work);
        match select(work, interrupt).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }

    async fn start_now(&self, slot: &Arc<Slot>, plan: &StartPlan) -> Outcome {
        // A start that was entered is stopped once, also where nobody did so when it failed.
        if slot.state() == State::Failed && slot.with(|known| known.start_entered) {
            let until = clock_end(self);
            // Its error is told as an event; the start that follows is the better news.
            if self.run_stop(slot, until, "cleaning up").await.is_ok() {
                let _ = slot.enter(State::Stopped, "cleaned up");
            }
        }
        // Configured first, blocked second: a blocked component is one that could start.
        if slot.state() != State::Configured
            && let Err(error) = self.prepare(slot).await
        {
            return Outcome::Failed(error);
        }
        let mut blocker = self.blocker(slot, plan);
        if blocker.as_ref().is_some_and(|(by, _)| self.runs_elsewhere(slot, plan, by)) {
            self.await_elsewhere(slot, plan).await;
            blocker = self.blocker(slot, plan);
            if let Some((_, cause)) = &blocker {
                self.report_missing(slot, cause);
            }
        }
        if let Some((by, cause)) = blocker {
            slot.block(&by, cause.clone());
            return Outcome::Blocked(cause);
        }
        if let Err(error) = slot.enter(State::Starting, "started") {
            return Outcome::Failed(Arc::new(error));
        }
        slot.with(|known| known.start_entered = true);
        if let Err(error) = self.start_unless_failed(slot).await {
            return Outcome::Failed(slot.fail(error, what_next(slot)));
        }
        // What it depends on may have ended meanwhile, and found nobody at work here to stop.
        if let Some((by, cause)) = self.blocker(slot, plan)
            && !self.runs_elsewhere(slot, plan, &by)
        {
            let until = clock_end(self);
            if self.run_stop(slot, until, &cause).await.is_ok() {
                let _ = slot.enter(State::Stopped, cause.clone());
            }
            slot.block(&by, cause.clone());
            return Outcome::Blocked(cause);
        }
        for (name, cause) in self.missing(slot, plan) {
            self.lost(slot, &name, cause);
        }
        match slot.up() {
            Ok(None) => Outcome::Up,
            Ok(Some(error)) => Outcome::Failed(slot.fail(error, what_next(slot))),
            Err(error) => Outcome::Failed(Arc::new(error)),
        }
    }

    /// Starts it; what it says of itself meanwhile, that it has failed, cuts that short.
    async fn start_unless_failed(&self, slot: &Arc<Slot>) -> Result<()> {
        let failed = slot.failed_at_start.notified();
        futures_util::pin_mut!(failed);
        // Enabled before the look: whoever comes after it is heard.
        failed.as_mut().enable();
        if let Some(error) = slot.with(|known| known.failing.take()) {
            return Err(error);
        }
        let starting = self.start_when_ready(slot);
        futures_util::pin_mut!(starting);
        if let Either::Left((result, _)) = select(starting, failed).await {
            return result;
        }
        let message = format!("`{}` failed while it started", slot.name());
        let said = slot.with(|known| known.failing.take());
        Err(said.unwrap_or_else(|| Error::new(Kind::Lifecycle, "start", message)))
    }

    /// Initializes (once) and configures; the caller holds the gate.
    async fn prepare(&self, slot: &Arc<Slot>) -> Result<(), Arc<Error>> {
        let (clock, limit) = (&self.0.clock, self.0.options.service_timeout);
        let (name, component) = (slot.name(), slot.component());
        if !slot.with(|known| known.initialized) {
            hook::run(clock, limit, name, "initialize", || component.initialize())
                .await
                .map_err(|error| slot.fail(error, what_next(slot)))?;
            slot.with(|known| known.initialized = true);
        }
        let config = self.config_of(name);
        let change = slot.change_to(&config);
        hook::run(clock, limit, name, "configure", || component.configure(&config)).await.map_err(
            |error| {
                if change.is_some() {
                    slot.blame(change);
                }
                slot.fail(error, what_next(slot))
            },
        )?;
        slot.adopted(&config, change);
        slot.enter(State::Configured, "configured").map_err(Arc::new)
    }

    async fn start_when_ready(&self, slot: &Arc<Slot>) -> Result<()> {
        let (clock, limit) = (&self.0.clock, self.0.options.service_timeout);
        let until = clock.now().saturating_add(limit.saturating_mul(READINESS_FACTOR));
        let (mut wait, mut attempt) = (FIRST_WAIT, 1u32);
        loop {
            let component = slot.component();
            let result = hook::run(clock, limit, slot.name(), "start", || component.start()).await;
            let error = match result {
                Err(error) if error.kind() == Kind::NotReady => error,
                result => return result,
            };
            if clock.now().saturating_add(wait) > until {
                let message = format!(
                    "`{}` was not ready after {attempt} attempts: {}",
                    slot.name(),
                    error.message()
                );
                let given_up = Error::new(Kind::NotReady, "start", message);
                return Err(given_up.with("hook", "start").with_source(error));
            }
            slot.with(|known| known.cause = format!("not ready yet: {}", error.message()));
            tracing::info!(
                target: "tiebeam::registry",
                component = slot.name(),
                attempt,
                retry_in_ms = wait.as_millis() as u64,
                "not ready yet: {}", error.message()
            );
            clock.sleep(wait).await;
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
            attempt += 1;
        }
    }
}

/// What is done about a failed start: supervision goes on trying, nobody else does.
fn what_next(slot: &Slot) -> &'static str {
    if slot.with(|known| known.supervised) { "restart" } else { "failed" }
}

/// Until when a stop that begins now may take.
fn clock_end(registry: &Registry) -> Instant {
    registry.0.clock.now().saturating_add(registry.0.options.service_timeout)
}

/// A start that is dropped halfway leaves nobody behind as "starting".
struct Unfinished<'a>(&'a Arc<Slot>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.0.state() == State::Starting {
            let message = format!("the start of `{}` was cancelled", self.0.name());
            self.0.fail(Error::new(Kind::Lifecycle, "start", message), "failed");
        }
    }
}

pub(super) fn predecessors(plan: &StartPlan) -> impl Fn(&str) -> Vec<String> + '_ {
    |name| {
        let step = plan.step(name);
        step.into_iter().flat_map(|s| s.predecessors()).map(|(_, n)| n.to_owned()).collect()
    }
}

fn report(results: impl IntoIterator<Item = (String, Outcome)>) -> StartReport {
    let mut report = StartReport::default();
    for (name, outcome) in results {
        match outcome {
            Outcome::Up => report.started.push(name),
            Outcome::Failed(error) => report.failed.push((name, error)),
            Outcome::Blocked(cause) => report.blocked.push((name, cause)),
            Outcome::Interrupted => report.interrupted.push(name),
        }
    }
    report
}

/// The same error once more: whoever asked gets it, and the slot keeps it.
pub(super) fn again(error: &Arc<Error>) -> Error {
    let copy = Error::new(error.kind(), error.operation(), error.message());
    let copy = copy.with_category(error.category());
    let facts = error.context().iter();
    facts.fold(copy, |copy, (key, value)| copy.with(key, value)).with_source(error.clone())
}

fn into_result(name: &str, outcome: Outcome) -> Result<()> {
    match outcome {
        Outcome::Up => Ok(()),
        Outcome::Failed(error) => Err(again(&error)),
        Outcome::Blocked(cause) => {
            let message = format!("`{name}` cannot start: {cause}");
            Err(Error::new(Kind::Dependency, "start", message).with("component", name))
        }
        Outcome::Interrupted => {
            let message = format!("the start of `{name}` was cut short by a stop");
            Err(Error::new(Kind::Lifecycle, "start", message).with("component", name))
        }
    }
}
