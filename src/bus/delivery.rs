//! After a failure: retry, fallback or dead letter.

use std::sync::Arc;

use super::dead_letters::DeadLetter;
use super::failure::Failure;
use super::lanes::Delivery;
use super::options::Role;
use super::owner::Owner;
use super::report::report;
use super::requests::Answer;
use super::subscription::Subscription;
use super::tally::Ending;
use crate::error::Category;
use crate::event::Event;
use crate::resilience::{Attempt, Decision};

/// How the bus ends a delivery that failed.
pub(super) enum Verdict {
    Retry(std::time::Duration),
    Fallback,
    DeadLetter(&'static str),
    /// The requester is told, and that is all.
    Answered,
    /// The failure is reported, and that is all.
    Acknowledged,
    /// The handler failed after somebody had settled the delivery.
    Settled,
}

impl Subscription {
    /// The handler failed. What happens next is decided here and nowhere else; true means that
    /// the caller has to run the fallback, and then report by `fallback_done`.
    pub fn failed(self: &Arc<Self>, delivery: Delivery, failure: Failure) -> bool {
        if let Some(manual) = &self.options().manual
            && !manual.take(&delivery)
        {
            if let Some(owner) = self.owner() {
                report(&*owner, self, &delivery, &failure, &Verdict::Settled);
            }
            return false;
        }
        self.settle_failed(delivery, failure)
    }

    /// [`Subscription::failed`] for a delivery that nobody else can settle.
    pub(super) fn settle_failed(self: &Arc<Self>, delivery: Delivery, failure: Failure) -> bool {
        let Some(owner) = self.owner() else {
            self.abandoned(delivery);
            return false;
        };
        if let Some(breaker) = self.waits_after(&failure) {
            self.wait_for_breaker(&*owner, delivery, &failure, &breaker);
            return false;
        }
        if let Some(guard) = &self.options().policy.guard {
            guard.failed(self, &failure);
        }
        let verdict = decide(&*owner, self, &delivery, &failure);
        report(&*owner, self, &delivery, &failure, &verdict);
        match verdict {
            Verdict::Retry(after) => {
                self.mailbox().await_retry(&delivery);
                let retry =
                    Delivery { attempt: delivery.attempt + 1, waits: 0, probes: None, ..delivery };
                let again = self.clone();
                owner.clock().schedule(after, move || again.requeue(retry)).detach();
                false
            }
            Verdict::Fallback => true,
            Verdict::DeadLetter(reason) => {
                bury(&*owner, self, delivery, failure, reason);
                false
            }
            Verdict::Answered => {
                owner.answer(&delivery.event, Err(failure));
                self.mailbox().forgiven(&delivery);
                false
            }
            Verdict::Acknowledged | Verdict::Settled => {
                self.mailbox().forgiven(&delivery);
                false
            }
        }
    }

    /// Gives a delivery up because somebody said so.
    pub(super) fn settle_rejected(self: &Arc<Self>, delivery: Delivery, failure: Failure) {
        let Some(owner) = self.owner() else { return self.abandoned(delivery) };
        if let Some(guard) = &self.options().policy.guard {
            guard.failed(self, &failure); // a probe that says nothing: another one may
        }
        report(&*owner, self, &delivery, &failure, &Verdict::DeadLetter("rejected"));
        bury(&*owner, self, delivery, failure, "rejected");
    }

    /// The fallback's success settles the delivery; its failure is the last word on it.
    pub fn fallback_done(
        self: &Arc<Self>,
        delivery: Delivery,
        original: Failure,
        result: Result<(), Failure>,
    ) {
        match (result, self.owner()) {
            (Ok(()), _) => self.mailbox().forgiven(&delivery),
            (Err(_), None) => self.abandoned(delivery),
            (Err(failure), Some(owner)) if self.options().ack.forgives() => {
                report(&*owner, self, &delivery, &failure, &Verdict::Acknowledged);
                self.mailbox().forgiven(&delivery);
            }
            (Err(failure), Some(owner)) => {
                let verdict = Verdict::DeadLetter("fallback_failed");
                report(&*owner, self, &delivery, &failure, &verdict);
                bury(&*owner, self, delivery, original, "fallback_failed");
            }
        }
    }

