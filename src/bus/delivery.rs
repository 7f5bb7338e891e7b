//! After a failure: retry, fallback or dead letter, and the error event that tells of it.

use std::sync::Arc;

use serde::Serialize;

use super::Core;
use super::dead_letters::DeadLetter;
use super::guard::Guard;
use super::mailbox::Delivery;
use super::subscription::{Role, Subscription};
use crate::error::Category;
use crate::resilience::{Attempt, Decision, RetryPolicy};

/// What a failed handler left behind: text, never the exception itself, which would keep its
/// frames and everything in them alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What to do about it.
    pub category: Category,
    /// The exception's class, or the error's kind.
    pub error_type: String,
    /// What it said.
    pub message: String,
    /// Where it came from, formatted and bounded.
    pub traceback: Option<String>,
}

/// What happens after failures of one subscription's handler.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// How often and when to try again; without it the first failure is the last.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Pauses consumption while the handler keeps failing.
    pub guard: Option<Arc<Guard>>,
    /// Whether the handler has a fallback to run after the last failure.
    pub fallback: bool,
}

/// The content of a `system.error.<category>` event.
#[derive(Serialize)]
struct ErrorReport<'a> {
    component: Option<&'a str>,
    subscription: &'a str,
    event_id: String,
    event_type: &'a str,
    correlation_id: String,
    priority: &'static str,
    attempt: u32,
    #[serde(rename = "final")]
    last: bool,
    action: &'static str,
    retry_in_ms: Option<u64>,
    #[serde(flatten)]
    failure: &'a Failure,
}

