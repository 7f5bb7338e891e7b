//! What is told of a failure: a line in the log, and an error event.

use std::sync::Arc;

use serde::Serialize;

use super::delivery::Verdict;
use super::failure::Failure;
use super::lanes::Delivery;
use super::owner::Owner;
use super::subscription::Subscription;
use super::throttle::Line;
use crate::error::Category;

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

/// Tells of a failed attempt, and what is done about it.
pub(super) fn report(
    owner: &dyn Owner,
    subscription: &Arc<Subscription>,
    delivery: &Delivery,
    failure: &Failure,
    verdict: &Verdict,
) {
    subscription.note_failure(matches!(verdict, Verdict::Retry(_)));
    let event = &delivery.event;
    let (action, retry_in_ms) = match verdict {
        Verdict::Retry(after) => ("retry", Some(after.as_millis() as u64)),
        Verdict::Fallback => ("fallback", None),
        Verdict::DeadLetter(_) => ("dead_letter", None),
        Verdict::Answered => ("fault", None),
        Verdict::Acknowledged => ("acknowledged", None),
        Verdict::Settled => ("none", None),
    };
    log(owner, subscription, delivery, failure, action);
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
        correlation_id: event.correlation_id().to_string(),
        priority: event.metadata.priority.as_str(),
        attempt: delivery.attempt,
        last: !matches!(verdict, Verdict::Retry(_)),
        action,
        retry_in_ms,
        failure,
    };
    match serde_json::to_value(&report) {
        Ok(report) => owner.tell(error_topic(failure.category), report, Some(event)),
        Err(error) => tracing::error!(target: "tiebeam::bus", "an error report was lost: {error}"),
    }
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

/// Writes a line, unless there were many just now.
fn log(
    owner: &dyn Owner,
    subscription: &Arc<Subscription>,
    delivery: &Delivery,
    failure: &Failure,
    action: &str,
) {
    let clock = owner.clock();
    let until = match subscription.failure_lines().next(clock.now()) {
        Line::Write => {
            let event = &delivery.event;
            tracing::warn!(
                target: "tiebeam::bus",
                component = subscription.component().map(|name| &**name),
                subscription = subscription.name(),
                event_id = %event.id,
                correlation_id = %event.correlation_id(),
                event_type = %event.topic,
                attempt = delivery.attempt,
                category = failure.category.as_str(),
                action,
                traceback = failure.traceback.as_deref(),
                "handler failed: {}: {}", failure.error_type, failure.message
            );
            return;
        }
        Line::Hold { until: None } => return,
        Line::Hold { until: Some(until) } => until,
    };
    let (subscription, last) = (Arc::downgrade(subscription), failure.clone());
    let tell = move || {
        let Some(subscription) = subscription.upgrade() else { return };
        tracing::warn!(
            target: "tiebeam::bus",
            component = subscription.component().map(|name| &**name),
            subscription = subscription.name(),
            count = subscription.failure_lines().take_held(),
            "handler failed many times more, among them: {}: {}", last.error_type, last.message
        );
    };
    clock.schedule_at(until, tell).detach();
}