    /// Answers the request that `event` is.
    pub fn answer(&self, event: &Event, answer: Answer) {
        if let Some(owner) = self.owner() {
            owner.answer(event, answer);
        }
    }

    /// The wait for a retry is over.
    fn requeue(self: &Arc<Self>, delivery: Delivery) {
        match self.mailbox().requeue(delivery) {
            Ok(true) => self.executor().schedule(self),
            Ok(false) => {}
            Err(delivery) => {
                self.give_up(vec![delivery]);
            }
        }
    }

    /// Deliveries that its end overtook; returns how many nobody else took. Whoever waits for an
    /// answer hears that none will come, and what the loss of a loop took is kept. They are booked
    /// after that: at no time is an event in neither place.
    pub(super) fn give_up(self: &Arc<Self>, left: Vec<Delivery>) -> usize {
        let before = left.len();
        if before == 0 {
            return 0;
        }
        let mut left = self.bequeath(left);
        // What a broker keeps is given to somebody else by it.
        left.retain(|delivery| match delivery.event.lease() {
            Some(lease) => {
                lease.release();
                false
            }
            None => true,
        });
        let count = left.len();
        if count < before {
            self.mailbox().moved(before - count);
        }
        let ending = self.ending();
        if let Some(owner) = self.owner() {
            self.give_up_at(&*owner, left, ending);
        }
        self.mailbox().settle_left(ending, count);
        count
    }

    fn give_up_at(self: &Arc<Self>, owner: &dyn Owner, left: Vec<Delivery>, ending: Ending) {
        let kept = ending == Ending::DeadLettered;
        let (error_type, message) = if kept {
            ("LoopClosed", "the event loop that ran the handler was closed")
        } else {
            ("Cancelled", "the subscription was cancelled before it handled the event")
        };
        let failure = Failure::new(Category::Dependency, error_type, message);
        for delivery in left {
            if self.options().role == Role::Responder {
                owner.answer(&delivery.event, Err(failure.clone()));
            }
            if kept {
                keep(owner, self, delivery, failure.clone(), "orphaned");
            }
        }
    }
}

fn decide(
    owner: &dyn Owner,
    subscription: &Subscription,
    delivery: &Delivery,
    failure: &Failure,
) -> Verdict {
    let options = subscription.options();
    if options.role == Role::Responder {
        return Verdict::Answered;
    }
    let reason = match &options.policy.retry {
        None => "no_retry",
        Some(retry) => {
            let left = delivery.event.deadline().map(|deadline| {
                let left = deadline.saturating_sub(owner.clock().unix_ms()).max(0);
                std::time::Duration::from_millis(left as u64)
            });
            let attempt = Attempt {
                deadline_left: left,
                hint: failure.retry_after,
                ..Attempt::new(delivery.attempt, failure.category, std::time::Duration::ZERO)
            };
            match retry.decide(&attempt, &mut retry.draws()) {
                Decision::Retry { after } => return Verdict::Retry(after),
                Decision::GiveUp { reason } => reason.as_str(),
            }
        }
    };
    if options.policy.fallback { Verdict::Fallback } else { options.ack.last(reason) }
}

fn bury(
    owner: &dyn Owner,
    subscription: &Arc<Subscription>,
    delivery: Delivery,
    failure: Failure,
    reason: &'static str,
) {
    // Kept first, settled after: at no time is the event in neither place.
    keep(owner, subscription, delivery.clone(), failure, reason);
    subscription.mailbox().dead_lettered(&delivery);
}

fn keep(
    owner: &dyn Owner,
    subscription: &Arc<Subscription>,
    delivery: Delivery,
    failure: Failure,
    reason: &'static str,
) {
    let now = owner.clock().unix_ms();
    let why = (delivery.attempt, reason);
    owner.keep(DeadLetter::of(subscription, delivery.event, why, failure, now));
}
