//! One component's place in the registry: its state, why it is in it, and its figures.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;

use super::component::{Component, Descriptor};
use super::hook::failure_of;
use super::meters::{LastError, Meters};
use super::record::{Id, Record, What};
use crate::bus::{Bus, Failure, Subscription, WeakBus};
use crate::clock::{Clock, Instant};
use crate::error::{Error, Result};
use crate::lifecycle::{Lifecycle, State, Transition};

/// What is known of a component at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Why it is in it, for a person.
    pub cause: String,
    /// When it entered it.
    pub since: Instant,
    /// When it last became operational.
    pub started: Option<Instant>,
    /// The error it failed with, while it is failed.
    pub error: Option<Arc<Error>>,
    /// The component whose failure keeps it from starting.
    pub blocked_by: Option<String>,
    /// Why it is degraded, by what.
    pub degradations: BTreeMap<String, String>,
    /// How often supervision restarted it.
    pub restarts: u64,
    /// Whether supervision gave it up.
    pub given_up: bool,
    /// Whether it is to run: somebody started it, and nobody stopped it.
    pub wanted: bool,
    /// Whether it came to its end, and by its restart type nobody starts it again.
    pub ended: bool,
}

/// Why a component is degraded, and where that stands in the record.
#[derive(Clone, Debug)]
pub(super) struct Reason {
    pub(super) text: String,
    pub(super) id: Id,
    /// Since when, on both clocks: the record may have forgotten it before it is gone.
    pub(super) at: (Instant, i64),
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) cause: String,
    pub(super) started: Option<Instant>,
    pub(super) error: Option<Arc<Error>>,
    pub(super) blocked_by: Option<String>,
    pub(super) degradations: BTreeMap<String, Reason>,
    pub(super) restarts: u64,
    pub(super) given_up: bool,
    /// Stopped because its supervisor gave up over another: it waits for that.
    pub(super) held: bool,
    /// It ended, and by its restart type that is that: nobody but a person starts it.
    pub(super) ended: bool,
    /// Whether the start under way is supervision's.
    pub(super) supervised: bool,
    /// How many starts were entered; what is about an earlier one is no news.
    pub(super) lives: u64,
    /// The life whose end the component has announced.
    pub(super) finished: Option<u64>,
    /// Whether a stop has cut its last start short.
    pub(super) cut_short: bool,
    /// What it failed with, by its own word, while its start is under way.
    pub(super) failing: Option<Error>,
    /// What the next changes of state are because of.
    pub(super) because: Option<Id>,
    /// The last change of what it reads of the configuration.
    pub(super) changed: Option<Id>,
    /// The checks that have passed since.
    pub(super) cleared: BTreeSet<String>,
    /// Whether anything was seen to be well since.
    pub(super) well: bool,
    /// How many events each of its subscriptions had begun with by then, at most.
    pub(super) handled: HashMap<u64, u64>,
    /// The checks that do not pass, each with the change that may be behind that.
    pub(super) failing_checks: BTreeMap<String, Option<Id>>,
    /// What it was configured with last.
    pub(super) applied: Option<Value>,
    /// The revision that changed its section last.
    pub(super) revised: Option<Id>,
    /// Rounds of health checks in a row, since it is at work, in which all was well.
    pub(super) passes: u32,
    /// What it has to do without, with the life in which it was told.
    pub(super) without: BTreeMap<String, u64>,
    pub(super) initialized: bool,
    /// From the moment `start` is entered until `stop` has run.
    pub(super) start_entered: bool,
    /// Whether it is to run: false before the first start and after somebody stopped it.
    pub(super) wanted: bool,
    /// Transitions that are visible and not yet told, in order.
    news: VecDeque<News>,
    telling: bool,
    /// The dependency whose loss the next change of state is about.
    dependency: Option<String>,
    /// Dependencies that are back, in which life, and have to stay for a while.
    pub(super) awaited: BTreeSet<(String, u64)>,
    /// Losses and returns that the component is still to hear of, in order.
    pub(super) calls: VecDeque<(String, bool)>,
    pub(super) calling: bool,
}

/// A change of state that is still to be told.
#[derive(Debug)]
struct News {
    transition: Transition,
    dependency: Option<String>,
}

