//! What became of deliveries: handed back, handled, waiting for a retry, given up.

use std::sync::Arc;

use super::super::intake::Intake;
use super::super::lanes::Delivery;
use super::super::parked::Due;
use super::Mailbox;
use super::state::Calm;
use crate::clock::Instant;

impl Mailbox {
    /// Books what `begin_inline` began as handled.
    #[inline]
    pub fn end_inline(&self) {
        if self.passage.end() {
            drop(self.lock()); // which wakes those who wait
        }
    }

    /// What `begin_inline` began goes on as if it had been pulled from the queue: it failed.
    pub fn adopt_inline(&self) {
        let mut state = self.lock();
        self.passage.adopt();
        state.tally.published += 1;
        state.running += 1;
    }

    /// Books what `begin_inline` began as past its deadline.
    pub fn expire_inline(&self) {
        let mut state = self.lock();
        self.passage.adopt();
        state.tally.published += 1;
        state.tally.expired += 1;
    }

    /// Reports successes, and hands back what was pulled but not begun, the last first. What a
    /// mailbox that has ended cannot take back is returned (and is in flight until `settle_left`),
    /// beside whether another consumer must be told.
    pub fn put_back(
        &self,
        delivered: usize,
        rest: impl DoubleEndedIterator<Item = Delivery>,
    ) -> (bool, Vec<Delivery>) {
        let mut state = self.lock();
        state.delivered(delivered);
        let (mut left, mut last) = (Vec::new(), true);
        for delivery in rest {
            state.running -= 1;
            if std::mem::take(&mut last) {
                state.waits.handed_back(&delivery.event);
            }
            state.intake.give_back();
            match state.ended {
                None => {
                    let lost = state.backlog.put_back(delivery);
                    state.book(lost);
                }
                Some(_) => {
                    state.leaving += 1;
                    state.backlog.over(&delivery);
                    left.push(delivery);
                }
            }
        }
        (state.notify(self.concurrency), left)
    }

    /// Reports one delivery as handled.
    pub fn handled(&self, delivery: &Delivery) {
        delivery.event.settle();
        let mut state = self.lock();
        state.delivered(1);
        state.backlog.came_through(delivery);
        state.backlog.pass(delivery);
    }

    /// Reports one delivery as handled, though its handler has failed.
    pub fn forgiven(&self, delivery: &Delivery) {
        self.lock().forgiven += 1; // first: it is never taken for a success
        self.handled(delivery);
    }

    /// The handler is done with `delivery`, which is reported with its batch: the next one of its
    /// key may run. The caller comes for it.
    pub fn pass(&self, delivery: &Delivery) {
        let mut state = self.lock();
        state.backlog.came_through(delivery);
        state.backlog.pass(delivery);
    }

    /// Hands on the events whose interval is over; returns whether a consumer must be told, and
    /// when this is to be called again.
    pub fn open_due(&self) -> (bool, Option<Instant>) {
        let mut state = self.lock();
        state.backlog.open_due();
        let next = state.backlog.arm();
        (state.notify(self.concurrency), next)
    }

    /// Ends a claim; returns whether another consumer must be told.
    pub fn release(&self) -> bool {
        let mut state = self.lock();
        state.end_claim();
        state.notify(self.concurrency)
    }

    /// A delivery goes to wait for its retry, and holds back later events of its key.
    pub fn await_retry(&self, delivery: &Delivery) {
        let mut state = self.lock();
        state.running -= 1;
        state.retrying += 1;
        state.backlog.over(delivery);
        state.backlog.hold(delivery);
    }

    /// The wait is over; returns whether a consumer must be told, or the delivery, in flight
    /// until `settle_left`, when the mailbox has ended meanwhile.
    pub fn requeue(&self, delivery: Delivery) -> Result<bool, Delivery> {
        let mut state = self.lock();
        state.retrying -= 1;
        if state.ended.is_some() {
            state.leaving += 1;
            return Err(delivery);
        }
        state.backlog.requeue(delivery);
        Ok(state.notify(self.concurrency))
    }

    /// `breaker`, which is inside of the handler, refused the attempt, which was none: the delivery
    /// waits here until that is `due`. `calm` is called when nothing of the kind is left. Returns
    /// when to call `unpark`, if nobody does so yet; the delivery, in flight until `settle_left`,
    /// when the mailbox has ended meanwhile.
    pub fn park(
        &self,
        delivery: Delivery,
        breaker: &Arc<str>,
        due: Instant,
        calm: impl FnOnce() + Send + 'static,
    ) -> Result<Option<Due>, Delivery> {
        let mut state = self.lock();
        state.running -= 1;
        state.intake.give_back();
        if state.ended.is_some() {
            state.leaving += 1;
            state.backlog.pass(&delivery);
            return Err(delivery);
        }
        let due = state.backlog.park(delivery, breaker, due);
        state.calm.get_or_insert_with(|| Calm(Box::new(calm)));
        Ok(due)
    }

    /// It is time to try a breaker: one delivery comes before all that is new. Returns whether a
    /// consumer must be told.
    pub fn unpark(&self, due: Due) -> bool {
        let mut state = self.lock();
        state.backlog.unpark(due);
        state.notify(self.concurrency)
    }

    /// Whether something waits for a breaker, or has and is not settled yet.
    pub fn waits(&self) -> bool {
        self.lock().backlog.waits()
    }

    /// A delivery that failed for good is kept elsewhere.
    pub fn dead_lettered(&self, delivery: &Delivery) {
        let mut state = self.lock();
        state.running -= 1;
        state.tally.dead_lettered += 1;
        state.backlog.pass(delivery);
    }

    /// The deadline of a delivery passed while others of its batch were handled: as if it had not
    /// been handed out. Returns whether a consumer must be told.
    pub fn expired(&self, delivery: &Delivery) -> bool {
        delivery.event.settle();
        let mut state = self.lock();
        state.running -= 1;
        state.intake.give_back();
        state.waits.handed_back(&delivery.event);
        state.tally.expired += 1;
        state.backlog.expire(delivery);
        state.notify(self.concurrency)
    }

    /// Lets deliveries through, or not; returns whether a consumer must be told.
    pub fn set_intake(&self, intake: Intake) -> bool {
        let mut state = self.lock();
        state.intake = intake;
        state.notify(self.concurrency)
    }

    /// Allows another probe for one that told nothing.
    pub fn allow_one_more(&self) -> bool {
        let mut state = self.lock();
        state.intake.give_back();
        state.notify(self.concurrency)
    }

    /// Whether a consumer must be told, now that something was settled outside a claim.
    pub fn wake(&self) -> bool {
        let mut state = self.lock();
        state.notify(self.concurrency)
    }
}
