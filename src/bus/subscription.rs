//! A subscription: who wants which events, how they reach it, and how it ends.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::ack::Ack;
use super::backlog::{Backlog, key_of};
use super::durations::{Durations, Sampling, Spread};
use super::executor::Executor;
use super::group::Group;
use super::guard::Reader as _;
use super::intake::Intake;
use super::lanes::Delivery;
use super::mailbox::{Mailbox, Offer};
use super::options::{Options, Role};
use super::overflow::Overflow;
use super::owner::Owner;
use super::refusal::Refusals;
use super::slots::Slots;
use super::tally::{Ending, Tally};
use super::throttle::Throttle;
use super::ticket::Ticket;
use super::waits::Watcher;
use crate::clock::{Clock, Instant};
use crate::event::Event;
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::topic::{Pattern, Topic};

const ACTIVE: u8 = 0;
const CANCELLED: u8 = 1;
const ORPHANED: u8 = 2;
const SUSPENDED: u8 = 3;

/// What an event has to know of its way, at a glance.
#[derive(Clone, Copy, Debug)]
struct Traits {
    /// Whether the executor handles events inside `publish`.
    inline: bool,
    /// Whether only some events are taken: there is a filter, or one event is all it takes.
    choosy: bool,
    internal: bool,
    responds: bool,
    /// Whether an event is settled where it was read from before its handler begins.
    early: bool,
}

/// One handler's place on the bus.
///
/// What every event touches comes first, in one line of the processor's cache: where thousands of
/// subscriptions get their events in turn, waiting for such lines is most of what an event costs.
#[repr(C, align(64))]
pub struct Subscription {
    executor: Arc<dyn Executor>,
    traits: Traits,
    status: AtomicU8,
    /// Whether there was a failure since the last success.
    failing: AtomicBool,
    sampling: Sampling,
    /// Its own hot part comes first, too.
    mailbox: Mailbox,
    id: u64,
    pattern: Pattern,
    options: Options,
    filtered: AtomicU64,
    failures: AtomicU64,
    retries: AtomicU64,
    durations: Durations,
    /// Whether the router still knows it.
    routed: AtomicBool,
    /// Present where one event is all it takes: whether that has come.
    once: Option<AtomicBool>,
    clock: Clock,
    owner: Weak<dyn Owner>,
    group: Option<Arc<Group>>,
    failure_lines: Throttle,
    refusals: Refusals,
}

impl Subscription {
    pub(super) fn new(
        id: u64,
        pattern: Pattern,
        options: Options,
        executor: Arc<dyn Executor>,
        (owner, clock): (Weak<dyn Owner>, &Clock),
        group: Option<Arc<Group>>,
    ) -> Self {
        let slots = match options.sample_interval {
            Some(interval) => Some(Slots::sampling(interval, clock.clone())),
            None => options.overflow.conflates().then(Slots::default),
        };
        let backlog = Backlog::new(options.key.clone(), options.concurrency > 1, slots);
        let (capacity, overflow) = (options.capacity, options.overflow);
        let mailbox =
            Mailbox::new(capacity, overflow, options.concurrency, backlog).settling(options.ack);
        let traits = Traits {
            inline: executor.is_inline(),
            choosy: options.filter.is_some(),
            internal: options.internal,
            responds: options.role == Role::Responder,
            early: options.ack == Ack::First,
        };
        Subscription {
            executor,
            traits,
            status: AtomicU8::new(ACTIVE),
            failing: AtomicBool::new(false),
            sampling: Sampling::default(),
            mailbox,
            id,
            pattern,
            options,
            filtered: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            durations: Durations::default(),
            routed: AtomicBool::new(true),
            once: None,
            clock: clock.clone(),
            owner,
            group,
            failure_lines: Throttle::default(),
            refusals: Refusals::default(),
        }
    }

    /// The same subscription, which takes one event and no other.
    pub(super) fn only_once(self) -> Self {
        let traits = Traits { choosy: true, ..self.traits };
        Subscription { once: Some(AtomicBool::new(false)), traits, ..self }
    }

    /// Unique on its bus; rises with each subscription.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Name for people.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// The component it belongs to.
    pub fn component(&self) -> Option<&Arc<str>> {
        self.options.component.as_ref()
    }

