//! What has work, and who comes for it: for executors whose consumers serve many subscriptions.

use std::collections::VecDeque;

use crate::sync::{AtomicBool, Mutex, Ordering};

/// A list of what has work, and whether somebody *leads*: will come to look at it.
///
/// Whoever is told that a leader is needed has to bring one, who pops until there is nothing, and
/// then asks to retire. So a burst of work costs one wake-up, and work is never left alone.
#[derive(Debug)]
pub struct ReadyList<T> {
    items: Mutex<VecDeque<T>>,
    led: AtomicBool,
}

impl<T> Default for ReadyList<T> {
    fn default() -> Self {
        ReadyList { items: Mutex::default(), led: AtomicBool::new(false) }
    }
}

impl<T> ReadyList<T> {
    /// Adds `item`; true means that a leader is needed.
    #[must_use = "a leader is to be brought"]
    pub fn push(&self, item: T) -> bool {
        self.items.lock().push_back(item);
        self.take_lead()
    }

    /// The next item, for the leader.
    pub fn pop(&self) -> Option<T> {
        self.items.lock().pop_front()
    }

    /// The leader has something else to do; true means that another one is needed.
    #[must_use = "a leader is to be brought"]
    pub fn stop_leading(&self) -> bool {
        self.led.store(false, Ordering::Release);
        // After that: what came before it is seen here, what comes after it brings a leader.
        let waiting = !self.items.lock().is_empty();
        waiting && self.take_lead()
    }

    /// The leader found nothing; false means that work came at the last moment, and that it leads
    /// on.
    pub fn retire(&self) -> bool {
        !self.stop_leading()
    }

    /// The leader that was needed could not be brought. The next item asks for one again.
    pub fn leaderless(&self) {
        self.led.store(false, Ordering::Release);
    }

    /// Nobody will come any more: takes everything.
    pub fn abandon(&self) -> VecDeque<T> {
        self.leaderless();
        std::mem::take(&mut *self.items.lock())
    }

    /// Whether somebody leads, or is about to.
    pub fn is_led(&self) -> bool {
        self.led.load(Ordering::Acquire)
    }

    fn take_lead(&self) -> bool {
        !self.led.swap(true, Ordering::AcqRel)
    }
}
