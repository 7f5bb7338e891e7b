//! What runs handlers, as a subscription knows it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::subscription::Subscription;
use crate::event::Event;

/// How late an event loop came when it was woken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// The last time that was measured.
    pub last: Duration,
    /// At most.
    pub longest: Duration,
}

impl Lag {
    /// The greater of each.
    #[must_use]
    pub fn max(self, other: Lag) -> Lag {
        Lag { last: self.last.max(other.last), longest: self.longest.max(other.longest) }
    }
}

/// What runs handlers: an asyncio loop, worker threads, a Rust task.
///
/// It is told once that a subscription has work, and then comes to [`Subscription::claim`] it.
/// After each success it calls [`Subscription::pass`], and reports with the batch.
pub trait Executor: Any + Send + Sync + fmt::Debug {
    /// There is work; called without any lock held, from any thread.
    fn schedule(&self, subscription: &Arc<Subscription>);

    /// Whether events are to be handled inside `publish`, on the publisher's thread.
    fn is_inline(&self) -> bool {
        false
    }

    /// Handles one event on this thread, and settles it by [`Subscription::handled_inline`] or,
    /// after [`Subscription::adopt_inline`], like any other; only called where `is_inline`.
    fn run_inline(&self, _subscription: &Arc<Subscription>, _event: &Arc<Event>) {}

    /// Whether it runs handlers, whose events can wait while their component has failed.
    fn can_wait(&self) -> bool {
        !self.is_inline()
    }

    /// The thread that must be free for the handler to run, where it is always the same one.
    fn thread(&self) -> Option<std::thread::ThreadId> {
        None
    }

    /// How late what runs the handler comes when it is woken, where that is known.
    fn lag(&self) -> Option<Lag> {
        None
    }

    /// The subscription was cancelled: no event will come any more. Called without any lock held.
    fn ended(&self) {}

    /// What it is, for `explain` and reprs.
    fn describe(&self) -> &'static str;
}
