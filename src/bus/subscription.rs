//! A subscription: who wants which events, how they are handled, and what became of them.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::ack::Ack;
use super::backlog::{Backlog, key_of};
use super::group::Group;
use super::guard::Reader as _;
use super::intake::Intake;
use super::key::KeyPath;
use super::lanes::Delivery;
use super::mailbox::{Mailbox, Offer, Pulled};
use super::manual::Manual;
use super::overflow::Overflow;
use super::owner::Owner;
use super::policy::Policy;
use super::slots::Slots;
use super::tally::{Ending, Tally};
use super::ticket::Ticket;
use crate::clock::Instant;
use crate::event::Event;
use crate::filter::Filter;
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::topic::{Pattern, Topic};

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

/// What the handler is for, which decides how events reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Gets every matching event.
    Subscriber,
    /// Answers requests of one type; one of several responders gets each request.
    Responder,
    /// The one handler of a command.
    CommandHandler,
}

/// How a subscription wants to be served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name for people: `component.handler`.
    pub name: String,
    /// The component it belongs to.
    pub component: Option<Arc<str>>,
    /// Topics it does not want although they match its pattern.
    pub exclude: Vec<Pattern>,
    /// Which of the matching events it takes.
    pub filter: Option<Filter>,
    /// Where an event's key is found; absent, it is the one that the event was published with.
    pub key: Option<KeyPath>,
    /// How many events may wait.
    pub capacity: usize,
    /// What happens when more come.
    pub overflow: Overflow,
    /// How often an event of one topic and key is handled at most; for `Overflow::Sample`.
    pub sample_interval: Option<Duration>,
    /// How many handlers may run at once; 1 keeps the order, more keep it by key.
    pub concurrency: usize,
    /// How long a handler may take.
    pub timeout: Option<Duration>,
    /// What happens after failures.
    pub policy: Policy,
    /// When a delivery counts as done, and what its failure means.
    pub ack: Ack,
    /// Where decisions are made; for `Ack::Manual`, and for this subscription alone.
    pub manual: Option<Arc<Manual>>,
    /// The group it belongs to; none means that it gets every event itself.
    pub group: Option<Arc<str>>,
    /// Whether the group's events are shared between its members on this bus.
    pub competing: bool,
    /// What the handler is for.
    pub role: Role,
    /// A subscription of the core's own machinery: its failures are logged, and publish no
    /// error events, which would come back to it.
    pub internal: bool,
}

impl Options {
    /// A subscriber that takes every event of its topics, one after the other, and tries each
    /// once.
    pub fn named(name: impl Into<String>) -> Options {
        Options {
            name: name.into(),
            component: None,
            exclude: Vec::new(),
            filter: None,
            key: None,
            capacity: 10_000,
            overflow: Overflow::Block,
            sample_interval: None,
            concurrency: 1,
            timeout: None,
            policy: Policy::default(),
            ack: Ack::default(),
            manual: None,
            group: None,
            competing: false,
            role: Role::Subscriber,
            internal: false,
        }
    }
}

const ACTIVE: u8 = 0;
const CANCELLED: u8 = 1;
const ORPHANED: u8 = 2;

/// One handler's place on the bus.
pub struct Subscription {
    id: u64,
    pattern: Pattern,
    options: Options,
    mailbox: Mailbox,
    executor: Arc<dyn Executor>,
    /// Whether the executor handles events inside `publish`.
    inline: bool,
    filtered: AtomicU64,
    status: AtomicU8,
    /// Whether the router still knows it.
    routed: AtomicBool,
    /// How long the last event that was pulled had waited, in milliseconds.
    delay_ms: AtomicU64,
    /// Present where one event is all it takes: whether that has come.
    once: Option<AtomicBool>,
    owner: Weak<dyn Owner>,
    group: Option<Arc<Group>>,
}

impl Subscription {
    pub(super) fn new(
        id: u64,
        pattern: Pattern,
        options: Options,
        executor: Arc<dyn Executor>,
        owner: Weak<dyn Owner>,
        group: Option<Arc<Group>>,
    ) -> Self {
        let slots = match (options.sample_interval, owner.upgrade()) {
            (Some(interval), Some(owner)) => Some(Slots::sampling(interval, owner.clock().clone())),
            _ => options.overflow.conflates().then(Slots::default),
        };
        let backlog = Backlog::new(options.key.clone(), options.concurrency > 1, slots);
        let (capacity, overflow) = (options.capacity, options.overflow);
        let mailbox =
            Mailbox::new(capacity, overflow, options.concurrency, backlog).settling(options.ack);
        Subscription {
            id,
            pattern,
            options,
            mailbox,
            inline: executor.is_inline(),
            executor,
            filtered: AtomicU64::new(0),
            status: AtomicU8::new(ACTIVE),
            routed: AtomicBool::new(true),
            delay_ms: AtomicU64::new(0),
            once: None,
            owner,
            group,
        }
    }

    /// The same subscription, which takes one event and no other.
    pub(super) fn only_once(self) -> Self {
        Subscription { once: Some(AtomicBool::new(false)), ..self }
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

    /// What runs its handler.
    pub fn executor(&self) -> &Arc<dyn Executor> {
        &self.executor
    }

    /// Whether it gets events of `topic`, its filter aside.
    pub fn wants(&self, topic: &Topic) -> bool {
        self.pattern.matches(topic) && !self.options.exclude.iter().any(|p| p.matches(topic))
    }

    /// How long events wait before a handler sees them: as of the last batch.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.load(Ordering::Relaxed))
    }

