//! Attempts that a circuit breaker inside of the handler refused.
//!
//! They are none: nothing was tried, and a refusal says nothing of the event. It waits until the
//! breaker may let it through, and is given up by nobody meanwhile. Others go on: what they want
//! may be behind another breaker.

use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use super::lanes::Delivery;
use super::options::Role;
use super::owner::Owner;
use super::subscription::Subscription;
use crate::event::Event;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering};

const WAITING: &str = "system.handler_waiting";
const RESUMED: &str = "system.handler_resumed";

/// How long is waited at least: a breaker that is about to close says nothing, or next to it.
const LEAST: Duration = Duration::from_millis(10);

/// At most: it may be closed by hand at any time.
const MOST: Duration = Duration::from_secs(30);

/// Where a breaker does not say: at first, and twice as long each time.
const USUAL: Duration = Duration::from_secs(1);

/// What is told of refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Whether it was told that events wait.
    told: AtomicBool,
    /// When that was, in nanoseconds, and whether it is looked again a while after that.
    told_at: AtomicU64,
    later: AtomicBool,
    /// How often that may have changed since somebody began to tell.
    changes: AtomicUsize,
    last: Mutex<Option<Refusal>>,
}

/// The refusal that came last.
#[derive(Clone, Debug)]
struct Refusal {
    event: Arc<Event>,
    error: String,
    after: Duration,
}

impl Subscription {
    /// The breaker for which an event waits that it refused; none where events do not wait.
    /// Whoever asked is told at once; a fallback is there for just that; where a failure is no
    /// reason to keep the event, this is none; and what is handled inside `publish` has no place to
    /// wait.
    pub(super) fn waits_after(&self, failure: &Failure) -> Option<Arc<str>> {
        let options = self.options();
        let waits = options.role != Role::Responder
            && !options.policy.fallback
            && !options.ack.forgives()
            && !self.executor().is_inline();
        failure.refused_by.clone().filter(|_| waits)
    }

    /// Has `delivery` wait for `breaker`.
    pub(super) fn wait_for_breaker(
        self: &Arc<Self>,
        owner: &dyn Owner,
        delivery: Delivery,
        failure: &Failure,
        breaker: &Arc<str>,
    ) {
        let usual = USUAL.saturating_mul(1 << delivery.waits.min(5));
        let after = failure.retry_after.unwrap_or(usual).clamp(LEAST, MOST);
        let due = owner.clock().now().saturating_add(after);
        let event = delivery.event.clone();
        // Of what tells that others wait nothing is told when it waits itself: that would come here
        // again, and where there is room for few, without end.
        let is_news = !matches!(event.topic.as_str(), WAITING | RESUMED);
        if is_news {
            let error = format!("{}: {}", failure.error_type, failure.message);
            *self.refusals().last.lock() = Some(Refusal { event, error, after });
        }
        let weak = Arc::downgrade(self);
        let calm = move || {
            if let Some(subscription) = weak.upgrade() {
                subscription.tell_of_refusals();
            }
        };
        let due = match self.mailbox().park(delivery, breaker, due, calm) {
            Ok(due) => due,
            Err(delivery) => {
                self.give_up(vec![delivery]);
                return;
            }
        };
        if let Some(due) = due {
            let subscription = Arc::downgrade(self);
            let again = move || {
                if let Some(subscription) = subscription.upgrade()
                    && subscription.mailbox().unpark(due)
                {
                    subscription.executor().schedule(&subscription);
                }
            };
            owner.clock().schedule_at(due.at, again).detach();
        }
        if is_news {
            self.tell_of_refusals();
        }
    }

    /// Tells whether events wait, if that is news. One thread at a time does so, for all that come
    /// meanwhile: what is told last is how it is.
    fn tell_of_refusals(self: &Arc<Self>) {
        let Refusals { changes, .. } = self.refusals();
        if changes.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mut seen = 1;
        loop {
            self.tell_of_refusals_once();
            match changes.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(more) => seen = more,
            }
        }
    }

    fn tell_of_refusals_once(self: &Arc<Self>) {
        let (refusals, waits) = (self.refusals(), self.mailbox().waits());
        if refusals.told.load(Ordering::Acquire) == waits {
            return;
        }
        let Some(owner) = self.owner() else { return };
        let now = owner.clock().now();
        let last = refusals.told_at.load(Ordering::Acquire);
        // What is told may bring about the next change: not at one moment without end.
        if last > 0 && now.as_nanos() < last.saturating_add(LEAST.as_nanos() as u64) {
            if !refusals.later.swap(true, Ordering::AcqRel) {
                let weak = Arc::downgrade(self);
                let later = move || {
                    if let Some(subscription) = weak.upgrade() {
                        subscription.refusals().later.store(false, Ordering::Release);
                        subscription.tell_of_refusals();
                    }
                };
                owner.clock().schedule(LEAST, later).detach();
            }
            return;
        }
        refusals.told_at.store(now.as_nanos().max(1), Ordering::Release);
        refusals.told.store(waits, Ordering::Release);
        self.announce_refusals(waits);
    }

    fn announce_refusals(self: &Arc<Self>, waits: bool) {
        let component = self.component().map(|name| &**name);
        let Some(owner) = self.owner() else { return };
        let last = self.refusals().last.lock().clone().filter(|_| waits);
        let Some(Refusal { event, error, after }) = last else {
            tracing::info!(
                target: "tiebeam::bus", component, subscription = self.name(),
                "no event waits for a circuit breaker any more"
            );
            let told = serde_json::json!({
                "subscription": self.name(), "subscription_id": self.id(), "component": component,
            });
            return owner.tell(RESUMED, told, None);
        };
        let retry_in_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            target: "tiebeam::bus", component, subscription = self.name(),
            event_id = %event.id, retry_in_ms,
            "events wait: {error}"
        );
        let told = serde_json::json!({
            "subscription": self.name(), "subscription_id": self.id(), "component": component,
            "event_id": event.id.to_string(), "retry_in_ms": retry_in_ms, "last_error": error,
        });
        owner.tell(WAITING, told, Some(&event));
    }
}
