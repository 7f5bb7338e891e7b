//! Sync handlers inside `publish`, on the publisher's thread.

use std::sync::{Arc, Weak};

use pyo3::prelude::*;

use super::bridge::with_python;
use super::handler::{Conclusion, Handler};
use super::shared::Shared;
use super::watchdog::{Part, traced};
use super::workers::ThreadExecutor;
use crate::bus::{Executor, Subscription};
use crate::event::Event;

/// What an inline handler has of its surroundings, for its retries.
pub(super) struct Inline {
    handler: Weak<Handler>,
    shared: Weak<Shared>,
}

impl Inline {
    /// `handler`, to be run where its events are published.
    pub(super) fn of(handler: Handler, shared: Weak<Shared>) -> Arc<Handler> {
        Arc::new_cyclic(|this| handler.inside_publish(Inline { handler: this.clone(), shared }))
    }
}

/// Runs one subscription's handler where its events are published. Retries, which nobody waits
/// for, run on worker threads. The handler itself is the executor: there is nothing between the
/// subscription and what it calls.
impl Executor for Handler {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        if let Some(inline) = self.inline()
            && let Some(handler) = inline.handler.upgrade()
        {
            ThreadExecutor { handler, shared: inline.shared.clone() }.schedule(subscription);
        }
    }

    fn is_inline(&self) -> bool {
        true
    }

    fn run_inline(&self, subscription: &Arc<Subscription>, event: &Arc<Event>) {
        let handled = with_python(|py| run(py, self, subscription, event));
        if handled.is_none() {
            // There is no interpreter left.
            subscription.abandoned(subscription.adopt_inline(event));
        }
    }

    fn describe(&self) -> &'static str {
        "inline"
    }
}

/// Calls the handler on this thread and settles the delivery by itself.
fn run(py: Python<'_>, handler: &Handler, subscription: &Arc<Subscription>, event: &Arc<Event>) {
    let (delivery, result) = if handler.decides() {
        let delivery = subscription.adopt_inline(event);
        let result =
            traced(py, subscription, event, Part::Inside, || handler.run_sync(py, &delivery));
        (delivery, result)
    } else {
        let result = subscription.timed(|| {
            traced(py, subscription, event, Part::Inside, || handler.run_first(py, event))
        });
        if result.is_ok() && !subscription.responds() {
            return subscription.handled_inline(event);
        }
        (subscription.adopt_inline(event), result)
    };
    match handler.conclude(py, subscription, delivery, result) {
        Conclusion::Delivered => subscription.put_back(1, std::iter::empty()),
        Conclusion::Settled | Conclusion::Undecided => {}
        Conclusion::Fallback(delivery, failure) => {
            handler.run_fallback(py, subscription, delivery, failure, Part::Fallback);
        }
        // The publisher is not to blame for its subscriber: KeyboardInterrupt alone, which is
        // meant for the thread it hits, is raised again by the interpreter.
        Conclusion::Fatal(error) => error.write_unraisable(py, None),
    }
}
