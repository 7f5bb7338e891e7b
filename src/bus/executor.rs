//! What runs handlers, as a subscription knows it.

use std::fmt;
use std::sync::Arc;

use super::subscription::Subscription;
use crate::event::Event;

/// What runs handlers: an asyncio loop, worker threads, a Rust task.
///
/// It is told once that a subscription has work, and then comes to [`Subscription::claim`] it.
/// After each success it calls [`Subscription::pass`], and reports with the batch.
pub trait Executor: Send + Sync + fmt::Debug {
    /// There is work; called without any lock held, from any thread.
    fn schedule(&self, subscription: &Arc<Subscription>);

    /// Whether events are to be handled inside `publish`, on the publisher's thread.
    fn is_inline(&self) -> bool {
        false
    }

    /// Handles one event on this thread, and settles it by [`Subscription::handled_inline`] or,
    /// after [`Subscription::adopt_inline`], like any other; only called where `is_inline`.
    fn run_inline(&self, _subscription: &Arc<Subscription>, _event: &Arc<Event>) {}

    /// The thread that must be free for the handler to run, where it is always the same one.
    fn thread(&self) -> Option<std::thread::ThreadId> {
        None
    }

    /// The subscription was cancelled: no event will come any more. Called without any lock held.
    fn ended(&self) {}

    /// What it is, for `explain` and reprs.
    fn describe(&self) -> &'static str;
}
