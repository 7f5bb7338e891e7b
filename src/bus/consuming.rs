//! What consumers call: they claim a subscription, pull batches, and report with the next one.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::lanes::Delivery;
use super::mailbox::Pulled;
use super::subscription::Subscription;
use crate::clock::Instant;
use crate::event::Event;

impl Subscription {
    /// Claims the right to handle events, and pulls the first batch into `out` (which must be
    /// empty). False means that there is nothing to do, and nothing to release.
    pub fn claim(self: &Arc<Self>, max: usize, out: &mut VecDeque<Delivery>) -> bool {
        let now = OnceCell::new();
        let pulled = self.mailbox().claim(max, || *now.get_or_init(|| self.unix_ms()), out);
        self.after_pull(pulled)
    }

    /// Reports `delivered` successes and pulls the next batch. False ends the claim.
    pub fn next(
        self: &Arc<Self>,
        delivered: usize,
        max: usize,
        out: &mut VecDeque<Delivery>,
    ) -> bool {
        if delivered > 0 {
            self.succeeded();
        }
        let now = OnceCell::new();
        let time = || *now.get_or_init(|| self.unix_ms());
        let pulled = self.mailbox().next(delivered, max, time, out);
        self.after_pull(pulled)
    }

    fn after_pull(self: &Arc<Self>, pulled: Pulled) -> bool {
        pulled.admitted.iter().for_each(|ticket| ticket.tell());
        if pulled.notify {
            self.executor().schedule(self);
        }
        if let Some(at) = pulled.open_at {
            self.open_later(at);
        }
        pulled.some
    }

    /// Sees to it that what waits for the end of an interval comes when that is over.
    fn open_later(self: &Arc<Self>, at: Instant) {
        let Some(owner) = self.owner() else { return };
        let subscription = Arc::downgrade(self);
        let open = move || {
            let Some(subscription) = subscription.upgrade() else { return };
            let (notify, next) = subscription.mailbox().open_due();
            if notify {
                subscription.executor().schedule(&subscription);
            }
            if let Some(next) = next {
                subscription.open_later(next);
            }
        };
        owner.clock().schedule_at(at, open).detach();
    }

    /// A handler is about to begin with `delivery`, which may have stood in its batch for long.
    /// Nothing comes back where it must not, which is settled by that: the subscription has
    /// ended, or the event is past its deadline. For the `first` since the pull, that was looked
    /// at there.
    #[inline]
    pub fn begin(self: &Arc<Self>, delivery: Delivery, first: bool) -> Option<Delivery> {
        let timely = first || delivery.event.deadline().is_none();
        if self.is_served() && timely && !self.settles_early() {
            return Some(delivery);
        }
        self.begin_if_it_may(delivery, first)
    }

    #[cold]
    fn begin_if_it_may(self: &Arc<Self>, delivery: Delivery, first: bool) -> Option<Delivery> {
        if !self.is_active() {
            self.abandoned(delivery);
            return None;
        }
        if self.is_suspended() {
            self.put_aside(delivery);
            return None;
        }
        if !first && self.is_past(&delivery.event) {
            self.expired(&delivery);
            return None;
        }
        if self.settles_early() {
            delivery.event.settle();
        }
        Some(delivery)
    }

    /// The last of a batch of several begins: nothing waits in the hands of its consumer any more.
    pub fn last_begins(&self, last: &Event) {
        self.mailbox().last_begins(last, self.unix_ms());
    }

    pub(super) fn is_past(&self, event: &Event) -> bool {
        event.is_expired(self.unix_ms())
    }

    fn expired(self: &Arc<Self>, delivery: &Delivery) {
        if self.mailbox().expired(delivery) {
            self.executor().schedule(self);
        }
    }

    /// The handler succeeded, which the caller reports by `next` or `put_back`: from here on the
    /// next event of the same key may be handled.
    pub fn pass(&self, delivery: &Delivery) {
        delivery.event.settle();
        if delivery.keyed || delivery.waits > 0 {
            self.mailbox().pass(delivery);
        }
    }

    /// Hands back what was pulled and not begun, in order, and reports `delivered` successes.
    /// The claim goes on.
    pub fn put_back(
        self: &Arc<Self>,
        delivered: usize,
        rest: impl DoubleEndedIterator<Item = Delivery>,
    ) {
        if delivered > 0 {
            self.succeeded();
        }
        let (notify, left) = self.mailbox().put_back(delivered, rest.rev());
        if notify {
            self.executor().schedule(self);
        }
        self.give_up(left);
    }

    /// Reports the success of a handler that ran inside `publish`.
    pub fn handled_inline(self: &Arc<Self>, event: &Event) {
        self.succeeded();
        event.settle();
        self.mailbox().end_inline();
    }

    /// A delivery that began inside `publish` goes on like one that was pulled, because its
    /// handler failed.
    pub fn adopt_inline(&self, event: &Arc<Event>) -> Delivery {
        self.mailbox().adopt_inline();
        Delivery::first(event.clone())
    }

    /// Ends a claim.
    pub fn release(self: &Arc<Self>) {
        if self.mailbox().release() {
            self.executor().schedule(self);
        }
    }

    /// The delivery ended without success or failure, because its consumer goes away.
    pub fn abandoned(self: &Arc<Self>, delivery: Delivery) {
        self.mailbox().abandoned(&delivery);
        self.give_up(vec![delivery]);
    }
}