/// How the bus ends a delivery that failed.
enum Verdict {
    Retry(std::time::Duration),
    Fallback,
    DeadLetter(&'static str),
    /// The requester is told, and that is all.
    Answered,
}

pub(super) fn failed(
    subscription: &Arc<Subscription>,
    delivery: Delivery,
    failure: Failure,
) -> bool {
    let Some(bus) = subscription.bus() else {
        subscription.abandoned(delivery);
        return false;
    };
    let core = &bus.0;
    let options = subscription.options();
    if let Some(guard) = &options.policy.guard {
        guard.failed(core, subscription, &failure);
    }
    let verdict = decide(core, subscription, &delivery, failure.category);
    report(core, subscription, &delivery, &failure, &verdict);
    match verdict {
        Verdict::Retry(after) => {
            subscription.mailbox().await_retry(&delivery);
            let retry = Delivery { attempt: delivery.attempt + 1, event: delivery.event };
            let again = subscription.clone();
            core.clock.schedule(after, move || again.requeue(retry)).detach();
            false
        }
        Verdict::Fallback => true,
        Verdict::DeadLetter(reason) => {
            bury(core, subscription, delivery, failure, reason);
            false
        }
        Verdict::Answered => {
            core.requests.answer(&delivery.event, Err(failure));
            subscription.mailbox().handled();
            false
        }
    }
}

pub(super) fn fallback_done(
    subscription: &Arc<Subscription>,
    delivery: Delivery,
    original: Failure,
    result: Result<(), Failure>,
) {
    match (result, subscription.bus()) {
        (Ok(()), _) => subscription.mailbox().handled(),
        (Err(_), None) => subscription.abandoned(delivery),
        (Err(failure), Some(bus)) => {
            let verdict = Verdict::DeadLetter("fallback_failed");
            report(&bus.0, subscription, &delivery, &failure, &verdict);
            bury(&bus.0, subscription, delivery, original, "fallback_failed");
        }
    }
}

pub(super) fn orphaned(core: &Core, subscription: &Arc<Subscription>, waiting: usize) {
    core.emit(
        "system.subscription_orphaned",
        &serde_json::json!({
            "subscription": subscription.name(),
            "component": subscription.component(),
            "waiting": waiting,
        }),
    );
}

/// What the end of a subscription overtook: requests are answered, for nobody else will; what
/// is to be kept is kept.
pub(super) fn given_up(
    core: &Core,
    subscription: &Arc<Subscription>,
    left: Vec<Delivery>,
    kept: bool,
) {
    let (error_type, message) = if kept {
        ("LoopClosed", "the event loop that ran the handler was closed")
    } else {
        ("Cancelled", "the subscription was cancelled before it handled the event")
    };
    let failure = Failure {
        category: Category::Dependency,
        error_type: error_type.into(),
        message: message.into(),
        traceback: None,
    };
    for delivery in left {
        if subscription.options().role == Role::Responder {
            core.requests.answer(&delivery.event, Err(failure.clone()));
        }
        if kept {
            keep(core, subscription, delivery, failure.clone(), "orphaned");
        }
    }
}

fn decide(
    core: &Core,
    subscription: &Subscription,
    delivery: &Delivery,
    category: Category,
) -> Verdict {
    let options = subscription.options();
    if options.role == Role::Responder {
        return Verdict::Answered;
    }
    let reason = match &options.policy.retry {
        None => "no_retry",
        Some(retry) => {
            let left = delivery.event.deadline().map(|deadline| {
                let left = deadline.saturating_sub(core.clock.unix_ms()).max(0);
                std::time::Duration::from_millis(left as u64)
            });
            let attempt = Attempt {
                deadline_left: left,
                ..Attempt::new(delivery.attempt, category, std::time::Duration::ZERO)
            };
            match retry.decide(&attempt, &mut retry.draws()) {
                Decision::Retry { after } => return Verdict::Retry(after),
                Decision::GiveUp { reason } => reason.as_str(),
            }
        }
    };
    if options.policy.fallback { Verdict::Fallback } else { Verdict::DeadLetter(reason) }
}

fn report(
    core: &Core,
    subscription: &Subscription,
    delivery: &Delivery,
    failure: &Failure,
    verdict: &Verdict,
) {
    let event = &delivery.event;
    let (action, retry_in_ms) = match verdict {
        Verdict::Retry(after) => ("retry", Some(after.as_millis() as u64)),
        Verdict::Fallback => ("fallback", None),
        Verdict::DeadLetter(_) => ("dead_letter", None),
        Verdict::Answered => ("fault", None),
    };
    tracing::warn!(
        target: "tiebeam::bus",
        component = subscription.component().map(|name| &**name),
        subscription = subscription.name(),
        event_id = %event.id,
        correlation_id = %event.metadata.correlation_id,
        event_type = %event.topic,
        attempt = delivery.attempt,
        category = failure.category.as_str(),
        action,
        traceback = failure.traceback.as_deref(),
        "handler failed: {}: {}", failure.error_type, failure.message
    );
    // A failure while handling an error is logged and kept, but is no new error event: two
    // broken error handlers would feed each other for ever.
    let topic = event.topic.as_str();
    let about_an_error = topic.starts_with("system.error.") || topic == "system.alert";
    if subscription.options().internal || about_an_error {
        return;
    }
    let report = ErrorReport {
        component: subscription.component().map(|name| &**name),
        subscription: subscription.name(),
        event_id: event.id.to_string(),
        event_type: topic,
        correlation_id: event.metadata.correlation_id.to_string(),
        priority: event.metadata.priority.as_str(),
        attempt: delivery.attempt,
        last: !matches!(verdict, Verdict::Retry(_)),
        action,
        retry_in_ms,
        failure,
    };
    core.emit_caused_by(error_topic(failure.category), &report, Some(event));
}

fn error_topic(category: Category) -> &'static str {
    match category {
        Category::Transient => "system.error.transient",
        Category::Permanent => "system.error.permanent",
        Category::Configuration => "system.error.configuration",
        Category::Dependency => "system.error.dependency",
        Category::Internal => "system.error.internal",
    }
}

fn bury(
    core: &Core,
    subscription: &Arc<Subscription>,
    delivery: Delivery,
    failure: Failure,
    reason: &'static str,
) {
    // Kept first, settled after: at no time is the event in neither place.
    keep(core, subscription, delivery, failure, reason);
    subscription.mailbox().dead_lettered();
}

fn keep(
    core: &Core,
    subscription: &Arc<Subscription>,
    delivery: Delivery,
    failure: Failure,
    reason: &'static str,
) {
    let letter = DeadLetter {
        id: 0,
        subscription: subscription.name().into(),
        subscription_id: subscription.id(),
        component: subscription.component().cloned(),
        reason,
        failure,
        attempts: delivery.attempt,
        timestamp: core.clock.unix_ms(),
        event: delivery.event,
    };
    let (_, evicted) = core.dead_letters.keep(letter);
    if let Some(evicted) = evicted {
        tracing::error!(
            target: "tiebeam::bus",
            event_id = %evicted.event.id,
            event_type = %evicted.event.topic,
            "too many dead letters: the oldest was given up"
        );
    }
}