    /// Whether events still reach it.
    pub fn is_active(&self) -> bool {
        self.status.load(Ordering::Acquire) == ACTIVE
    }

    /// `active`, `cancelled` or `orphaned`.
    pub fn status(&self) -> &'static str {
        match self.status.load(Ordering::Acquire) {
            ACTIVE if self.has_had_its_one() => "cancelled",
            ACTIVE => "active",
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
    pub(super) fn offer(self: &Arc<Self>, event: &Arc<Event>) -> Offer {
        if !self.accepts(event) {
            self.filtered.fetch_add(1, Ordering::Relaxed);
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
        if self.inline {
            if !self.mailbox.begin_inline() {
                return self.pass_on(event);
            }
            // What the machinery itself listens to, as a test's recorder, hears all.
            if event.deadline().is_some() && !self.options.internal && self.is_past(event) {
                self.mailbox.expire_inline();
                return Offer::Queued { notify: false };
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

    /// Claims the right to handle events, and pulls the first batch into `out` (which must be
    /// empty). False means that there is nothing to do, and nothing to release.
    pub fn claim(self: &Arc<Self>, max: usize, out: &mut VecDeque<Delivery>) -> bool {
        let pulled = self.mailbox.claim(max, || self.unix_ms(), out);
        self.after_pull(pulled, out)
    }

    /// Reports `delivered` successes and pulls the next batch. False ends the claim.
    pub fn next(
        self: &Arc<Self>,
        delivered: usize,
        max: usize,
        out: &mut VecDeque<Delivery>,
    ) -> bool {
        if delivered > 0
            && let Some(guard) = &self.options.policy.guard
        {
            guard.succeeded(self);
        }
        let pulled = self.mailbox.next(delivered, max, || self.unix_ms(), out);
        self.after_pull(pulled, out)
    }

    fn after_pull(self: &Arc<Self>, pulled: Pulled, batch: &VecDeque<Delivery>) -> bool {
        // Once per batch: its first event waited longest.
        if let Some(first) = batch.front() {
            let waited = self.unix_ms().saturating_sub(first.event.timestamp);
            self.delay_ms.store(u64::try_from(waited).unwrap_or(0), Ordering::Relaxed);
        }
        pulled.admitted.iter().for_each(|ticket| ticket.tell());
        if pulled.notify {
            self.executor.schedule(self);
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
            let (notify, next) = subscription.mailbox.open_due();
            if notify {
                subscription.executor.schedule(&subscription);
            }
            if let Some(next) = next {
                subscription.open_later(next);
            }
        };
        owner.clock().schedule_at(at, open).detach();
    }

    /// A handler is about to begin with `delivery`, which may have stood in its batch for long.
    /// Nothing comes back where it must not, which is settled by that: the subscription has
    /// ended, or the event is past its deadline.
    #[inline]
    pub fn begin(self: &Arc<Self>, delivery: Delivery) -> Option<Delivery> {
        if !self.is_active() {
            self.abandoned(delivery);
            return None;
        }
        if delivery.event.deadline().is_some() && self.is_past(&delivery.event) {
            self.expired(&delivery);
            return None;
        }
        Some(delivery)
    }

    fn is_past(&self, event: &Event) -> bool {
        event.is_expired(self.unix_ms())
    }

    fn expired(self: &Arc<Self>, delivery: &Delivery) {
        if self.mailbox.expired(delivery) {
            self.executor.schedule(self);
        }
    }

    /// The handler succeeded, which the caller reports by `next` or `put_back`: from here on the
    /// next event of the same key may be handled.
    pub fn pass(&self, delivery: &Delivery) {
        if delivery.keyed {
            self.mailbox.pass(delivery);
        }
    }

    /// Hands back what was pulled and not begun, in order, and reports `delivered` successes.
    /// The claim goes on.
    pub fn put_back(
        self: &Arc<Self>,
        delivered: usize,
        rest: impl DoubleEndedIterator<Item = Delivery>,
    ) {
        if delivered > 0
            && let Some(guard) = &self.options.policy.guard
        {
            guard.succeeded(self);
        }
        let (notify, left) = self.mailbox.put_back(delivered, rest.rev());
        if notify {
            self.executor.schedule(self);
        }
        self.give_up(left);
    }

    /// Reports the success of a handler that ran inside `publish`.
    pub fn handled_inline(self: &Arc<Self>) {
        if let Some(guard) = &self.options.policy.guard {
            guard.succeeded(self);
        }
        self.mailbox.end_inline();
    }

    /// A delivery that began inside `publish` goes on like one that was pulled, because its
    /// handler failed.
    pub fn adopt_inline(&self, event: &Arc<Event>) -> Delivery {
        self.mailbox.adopt_inline();
        Delivery::first(event.clone())
    }

    /// Ends a claim.
    pub fn release(self: &Arc<Self>) {
        if self.mailbox.release() {
            self.executor.schedule(self);
        }
    }

    /// The delivery ended without success or failure, because its consumer goes away.
    pub fn abandoned(self: &Arc<Self>, delivery: Delivery) {
        self.mailbox.abandoned(&delivery);
        self.give_up(vec![delivery]);
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
        let Ok(_) =
            self.status.compare_exchange(ACTIVE, ORPHANED, Ordering::AcqRel, Ordering::Acquire)
        else {
            return;
        };
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

    fn unix_ms(&self) -> i64 {
        self.owner().map_or(i64::MIN, |owner| owner.clock().unix_ms())
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
