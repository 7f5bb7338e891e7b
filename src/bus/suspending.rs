//! The handlers of a component that has failed: what comes waits for its next life.

use std::sync::Arc;

use super::handle::Bus;
use super::lanes::Delivery;
use super::subscription::Subscription;

impl Bus {
    /// Has what comes for the handlers of `component` wait from now on. Handlers that run inside
    /// `publish` have nowhere to wait, and streams are read by whoever has them: both go on.
    ///
    /// Called under locks, it wakes nobody: `go_on` is to be called for those that are returned.
    #[must_use]
    pub fn suspend(&self, component: &str) -> Vec<Arc<Subscription>> {
        let mut all = self.subscriptions_of(component);
        all.retain(|subscription| subscription.executor().can_wait() && subscription.suspend());
        all
    }

    /// The component is at work again, and so are its handlers. As above, `go_on` is to be called
    /// for those that are returned.
    #[must_use]
    pub fn resume(&self, component: &str) -> Vec<Arc<Subscription>> {
        let mut all = self.subscriptions_of(component);
        all.retain(|subscription| subscription.resume());
        all
    }

    /// Ends those handlers of `component` whose events wait: nobody brings it back.
    pub fn end_suspended(&self, component: &str) {
        for subscription in self.subscriptions_of(component) {
            if subscription.is_suspended() {
                subscription.cancel();
            }
        }
    }
}

impl Subscription {
    /// Has its handler come for what waits.
    pub fn go_on(self: &Arc<Self>) {
        self.executor().schedule(self);
    }

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
