//! One component's place in the registry: its state, why it is in it, and its figures.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use super::component::{Component, Descriptor};
use super::hook::failure_of;
use super::meters::{LastError, Meters};
use crate::bus::{Failure, WeakBus};
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
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) cause: String,
    pub(super) started: Option<Instant>,
    pub(super) error: Option<Arc<Error>>,
    pub(super) blocked_by: Option<String>,
    pub(super) degradations: BTreeMap<String, String>,
    pub(super) restarts: u64,
    pub(super) given_up: bool,
    pub(super) initialized: bool,
    /// From the moment `start` is entered until `stop` has run.
    pub(super) start_entered: bool,
    /// Whether it is to run: false before the first start and after somebody stopped it.
    pub(super) wanted: bool,
    /// Transitions that are visible and not yet told, in order.
    news: VecDeque<Transition>,
    telling: bool,
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
    /// Whether supervision is at work on it.
    pub(super) recovering: AtomicBool,
}

/// The payload of `system.component.<state>`.
#[derive(Serialize)]
struct Change<'a> {
    component: &'a str,
    from: State,
    to: State,
    cause: &'a str,
    duration_ms: u64,
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
            recovering: AtomicBool::new(false),
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
            degradations: known.degradations.clone(),
            restarts: known.restarts,
            given_up: known.given_up,
        }
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock())
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
            let transition = self.life.transition(to, cause)?;
            known.cause.clone_from(&transition.cause);
            if transition.from == State::Starting && to.is_operational() {
                known.started = Some(transition.at);
            }
            if to != State::Failed {
                known.error = None;
            }
            known.news.push_back(transition);
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
            let Some(news) = news else { return };
            let change = Change {
                component: self.name(),
                from: news.from,
                to: news.to,
                cause: &news.cause,
                duration_ms: news.in_state.as_millis() as u64,
            };
            tracing::info!(
                target: "tiebeam::registry",
                component = self.name(),
                from = news.from.as_str(),
                to = news.to.as_str(),
                "{}", news.cause
            );
            let topic = format!("system.component.{}", news.to);
            // A subscriber's panic must not silence this component for ever.
            let _ = catch_unwind(AssertUnwindSafe(|| self.emit(&topic, &change)));
        }
    }

    pub(super) fn emit(&self, topic: &str, payload: &impl Serialize) {
        if let Some(bus) = self.bus.upgrade() {
            bus.emit(topic, payload);
        }
    }

    /// Adds a reason to be degraded; an operational component shows it at once.
    ///
    /// Reasons have keys, so that each can go by itself: `wants:<name>`, `check:<name>`,
    /// `breaker:<subscription>`, `broker`.
    pub fn degrade(&self, key: &str, cause: impl Into<String>) {
        let cause = cause.into();
        // Not running means that there is nothing to show; the reason waits for that.
        let _ = self.change(|known| {
            known.degradations.insert(key.to_owned(), cause.clone());
            (self.state() == State::Running).then_some((State::Degraded, cause))
        });
    }

    /// Takes a reason to be degraded away; without any the component is running again.
    pub fn relieve(&self, key: &str) {
        let _ = self.change(|known| {
            let was = known.degradations.remove(key)?;
            let recovered = known.degradations.is_empty() && self.state() == State::Degraded;
            recovered.then(|| (State::Running, format!("recovered: {was}")))
        });
    }

    /// Enters running, or degraded if there are reasons.
    pub(super) fn up(&self) -> Result<()> {
        self.change(|known| {
            (known.blocked_by, known.given_up) = (None, false);
            Some(match known.degradations.values().next() {
                None => (State::Running, "started".to_owned()),
                Some(_) => {
                    let causes: Vec<_> = known.degradations.values().cloned().collect();
                    (State::Degraded, causes.join("; "))
                }
            })
        })
    }

    /// Fails with `error`, which is told as an error event too.
    pub(super) fn fail(&self, error: Error, action: &'static str) -> Arc<Error> {
        if self.state() == State::Stopped {
            // Nothing leads from stopped to failed; what fails here is the configuring.
            let _ = self.enter(State::Configured, "configuring");
        }
        let error = Arc::new(error);
        self.fail_if(&error, |state| state.can_become(State::Failed));
        self.report(&error, action);
        error
    }

    /// Fails with `error` if it is at work; false if it is not.
    pub(super) fn fail_at_work(&self, error: Error, action: &'static str) -> bool {
        let error = Arc::new(error);
        let failed = self.fail_if(&error, State::is_operational);
        if failed {
            self.report(&error, action);
        }
        failed
    }

    fn fail_if(&self, error: &Arc<Error>, when: impl FnOnce(State) -> bool) -> bool {
        let mut failed = false;
        let _ = self.change(|known| {
            failed = when(self.state());
            failed.then(|| {
                known.error = Some(error.clone());
                known.degradations.clear();
                (State::Failed, error.message().to_owned())
            })
        });
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
            known.blocked_by = Some(by.to_owned());
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
