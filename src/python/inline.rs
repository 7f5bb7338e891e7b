//! Sync handlers inside `publish`, on the publisher's thread.

use std::sync::Arc;

use pyo3::prelude::*;

use super::bridge::with_python;
use super::handler::{Conclusion, Handler};
use super::workers::ThreadExecutor;
use crate::bus::{Executor, Subscription};
use crate::event::Event;

/// Runs one subscription's handler where its events are published. Retries, which nobody waits
/// for, run on worker threads.
#[derive(Debug)]
pub(super) struct InlineExecutor(pub ThreadExecutor);

impl Executor for InlineExecutor {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        self.0.schedule(subscription);
    }

    fn is_inline(&self) -> bool {
        true
    }

    fn run_inline(&self, subscription: &Arc<Subscription>, event: &Arc<Event>) {
        let handled = with_python(|py| run(py, &self.0.handler, subscription, event));
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
        let result = handler.run_sync(py, &delivery);
        (delivery, result)
    } else {
        let result = handler.run_first(py, event);
        if result.is_ok() && !subscription.responds() {
            return subscription.handled_inline();
        }
        (subscription.adopt_inline(event), result)
    };
    match handler.conclude(py, subscription, delivery, result) {
        Conclusion::Delivered => subscription.put_back(1, std::iter::empty()),
        Conclusion::Settled | Conclusion::Undecided => {}
        Conclusion::Fallback(delivery, failure) => {
            handler.run_fallback(py, subscription, delivery, failure);
        }
        // The publisher is not to blame for its subscriber: KeyboardInterrupt alone, which is
        // meant for the thread it hits, is raised again by the interpreter.
        Conclusion::Fatal(error) => error.write_unraisable(py, None),
    }
}
