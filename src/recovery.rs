//! The error handler: hears of every failure, counts it, logs it, and alerts where somebody
//! must look.
//!
//! It lives on the bus like everybody else, as a subscriber that runs inside `publish`: it is
//! short, it needs no executor, and an error that is told is dealt with when the telling
//! returns. What a route does should be as short.

mod alerts;
mod consumption;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use self::alerts::{Alert, Alerts, alert_reason};
use crate::bus::{Executor, Options, Subscription};
use crate::error::{Category, Result};
use crate::event::Event;
use crate::registry::{LastError, Registry};

/// One failure: the payload of a `system.error.<category>` event.
///
/// A failed handler has a subscription and an event, a failed hook has a hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorEvent {
    /// What to do about it.
    pub category: Category,
    /// The exception's class, or the error's kind.
    pub error_type: String,
    /// What it said.
    pub message: String,
    /// Where it came from.
    #[serde(default)]
    pub traceback: Option<String>,
    /// Whose it is.
    #[serde(default)]
    pub component: Option<String>,
    /// The handler that failed.
    #[serde(default)]
    pub subscription: Option<String>,
    /// The hook that failed.
    #[serde(default)]
    pub hook: Option<String>,
    /// The event that was handled.
    #[serde(default)]
    pub event_id: Option<String>,
    /// Its type.
    #[serde(default)]
    pub event_type: Option<String>,
    /// The chain it belongs to.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// Its priority.
    #[serde(default)]
    pub priority: Option<String>,
    /// Which attempt it was, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// Whether there will be no further attempt.
    #[serde(default, rename = "final")]
    pub last: bool,
    /// What is done about it: `retry`, `fallback`, `dead_letter`, `fault`; for hooks `failed`,
    /// `restart`, `give_up`, `kept`.
    #[serde(default)]
    pub action: String,
}

/// Which failures a route takes; what is absent matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Of this category.
    pub category: Option<Category>,
    /// Of this component.
    pub component: Option<String>,
    /// Of this type.
    pub error_type: Option<String>,
}

impl Route {
    fn takes(&self, error: &ErrorEvent) -> bool {
        let component = self.component.is_none() || self.component == error.component;
        self.category.is_none_or(|category| category == error.category)
            && component
            && self.error_type.as_ref().is_none_or(|name| *name == error.error_type)
    }
}

type Handler = Arc<dyn Fn(&ErrorEvent) + Send + Sync>;

struct Inner {
    registry: Registry,
    routes: RwLock<Vec<(u64, Route, Handler)>>,
    last_route: Mutex<u64>,
    alerts: Alerts,
}

/// The error handler of one framework. Dropping it ends its subscriptions.
pub struct Recovery {
    inner: Arc<Inner>,
    subscriptions: Vec<Arc<Subscription>>,
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery").field("routes", &self.inner.routes.read().len()).finish()
    }
}

impl Recovery {
    /// Listens on the registry's bus from now on.
    ///
    /// # Errors
    /// As [`Bus::subscribe`](crate::bus::Bus::subscribe).
    pub fn new(registry: Registry) -> Result<Recovery> {
        let bus = registry.bus().clone();
        let inner = Arc::new(Inner {
            registry,
            routes: RwLock::default(),
            last_route: Mutex::new(0),
            alerts: Alerts::default(),
        });
        let mut subscriptions = Vec::new();
        for (name, pattern) in [
            ("tiebeam.errors", "system.error.#"),
            ("tiebeam.breakers", "system.circuit_breaker.#"),
            ("tiebeam.waiting", "system.handler_waiting"),
            ("tiebeam.resuming", "system.handler_resumed"),
            ("tiebeam.supervisor", "system.supervisor.gave_up"),
            ("tiebeam.promises", "system.slo.*"),
        ] {
            let options = Options { capacity: 1, internal: true, ..Options::named(name) };
            let ear = Arc::new(Ear(Arc::downgrade(&inner)));
            subscriptions.push(bus.subscribe(pattern, options, ear)?);
        }
        Ok(Recovery { inner, subscriptions })
    }

    /// Has `handler` called for every failure that `route` takes, on the thread that tells of
    /// it. Returns what [`Recovery::remove_route`] wants.
    pub fn on_error(
        &self,
        route: Route,
        handler: impl Fn(&ErrorEvent) + Send + Sync + 'static,
    ) -> u64 {
        let id = {
            let mut last = self.inner.last_route.lock();
            *last += 1;
            *last
        };
        self.inner.routes.write().push((id, route, Arc::new(handler)));
        id
    }

    /// Removes a route; false if it is gone already.
    pub fn remove_route(&self, id: u64) -> bool {
        let mut routes = self.inner.routes.write();
        let before = routes.len();
        let removed: Vec<_> = routes.extract_if(.., |(other, ..)| *other == id).collect();
        let found = routes.len() < before;
        drop(routes);
        drop(removed); // after the lock: a handler may own anything
        found
    }

    /// Stops listening. Idempotent.
    pub fn close(&self) {
        self.subscriptions.iter().for_each(|subscription| {
            subscription.cancel();
        });
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        self.close();
    }
}

/// Runs the handler inside `publish`.
#[derive(Clone)]
struct Ear(Weak<Inner>);

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ear")
    }
}