/// A component in its registry.
pub struct Slot {
    component: Arc<dyn Component>,
    descriptor: Descriptor,
    life: Lifecycle,
    clock: Clock,
    bus: WeakBus,
    known: Mutex<Known>,
    meters: Meters,
    /// Held by the one operation that works on this component.
    pub(super) gate: tokio::sync::Mutex<()>,
    /// How many wait to stop it; a start in progress makes way.
    pub(super) stoppers: AtomicUsize,
    pub(super) interrupt: Notify,
    /// Told when it fails by its own word while its start is under way.
    pub(super) failed_at_start: Notify,
    /// What happened.
    record: Arc<Record>,
}

/// The payload of `system.component.<state>`.
#[derive(Serialize)]
struct Change<'a> {
    component: &'a str,
    from: State,
    to: State,
    cause: &'a str,
    duration_ms: u64,
    /// The dependency that is away, where that is the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    dependency: Option<&'a str>,
}

/// The payload of the `system.error.<category>` of a failed hook: the fields of a failed
/// handler's, as far as they apply.
#[derive(Serialize)]
struct HookReport<'a> {
    component: &'a str,
    hook: &'a str,
    attempt: u32,
    #[serde(rename = "final")]
    last: bool,
    action: &'static str,
    #[serde(flatten)]
    failure: &'a Failure,
}

impl Slot {
    pub(super) fn new(
        component: Arc<dyn Component>,
        descriptor: Descriptor,
        clock: Clock,
        bus: WeakBus,
        record: Arc<Record>,
    ) -> Self {
        let life = Lifecycle::new(descriptor.name.as_str(), clock.clone());
        let known = Known { cause: "registered".into(), ..Known::default() };
        Slot {
            component,
            descriptor,
            life,
            clock,
            bus,
            known: Mutex::new(known),
            meters: Meters::default(),
            gate: tokio::sync::Mutex::new(()),
            stoppers: AtomicUsize::new(0),
            interrupt: Notify::new(),
            failed_at_start: Notify::new(),
            record,
        }
    }

    /// The component's name.
    pub fn name(&self) -> &str {
        &self.descriptor.name
    }

    /// What it said about itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The component itself.
    pub fn component(&self) -> &Arc<dyn Component> {
        &self.component
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.life.state()
    }

    /// Its figures.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// The bus it is on, while there is one.
    pub(super) fn bus(&self) -> Option<Bus> {
        self.bus.upgrade()
    }

