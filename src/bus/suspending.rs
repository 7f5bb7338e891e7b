//! The handlers of a component that has failed: what comes waits for its next life.

use std::sync::Arc;

use super::handle::Bus;
use super::lanes::Delivery;
use super::subscription::Subscription;

impl Bus {
    /// Has what comes for the handlers of `component` wait from now on. Handlers that run inside
    /// `publish` have nowhere to wait, and streams are read by whoever has them: both go on.
    pub fn suspend(&self, component: &str) {
        for subscription in self.handlers_of(component) {
            if subscription.executor().can_wait() {
                subscription.suspend();
            }
        }
    }

    /// The component is at work again, and so are its handlers.
    pub fn resume(&self, component: &str) {
        self.handlers_of(component).for_each(|subscription| subscription.resume());
    }

    /// Ends those handlers of `component` whose events wait: nobody brings it back.
    pub fn end_suspended(&self, component: &str) {
        for subscription in self.handlers_of(component) {
            if subscription.is_suspended() {
                subscription.cancel();
            }
        }
    }

    fn handlers_of(&self, component: &str) -> impl Iterator<Item = Arc<Subscription>> {
        let is_of = |s: &Arc<Subscription>| s.component().is_some_and(|name| **name == *component);
        self.subscriptions().into_iter().filter(is_of)
    }
}

impl Subscription {
    /// What was handed out and not begun when its component failed waits like the rest.
    pub(super) fn put_aside(self: &Arc<Self>, delivery: Delivery) {
        match self.mailbox().put_aside(delivery) {
            Ok(true) => self.executor().schedule(self),
            Ok(false) => {}
            Err(delivery) => {
                self.give_up(vec![delivery]);
            }
        }
    }
}