impl Executor for Ear {
    fn schedule(&self, _subscription: &Arc<Subscription>) {}

    fn is_inline(&self) -> bool {
        true
    }

    fn run_inline(&self, subscription: &Arc<Subscription>, event: &Arc<Event>) {
        if let Some(inner) = self.0.upgrade() {
            let heard = catch_unwind(AssertUnwindSafe(|| inner.hear(event)));
            if heard.is_err() {
                tracing::error!(
                    target: "tiebeam::recovery",
                    event_id = %event.id,
                    "the error handler panicked"
                );
            }
        }
        subscription.handled_inline(event);
    }

    fn describe(&self) -> &'static str {
        "core"
    }
}

/// What the events `system.slo.<alert>` say that is of use here.
#[derive(Deserialize)]
struct Burning {
    component: String,
    objective: String,
    burn_rate: Option<f64>,
    remaining: f64,
    to: Option<String>,
}

#[derive(Deserialize)]
struct GaveUp {
    component: String,
    error: String,
}

impl Inner {
    fn hear(&self, event: &Event) {
        let payload = event.payload.to_json_value();
        let topic = event.topic.as_str();
        let understood = if topic.starts_with("system.error.") {
            serde_json::from_value(payload).map(|error| self.failure(&error))
        } else if topic.starts_with("system.circuit_breaker.") {
            serde_json::from_value(payload).map(|breaker| self.breaker(&breaker))
        } else if topic == "system.handler_waiting" || topic == "system.handler_resumed" {
            serde_json::from_value(payload).map(|waiting| self.waiting(&waiting))
        } else if topic.starts_with("system.slo.") {
            serde_json::from_value(payload).map(|broken| self.burning(broken))
        } else {
            serde_json::from_value(payload).map(|gave_up| self.gave_up(gave_up))
        };
        // Anybody may publish under these names; what is none of ours is left alone.
        if let Err(error) = understood {
            tracing::debug!(target: "tiebeam::recovery", topic, "not an event of the core: {error}");
        }
    }

    fn failure(&self, error: &ErrorEvent) {
        self.log(error);
        self.count(error);
        if let Some(reason) = alert_reason(error) {
            self.alerts.tell(
                self.registry.bus(),
                Alert {
                    component: error.component.clone(),
                    reason,
                    category: error.category,
                    error_type: error.error_type.clone(),
                    message: error.message.clone(),
                    event_id: error.event_id.clone(),
                    correlation_id: error.correlation_id.clone(),
                    count: 1,
                },
            );
        }
        // Called without the lock: a handler may add and remove routes.
        let routes = self.routes.read().clone();
        for (_, _, handler) in routes.iter().filter(|(_, route, _)| route.takes(error)) {
            if catch_unwind(AssertUnwindSafe(|| handler(error))).is_err() {
                tracing::error!(target: "tiebeam::recovery", "a handler of errors panicked");
            }
        }
    }

    fn log(&self, error: &ErrorEvent) {
        // The bus has logged a handler's failure where it happened.
        let Some(hook) = &error.hook else { return };
        tracing::error!(
            target: "tiebeam::recovery",
            component = error.component.as_deref(),
            hook,
            attempt = error.attempt,
            category = error.category.as_str(),
            action = error.action,
            traceback = error.traceback.as_deref(),
            "{}: {}", error.error_type, error.message
        );
    }

    /// A failed hook has been counted where it failed.
    fn count(&self, error: &ErrorEvent) {
        let (Some(component), None) = (&error.component, &error.hook) else { return };
        let Ok(slot) = self.registry.get(component) else { return };
        let clock = self.registry.bus().clock();
        let lost = matches!(error.action.as_str(), "dead_letter");
        let last = LastError {
            category: error.category,
            error_type: error.error_type.clone(),
            message: error.message.clone(),
            at: clock.unix_ms(),
        };
        slot.meters().failed(last, lost.then(|| clock.now()));
        let of = error.subscription.as_deref().unwrap_or("a handler");
        slot.handler_failed(format!("{of} failed: {}: {}", error.error_type, error.message));
    }

    /// The error budget of a component goes too fast, or does so no more.
    fn burning(&self, event: Burning) {
        let Some(urgency) = event.to else { return };
        let (rate, left) = (event.burn_rate.unwrap_or_default(), event.remaining * 100.0);
        self.alerts.tell(
            self.registry.bus(),
            Alert {
                message: format!(
                    "`{}` breaks its promise of {}: its error budget goes {rate:.1} times too \
                     fast, {left:.0} % of it are left ({urgency})",
                    event.component, event.objective
                ),
                component: Some(event.component),
                reason: "slo_burning",
                category: Category::Transient,
                error_type: format!("SloBurning:{}:{urgency}", event.objective),
                event_id: None,
                correlation_id: None,
                count: 1,
            },
        );
    }

    fn gave_up(&self, event: GaveUp) {
        self.alerts.tell(
            self.registry.bus(),
            Alert {
                message: format!("`{}` has failed for good: {}", event.component, event.error),
                component: Some(event.component),
                reason: "supervisor_gave_up",
                category: Category::Internal,
                error_type: "SupervisorGaveUp".into(),
                event_id: None,
                correlation_id: None,
                count: 1,
            },
        );
    }
}