    /// State, cause and the rest, read together.
    pub fn status(&self) -> Status {
        let known = self.known.lock();
        let (state, since) = self.life.state_since();
        Status {
            state,
            cause: known.cause.clone(),
            since,
            started: known.started,
            error: known.error.clone(),
            blocked_by: known.blocked_by.clone(),
            degradations: known
                .degradations
                .iter()
                .map(|(key, reason)| (key.clone(), reason.text.clone()))
                .collect(),
            restarts: known.restarts,
            given_up: known.given_up,
            wanted: known.wanted,
            ended: known.ended,
        }
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock())
    }

    /// Notes in the record what happened to it.
    pub(super) fn note(&self, what: What, text: impl Into<String>, because: Option<Id>) -> Id {
        self.record.note(self.name(), what, text, because)
    }

    /// Notes what happened, as the cause of the changes of state that follow.
    pub(super) fn begin(&self, what: What, text: impl Into<String>, because: Option<Id>) -> Id {
        let id = self.note(what, text, because);
        self.blame(Some(id));
        id
    }

    /// The changes of state that follow are because of this.
    pub(super) fn blame(&self, cause: Option<Id>) {
        self.with(|known| known.because = cause);
    }

    /// Notes a failed attempt of a handler.
    pub fn handler_failed(&self, text: String) {
        let changed = self.with(|known| self.suspect(known));
        self.note(What::Error, text, changed);
    }

    /// Notes that the circuit breaker of one of its handlers opened, or closed again.
    pub fn breaker_changed(&self, subscription: &str, state: &str) {
        let cause = self
            .record
            .last(self.name(), |entry| matches!(entry.what, What::Error | What::Breaker));
        let text = format!("the circuit breaker of {subscription} is {state}");
        self.note(What::Breaker, text, cause.map(|entry| entry.id));
    }

    /// Enters `to`, and tells of it once it is visible.
    pub(super) fn enter(&self, to: State, cause: impl Into<String>) -> Result<()> {
        self.change(|_| Some((to, cause.into())))
    }

    /// Makes the change that `decide` wants, decided and made in one step.
    fn change(&self, decide: impl FnOnce(&mut Known) -> Option<(State, String)>) -> Result<()> {
        {
            let mut known = self.known.lock();
            let Some((to, cause)) = decide(&mut known) else { return Ok(()) };
            if self.state().is_operational() && !to.is_operational() {
                self.look_back(&mut known);
            }
            let transition = self.life.transition(to, cause)?;
            known.cause.clone_from(&transition.cause);
            let text = transition.cause.clone();
            self.record.note_state(self.name(), to, text, known.because);
            if to == State::Starting {
                (known.lives, known.passes) = (known.lives + 1, 0);
                known.failing = None;
            }
            if transition.from == State::Starting && to.is_operational() {
                known.started = Some(transition.at);
            }
            if to != State::Failed {
                known.error = None;
            }
            let dependency = known.dependency.take();
            known.news.push_back(News { transition, dependency });
            // Whoever tells already will tell this too, after what came before.
            if std::mem::replace(&mut known.telling, true) {
                return Ok(());
            }
        }
        self.tell();
        Ok(())
    }

    /// No lock is held while subscribers hear of it: one that runs inside may look at us.
    fn tell(&self) {
        loop {
            let news = self.with(|known| {
                let news = known.news.pop_front();
                known.telling = news.is_some();
                news
            });
            let Some(News { transition: news, dependency }) = news else { return };
            let change = Change {
                component: self.name(),
                from: news.from,
                to: news.to,
                cause: &news.cause,
                duration_ms: news.in_state.as_millis() as u64,
                dependency: dependency.as_deref(),
            };
            tracing::info!(
                target: "tiebeam::registry",
                component = self.name(),
                from = news.from.as_str(),
                to = news.to.as_str(),
                "{}", news.cause
            );
            let topic = format!("system.component.{}", news.to);
            self.emit(&topic, &change);
        }
    }

    /// Publishes an event about it. A panic of who hears it inside `publish` is not ours.
    pub(super) fn emit(&self, topic: &str, payload: &impl Serialize) {
        let Some(bus) = self.bus.upgrade() else { return };
        if catch_unwind(AssertUnwindSafe(|| bus.emit(topic, payload))).is_err() {
            tracing::error!(target: "tiebeam::registry", topic, "a subscriber panicked");
        }
    }

    /// Adds a reason to be degraded, with what caused it; an operational component shows it at
    /// once.
    ///
    /// Reasons have keys, so that each can go by itself: `wants:<name>`, `check:<name>`,
    /// `breaker:<subscription>`, `broker`. True if it is a new one.
    pub fn degrade(
        &self,
        key: &str,
        text: impl Into<String>,
        because: impl FnOnce(&Record) -> Option<Id>,
    ) -> bool {
        let text = text.into();
        let mut new = false;
        // Not running means that there is nothing to show; the reason waits for that.
        let _ = self.change(|known| {
            let before = known.degradations.get(key);
            if before.is_some_and(|reason| reason.text == text) {
                return None;
            }
            new = before.is_none();
            let id = self.note(What::Degraded, text.clone(), because(&self.record));
            let at = (self.clock.now(), self.clock.unix_ms());
            known.degradations.insert(key.to_owned(), Reason { text: text.clone(), id, at });
            (self.state() == State::Running).then(|| {
                known.because = Some(id);
                known.dependency = key.strip_prefix("wants:").map(str::to_owned);
                (State::Degraded, text)
            })
        });
        new
    }

    /// Takes a reason to be degraded away; without any the component is running again. True if
    /// there was this one.
    pub fn relieve(&self, key: &str) -> bool {
        let mut was_there = false;
        let _ = self.change(|known| {
            let was = known.degradations.remove(key)?;
            was_there = true;
            let text = format!("recovered: {}", was.text);
            let id = self.note(What::Recovered, text.clone(), Some(was.id));
            let recovered = known.degradations.is_empty() && self.state() == State::Degraded;
            recovered.then(|| {
                known.because = Some(id);
                (State::Running, text)
            })
        });
        was_there
    }

    /// Enters running, or degraded if there are reasons; what it failed with meanwhile is
    /// returned instead.
    pub(super) fn up(&self) -> Result<Option<Error>> {
        let mut failed = None;
        self.change(|known| {
            failed = known.failing.take();
            if failed.is_some() {
                return None;
            }
            (known.blocked_by, known.given_up) = (None, false);
            Some(match known.degradations.values().next() {
                None => (State::Running, "started".to_owned()),
                Some(_) => {
                    let causes: Vec<_> =
                        known.degradations.values().map(|reason| reason.text.as_str()).collect();
                    (State::Degraded, causes.join("; "))
                }
            })
        })?;
        Ok(failed)
    }

    /// Takes down that it has failed while its start is under way: that is then what the start
    /// comes to. Gives the error back where none is.
    pub(super) fn fail_at_start(&self, error: Error) -> std::result::Result<(), Error> {
        let refused = self.with(|known| {
            // What it said first is what happened.
            let starts = self.state() == State::Starting && known.failing.is_none();
            if !starts {
                return Some(error);
            }
            known.failing = Some(error);
            None
        });
        if let Some(error) = refused {
            return Err(error);
        }
        self.failed_at_start.notify_waiters();
        Ok(())
    }

    /// Fails with `error`, which is told as an error event too.
    pub(super) fn fail(&self, error: Error, action: &'static str) -> Arc<Error> {
        if self.state() == State::Stopped {
            // Nothing leads from stopped to failed; what fails here is the configuring.
            let _ = self.enter(State::Configured, "configuring");
        }
        let error = Arc::new(error);
        // What it was doing, and why, is what led here; or what it was to be configured with.
        let because = self.with(|known| {
            let starts = matches!(self.state(), State::Configured | State::Starting);
            self.suspect(known).filter(|_| starts).or(known.because)
        });
        self.fail_if(&error, because, |state| state.can_become(State::Failed));
        self.report(&error, action);
        error
    }

    /// Fails with `error`, caused by that, if it is at work; which life ended, if one did.
    pub(super) fn fail_at_work(
        &self,
        error: Error,
        action: &'static str,
        because: Option<Id>,
    ) -> Option<u64> {
        let error = Arc::new(error);
        let because = because.or_else(|| self.with(|known| self.suspect(known)));
        let life = self.fail_if(&error, because, State::is_operational);
        if life.is_some() {
            self.report(&error, action);
        }
        life
    }

    fn fail_if(
        &self,
        error: &Arc<Error>,
        because: Option<Id>,
        when: impl FnOnce(State) -> bool,
    ) -> Option<u64> {
        let (mut failed, mut go_on) = (None, Vec::new());
        let _ = self.change(|known| {
            failed = when(self.state()).then_some(known.lives);
            failed.map(|_| {
                if self.state().is_operational()
                    && let Some(bus) = self.bus.upgrade()
                {
                    // Before anybody hears of it: what comes waits for the next life.
                    go_on = bus.suspend(self.name());
                }
                let id = self.note(What::Failure, error.message(), because);
                known.because = Some(id);
                known.error = Some(error.clone());
                known.degradations.clear();
                if self.state() != State::Stopping {
                    // It is no more the other's to bring it back. A stop that fails changes
                    // nothing about whom it waits for: somebody may have let it go meanwhile.
                    known.blocked_by = None;
                }
                (State::Failed, error.message().to_owned())
            })
        });
        go_on.iter().for_each(Subscription::go_on);
        failed
    }

    /// Counts a failure of a hook and tells of it as an error event.
    pub(super) fn report(&self, error: &Error, action: &'static str) {
        let failure = failure_of(error);
        let last = LastError {
            category: failure.category,
            error_type: failure.error_type.clone(),
            message: failure.message.clone(),
            at: self.clock.unix_ms(),
        };
        self.meters.failed(last, None);
        let report = HookReport {
            component: self.name(),
            hook: error.get("hook").unwrap_or(error.operation()),
            attempt: 1,
            last: action != "retry",
            action,
            failure: &failure,
        };
        self.emit(&format!("system.error.{}", failure.category), &report);
    }

    /// Notes that `by` keeps it from starting. A configured component says so in an event.
    pub(super) fn block(&self, by: &str, cause: String) {
        let _ = self.change(|known| {
            let news = known.cause != cause;
            if known.blocked_by.replace(by.to_owned()).is_none() || news {
                let because = self.record.last_state(by);
                known.because = Some(self.note(What::Blocked, cause.clone(), because));
            }
            if self.state() == State::Configured {
                return news.then_some((State::Configured, cause));
            }
            known.cause = cause;
            None
        });
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status();
        write!(f, "Slot({} is {}: {})", self.name(), status.state, status.cause)
    }
}