    /// Which topics it wants.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// How it wants to be served.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether its handler answers requests.
    pub fn responds(&self) -> bool {
        self.traits.responds
    }

    /// Whether events count as handled as soon as their handler begins.
    pub(super) fn settles_early(&self) -> bool {
        self.traits.early
    }

    pub(super) fn failure_lines(&self) -> &Throttle {
        &self.failure_lines
    }

    pub(super) fn failing(&self) -> &AtomicBool {
        &self.failing
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// What runs its handler.
    pub fn executor(&self) -> &Arc<dyn Executor> {
        &self.executor
    }

    /// Whether it gets events of `topic`, its filter aside.
    pub fn wants(&self, topic: &Topic) -> bool {
        self.pattern.matches(topic) && !self.options.exclude.iter().any(|p| p.matches(topic))
    }

    /// How long events wait before a handler sees them: the longest of the last ten to twenty
    /// seconds, or of those that wait.
    pub fn delay(&self) -> Duration {
        self.mailbox.delay(self.unix_ms())
    }

    /// The same of what is new since `who` last asked, or waits; none where there was nothing to
    /// handle.
    pub fn delay_for(&self, who: Watcher) -> Option<Duration> {
        self.mailbox.delay_for(who, self.unix_ms())
    }

    /// How many events its handler has handled with success, and how many are under way; none where
    /// there is no handler, as with a stream. Called under locks, it wakes nobody.
    pub fn handled_well(&self) -> Option<(u64, u64)> {
        let has_handler = self.traits.inline || self.executor.can_wait();
        has_handler.then(|| self.mailbox.handled_well())
    }

    /// How many attempts of its handler failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How many of them another attempt followed, or is to follow.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// How long its handler took, by batches.
    pub fn durations(&self) -> Spread {
        self.durations.spread()
    }

    /// Whether it is to be measured how long its handler takes for the next batch.
    #[inline]
    pub fn is_to_be_measured(&self) -> bool {
        self.sampling.is_due()
    }

    /// The handler was not measured, and had not to wait.
    #[inline]
    pub fn note_unmeasured(&self) {
        self.sampling.pass_over();
    }

    /// The handler took so long, waits of its own included; `waited` says whether there were any.
    pub fn note_duration(&self, took: Duration, waited: bool) {
        let times = if waited { 1 } else { self.sampling.measured() };
        self.durations.add(took, times);
    }

    /// Runs its handler, and books how long that took, now and then.
    #[inline]
    pub fn timed<T>(&self, run: impl FnOnce() -> T) -> T {
        let began = self.is_to_be_measured().then(|| self.look_at_clock());
        let result = run();
        match began {
            None => self.note_unmeasured(),
            Some(began) => self.note_since(began),
        }
        result
    }

    #[cold]
    fn look_at_clock(&self) -> Instant {
        self.clock.now()
    }

    #[cold]
    fn note_since(&self, began: Instant) {
        self.note_duration(self.clock.now().saturating_since(began), false);
    }

    pub(super) fn note_failure(&self, again: bool) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if again {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether events still reach it.
    pub fn is_active(&self) -> bool {
        matches!(self.status.load(Ordering::Acquire), ACTIVE | SUSPENDED)
    }

    /// Whether events reach its handler: it is active, and its component has not failed.
    #[inline]
    pub(super) fn is_served(&self) -> bool {
        self.status.load(Ordering::Acquire) == ACTIVE
    }

    /// Whether its events wait because its component has failed.
    pub fn is_suspended(&self) -> bool {
        self.status.load(Ordering::Acquire) == SUSPENDED
    }

    /// `active`, `cancelled` or `orphaned`.
    pub fn status(&self) -> &'static str {
        match self.status.load(Ordering::Acquire) {
            ACTIVE | SUSPENDED if self.has_had_its_one() => "cancelled",
            ACTIVE | SUSPENDED => "active",
            CANCELLED => "cancelled",
            _ => "orphaned",
        }
    }

    /// What became of its events.
    pub fn tally(&self) -> Tally {
        let filtered = self.filtered.load(Ordering::Relaxed);
        let mut tally = self.mailbox.tally();
        tally.published += filtered;
        tally.filtered += filtered;
        tally
    }

    /// The group whose events it shares with others.
    pub(super) fn group(&self) -> Option<&Arc<Group>> {
        self.group.as_ref()
    }

    /// Whether its filter takes `event`.
    pub(super) fn accepts(&self, event: &Event) -> bool {
        self.options.filter.as_ref().is_none_or(|filter| filter.accepts(event))
    }

    /// The key of `event`, where this subscription finds it.
    pub(super) fn key_of<'a>(&self, event: &'a Event) -> Option<Cow<'a, str>> {
        key_of(self.options.key.as_ref(), event)
    }

    /// Whether nothing is queued, being handled or waiting for a retry.
    pub(super) fn is_idle(&self) -> bool {
        self.mailbox.is_idle()
    }

    /// Whether no event can reach it any more: its books are complete once nothing is in flight.
    pub(super) fn is_over(&self) -> bool {
        let taken = self.once.as_ref().is_some_and(|taken| taken.load(Ordering::Acquire));
        taken || self.mailbox.ending().is_some()
    }

    /// What its end means for what it leaves behind; asked once for each delivery, because it
    /// may end at any time.
    pub(super) fn ending(&self) -> Ending {
        self.mailbox.ending().unwrap_or(match self.status.load(Ordering::Acquire) {
            ORPHANED => Ending::DeadLettered,
            _ => Ending::Dropped,
        })
    }

    /// How many events wait.
    pub fn depth(&self) -> usize {
        self.mailbox.depth()
    }

    /// How many may wait, and what happens beyond.
    pub fn limits(&self) -> (usize, Overflow) {
        (self.mailbox.capacity(), self.mailbox.overflow())
    }

    /// The bus it is on, while that exists.
    pub(super) fn owner(&self) -> Option<Arc<dyn Owner>> {
        self.owner.upgrade()
    }

    /// Whether the one event that it takes has come, and has been settled.
    fn has_had_its_one(&self) -> bool {
        !self.routed.load(Ordering::Acquire)
            && self.once.as_ref().is_some_and(|taken| taken.load(Ordering::Acquire))
            && self.mailbox.tally().in_flight == 0
    }

    /// Offers an event; `Full` leaves it to the caller.
    #[inline]
    pub(super) fn offer(self: &Arc<Self>, event: &Arc<Event>) -> Offer {
        if self.traits.choosy { self.choose(event) } else { self.offer_accepted(event) }
    }

    fn choose(self: &Arc<Self>, event: &Arc<Event>) -> Offer {
        if !self.accepts(event) {
            self.filtered.fetch_add(1, Ordering::Relaxed);
            event.settle();
            return Offer::Dropped { notify: false };
        }
        if let Some(taken) = &self.once {
            if taken.swap(true, Ordering::AcqRel) {
                return Offer::Closed;
            }
            let offer = self.offer_accepted(event);
            // Booked first: whoever sums up finds the event here or among those that ended.
            self.retire();
            if let Some(owner) = self.owner() {
                owner.release_ended();
            }
            return offer;
        }
        self.offer_accepted(event)
    }

    fn offer_accepted(self: &Arc<Self>, event: &Arc<Event>) -> Offer {
        if self.traits.inline {
            if !self.mailbox.begin_inline() {
                return self.pass_on(event);
            }
            // What the machinery itself listens to, as a test's recorder, hears all.
            if event.deadline().is_some() && !self.traits.internal && self.is_past(event) {
                self.mailbox.expire_inline();
                event.settle();
                return Offer::Queued { notify: false };
            }
            if self.traits.early {
                event.settle();
            }
            self.executor.run_inline(self, event);
            return Offer::Queued { notify: false };
        }
        let offer = self.mailbox.offer(event);
        if let Offer::Queued { notify: true } | Offer::Dropped { notify: true } = offer {
            self.executor.schedule(self);
        }
        if matches!(offer, Offer::Closed) {
            return self.pass_on(event);
        }
        offer
    }

    pub(super) fn line_up(self: &Arc<Self>, ticket: Arc<Ticket>) {
        let own = self.component().is_some_and(|name| *name == ticket.event().producer);
        if own && self.is_suspended() {
            // It waits for its component to start, which would wait here: that has no end.
            if !self.mailbox.squeeze_in(&ticket) {
                self.mailbox.book_dropped();
                ticket.refuse();
            }
            return ticket.tell();
        }
        match self.mailbox.line_up(ticket) {
            Ok(true) => self.executor.schedule(self),
            Ok(false) => {}
            Err(ticket) => {
                if self.bequeath(vec![Delivery::first(ticket.event().clone())]).is_empty() {
                    self.mailbox.offered_elsewhere();
                    ticket.admit();
                } else {
                    self.mailbox.book_dropped();
                    ticket.refuse();
                }
                ticket.tell();
            }
        }
    }

    pub(super) fn leave_line(&self, ticket: &Arc<Ticket>) -> bool {
        self.mailbox.leave_line(ticket)
    }

    pub(super) fn book_dropped(&self) {
        self.mailbox.book_dropped();
    }

    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Takes no new events; those that wait are still handled. `cancel` ends it.
    pub fn retire(self: &Arc<Self>) {
        if self.routed.swap(false, Ordering::AcqRel)
            && let Some(owner) = self.owner()
        {
            owner.forget(self.id);
        }
    }

    /// Resolves when nothing is queued, being handled or waiting for a retry.
    pub async fn drained(&self) {
        std::future::poll_fn(|cx| {
            if self.mailbox.poll_idle(cx.waker()) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }

    /// Holds its events back, or lets them through: until its component has started.
    pub fn hold(self: &Arc<Self>, held: bool) {
        self.set_intake(if held { Intake::Stopped } else { Intake::Free });
    }

    /// Has its events wait until [`Subscription::resume`]: its component has failed. What is under
    /// way comes to its end. Whether [`Subscription::go_on`] is to be called.
    pub fn suspend(&self) -> bool {
        // First what is handed out, then what was: in between, what is begun is as under way.
        self.mailbox.suspend(true);
        let suspended =
            self.status.compare_exchange(ACTIVE, SUSPENDED, Ordering::AcqRel, Ordering::Acquire);
        // It has ended: whoever works it off goes on. Or it waits already, as is meant.
        suspended.is_err_and(|status| status != SUSPENDED) && self.mailbox.suspend(false)
    }

    /// Its component is at work again. Whether [`Subscription::go_on`] is to be called.
    pub fn resume(&self) -> bool {
        let resumed =
            self.status.compare_exchange(SUSPENDED, ACTIVE, Ordering::AcqRel, Ordering::Acquire);
        resumed.is_ok() && self.mailbox.suspend(false)
    }

    /// Ends the subscription; nothing starts after this returns. Idempotent.
    ///
    /// Events that still waited go to the other members of its group; where there are none, they
    /// are booked as dropped, and counted in the return value.
    pub fn cancel(self: &Arc<Self>) -> usize {
        if self.status.swap(CANCELLED, Ordering::AcqRel) == CANCELLED {
            return 0;
        }
        self.retire();
        let left = self.mailbox.close(Ending::Dropped, self.has_heirs());
        let count = self.give_up(left);
        if let Some(owner) = self.owner() {
            owner.release_ended();
        }
        self.executor.ended();
        count
    }

    fn has_heirs(&self) -> bool {
        self.group.as_ref().is_some_and(|group| {
            let mut members = self.owner().map(|owner| owner.members(group)).unwrap_or_default();
            members.retain(|member| member.id() != self.id && member.is_active());
            !members.is_empty()
        })
    }

    /// The loop that ran its handler is gone: what waited goes to the other members of its group;
    /// where there are none, it becomes dead letters.
    pub fn orphan(self: &Arc<Self>) {
        let becomes = |status| {
            self.status.compare_exchange(status, ORPHANED, Ordering::AcqRel, Ordering::Acquire)
        };
        if becomes(ACTIVE).or_else(|_| becomes(SUSPENDED)).is_err() {
            return;
        }
        let Some(owner) = self.owner() else { return };
        self.retire();
        let left = self.mailbox.close(Ending::DeadLettered, self.has_heirs());
        let told = serde_json::json!({
            "subscription": self.name(),
            "component": self.component(),
            "waiting": left.len(),
        });
        owner.tell("system.subscription_orphaned", told, None);
        self.give_up(left);
    }

    pub(super) fn unix_ms(&self) -> i64 {
        self.clock.unix_ms()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Subscription({} <- {}, {}, {})",
            self.name(),
            self.pattern,
            self.executor.describe(),
            self.status()
        )
    }
}
