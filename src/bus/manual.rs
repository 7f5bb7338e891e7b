//! Deliveries that somebody has to decide on: the handler, or whoever it gives the event to.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use super::failure::Failure;
use super::guard::Reader as _;
use super::lanes::Delivery;
use super::subscription::Subscription;
use crate::error::{Category, Error, Kind, Result};
use crate::sync::Mutex;

/// The deliveries of one subscription that nobody has decided on yet.
#[derive(Debug, Default)]
pub struct Manual {
    subscription: OnceLock<Weak<Subscription>>,
    /// Whoever takes a delivery out decides on it: nobody else can.
    open: Mutex<HashSet<Number>>,
}

/// Where the event is, which attempt it is, and how often that waited.
type Number = (usize, u32, u8);

/// One delivery, to be decided on once, from any thread. Dropped undecided, it comes back as
/// after a failure.
pub struct Undecided {
    desk: Arc<Manual>,
    delivery: Delivery,
}

impl Manual {
    pub(super) fn attach(&self, subscription: &Arc<Subscription>) {
        let first = self.subscription.set(Arc::downgrade(subscription)).is_ok();
        debug_assert!(first, "one desk serves one subscription");
    }

    /// Opens the decision on a delivery whose handler is about to be called.
    pub fn open(self: &Arc<Self>, delivery: &Delivery) -> Undecided {
        self.open.lock().insert(number(delivery));
        Undecided { desk: self.clone(), delivery: delivery.clone() }
    }

    /// Takes the decision; false when it has been taken.
    pub(super) fn take(&self, delivery: &Delivery) -> bool {
        self.open.lock().remove(&number(delivery))
    }
}

/// One delivery among those that are under way at a subscription: while it is, its event is
/// alive, and no other one has its address.
fn number(delivery: &Delivery) -> Number {
    (Arc::as_ptr(&delivery.event).addr(), delivery.attempt, delivery.waits)
}

impl Undecided {
    /// The event was handled.
    ///
    /// # Errors
    /// `Kind::Lifecycle` when it has been decided on.
    pub fn ack(&self) -> Result<()> {
        self.decide("ack", Subscription::acked)
    }

    /// The event was not handled: it comes back as after a failed attempt, and is a dead letter
    /// after the last one.
    ///
    /// # Errors
    /// As [`Undecided::ack`].
    pub fn nack(&self) -> Result<()> {
        let failure = told(Category::Transient, "Nacked", "the handler did not take the event");
        self.decide("nack", |subscription, delivery| subscription.nacked(delivery, failure))
    }

    /// The event cannot be handled: it is a dead letter at once.
    ///
    /// # Errors
    /// As [`Undecided::ack`].
    pub fn reject(&self, reason: Option<&str>) -> Result<()> {
        let reason = reason.unwrap_or("the handler rejected the event");
        let failure = told(Category::Permanent, "Rejected", reason);
        self.decide("reject", |subscription, delivery| subscription.rejected(delivery, failure))
    }

    fn decide(
        &self,
        what: &'static str,
        act: impl FnOnce(&Arc<Subscription>, Delivery),
    ) -> Result<()> {
        if !self.desk.take(&self.delivery) {
            let id = self.delivery.event.id.to_string();
            return Err(Error::new(
                Kind::Lifecycle,
                what,
                format!(
                    "cannot {what} the event {id}: it was settled before, by `ack`, `nack`, \
                     `reject` or the failure of its handler"
                ),
            )
            .with("event_id", id));
        }
        if let Some(subscription) = self.desk.subscription.get().and_then(Weak::upgrade) {
            act(&subscription, self.delivery.clone());
        }
        Ok(())
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        let message = "the event was thrown away before anybody decided on it";
        let failure = told(Category::Transient, "Undecided", message);
        // An error means that somebody did.
        let _ = self.decide("nack", |subscription, delivery| {
            subscription.nacked(delivery, failure);
        });
    }
}

impl fmt::Debug for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Undecided({})", self.delivery.event)
    }
}

fn told(category: Category, error_type: &str, message: &str) -> Failure {
    Failure::new(category, error_type, message)
}

impl Subscription {
    fn acked(self: &Arc<Self>, delivery: Delivery) {
        self.succeeded();
        self.mailbox().handled(&delivery);
        self.wake();
    }

    fn nacked(self: &Arc<Self>, delivery: Delivery, failure: Failure) {
        self.settle_failed(delivery, failure);
        self.wake();
    }

    fn rejected(self: &Arc<Self>, delivery: Delivery, failure: Failure) {
        self.settle_rejected(delivery, failure);
        self.wake();
    }

    /// What was settled made room, and may have passed on the turn of its key, while no consumer
    /// was about to come back.
    fn wake(self: &Arc<Self>) {
        if self.mailbox().wake() {
            self.executor().schedule(self);
        }
    }

    /// The consumer goes away in the middle of `delivery`; returns it if it is to be handed
    /// back, and nothing if it is settled.
    pub fn interrupted(self: &Arc<Self>, delivery: Delivery) -> Option<Delivery> {
        let options = self.options();
        match (&options.manual, options.ack) {
            (Some(manual), _) => manual.take(&delivery).then_some(delivery),
            (None, super::Ack::First) => {
                self.mailbox().forgiven(&delivery);
                self.allow_one_more(); // if it was a probe, nobody knows what it would have said
                None
            }
            _ => Some(delivery),
        }
    }
}
