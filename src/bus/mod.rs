//! The event bus: publish, route, mailbox, delivery, requests, dead letters, accounting.
//!
//! The way of one event: [`Bus::publish`] stamps it and looks up its [`router`] entry; every
//! matching subscription's mailbox takes an `Arc` of it; the subscription's executor is told
//! once, pulls batches, runs the handler and settles. Nothing on this way allocates per
//! subscription, and nothing takes a lock that is shared by two subscriptions.

mod admission;
mod dead_letters;
mod delivery;
mod draft;
mod guard;
mod key;
mod mailbox;
mod requests;
mod router;
mod schedule;
mod settings;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;

pub use admission::{Admission, Ticket};
pub use dead_letters::{DeadLetter, DeadLetters};
pub use delivery::{Failure, Policy};
pub use draft::Draft;
pub use guard::Guard;
pub use key::KeyPath;
pub use mailbox::{Delivery, Overflow, Tally};
pub use requests::{Answer, PendingReply};
pub use schedule::Periodic;
pub use settings::BusSettings;
pub use subscription::{Executor, Options, Role, Subscription};

use crate::clock::Clock;
use crate::error::{Error, Kind, Result, did_you_mean};
use crate::event::{Event, IdSource, Payload};
use crate::topic::{Pattern, Topic};
use mailbox::Offer;
use requests::Requests;
use router::Router;

/// The producer of the core's own events.
pub const CORE_PRODUCER: &str = "tiebeam";

/// An event bus; clones are handles to the same one.
#[derive(Clone)]
pub struct Bus(Arc<Core>);

/// The way back to a bus for those that it owns.
#[derive(Clone, Debug)]
pub struct WeakBus(Weak<Core>);

impl WeakBus {
    /// The bus, while somebody holds it.
    pub fn upgrade(&self) -> Option<Bus> {
        self.0.upgrade().map(Bus)
    }
}

pub(crate) struct Core {
    settings: BusSettings,
    clock: Clock,
    ids: IdSource,
    router: Router,
    subscriptions: RwLock<BTreeMap<u64, Arc<Subscription>>>,
    /// Responders and command handlers, by the one type they serve.
    servers: Mutex<HashMap<Topic, Vec<Arc<Subscription>>>>,
    requests: Arc<Requests>,
    dead_letters: DeadLetters,
    core_producer: Arc<str>,
    last_subscription: AtomicU64,
    published: AtomicU64,
    ended: Mutex<Ended>,
    closed: AtomicBool,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("name", &self.settings.name)
            .field("subscriptions", &self.subscriptions.read().len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Subscriptions that have ended: their books are never thrown away.
#[derive(Default)]
struct Ended {
    tally: Tally,
    /// The part of it that belongs to components: a restart must not set their figures back.
    by_component: HashMap<Arc<str>, Tally>,
    /// Those whose last handlers are still at work.
    retiring: Vec<Arc<Subscription>>,
}

impl Ended {
    fn settle(&mut self) {
        let (tally, by_component) = (&mut self.tally, &mut self.by_component);
        self.retiring.retain(|subscription| {
            let last = subscription.tally();
            if last.in_flight == 0 {
                tally.add(&last);
                if let Some(component) = subscription.component() {
                    by_component.entry(component.clone()).or_default().add(&last);
                }
            }
            last.in_flight > 0
        });
    }
}

/// An event on its way, and what its publisher may have to wait for.
#[derive(Debug)]
#[must_use = "the admission inside is the publisher's place in line"]
pub struct Published {
    /// The event as it was stamped.
    pub event: Arc<Event>,
    /// Present when a mailbox was full and its policy is to wait.
    pub admission: Option<Admission>,
}

/// A request on its way.
#[derive(Debug)]
pub struct Requested {
    /// The request as an event.
    pub published: Published,
    /// Its reply.
    pub reply: PendingReply,
    /// Who was asked.
    pub responder: Arc<Subscription>,
}

/// The books of a whole bus.
#[derive(Clone, Debug, Serialize)]
pub struct Books {
    /// Events accepted by `publish`.
    pub events: u64,
    /// The sum over all subscriptions there were and are.
    pub total: Tally,
    /// By subscription, in the order in which they subscribed.
    pub subscriptions: Vec<(String, Tally)>,
    /// Replies that came after their request had ended.
    pub late_replies: u64,
    /// Requests that wait for a reply.
    pub pending_requests: usize,
}

/// Who gets the events of one type, and why others do not.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The type asked about.
    pub event_type: String,
    /// Subscriptions, responders and command handlers that match.
    pub receivers: Vec<Receiver>,
    /// Subscriptions that do not match, with the reason.
    pub others: Vec<(String, String)>,
    /// A near type that somebody listens to, when nobody listens to this one.
    pub suggestion: Option<String>,
}

/// One receiver in an [`Explanation`].
#[derive(Clone, Debug, Serialize)]
pub struct Receiver {
    /// The subscription's name.
    pub name: String,
    /// Its pattern.
    pub pattern: String,
    /// `subscriber`, `responder` or `command_handler`.
    pub role: &'static str,
    /// What runs its handler.
    pub runs: &'static str,
    /// Whether a filter decides event by event.
    pub filtered: bool,
    /// How many events wait for it.
    pub queued: usize,
    /// The most attempts an event gets.
    pub max_attempts: u32,
}

impl Bus {
    /// A bus on `clock`.
    pub fn new(settings: BusSettings, clock: Clock) -> Bus {
        let ids = settings.seed.map_or_else(IdSource::random, IdSource::seeded);
        Bus(Arc::new(Core {
            settings,
            clock,
            ids,
            router: Router::default(),
            subscriptions: RwLock::default(),
            servers: Mutex::default(),
            requests: Arc::default(),
            dead_letters: DeadLetters::default(),
            core_producer: Arc::from(CORE_PRODUCER),
            last_subscription: AtomicU64::new(0),
            published: AtomicU64::new(0),
            ended: Mutex::default(),
            closed: AtomicBool::new(false),
        }))
    }

    /// A handle that does not keep the bus alive.
    pub fn downgrade(&self) -> WeakBus {
        WeakBus(Arc::downgrade(&self.0))
    }

    /// The clock it lives by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// What it was made with.
    pub fn settings(&self) -> &BusSettings {
        &self.0.settings
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.0.dead_letters
    }

    /// Publishes an event to everybody who subscribed to its type.
    ///
    /// # Errors
    /// `Kind::Topic` for a malformed type, `Kind::MailboxFull` where a full mailbox's policy is
    /// to fail (all others have taken the event), `Kind::Closed` after [`Bus::close`].
    pub fn publish(&self, draft: Draft<'_>) -> Result<Published> {
        self.0.check_open("publish")?;
        let route = self.0.router.route(draft.event_type)?;
        let event = Arc::new(self.0.stamp(draft, route.topic.clone())?);
        self.0.published.fetch_add(1, Ordering::Relaxed);
        self.0.deliver(event, &route.targets)
    }

    /// Sends a request to one of its responders.
    ///
    /// # Errors
    /// `Kind::NoResponder` at once when there is none; else as `publish`.
    pub fn request(&self, draft: Draft<'_>, timeout: Duration) -> Result<Requested> {
        self.0.check_open("request")?;
        let topic = Topic::parse(draft.event_type)?;
        let server = self.0.server(&topic, Role::Responder)?;
        let (id, reply) = self.0.requests.open(&self.0.clock, timeout, topic.as_str());
        let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let expires = self.0.clock.unix_ms().saturating_add(millis);
        let mut event = self.0.stamp(draft, topic)?;
        let extra = event.metadata.extra.get_or_insert_default();
        extra.reply_to = Some(Arc::from(id.to_string()));
        extra.deadline = Some(extra.deadline.map_or(expires, |inherited| inherited.min(expires)));
        self.0.published.fetch_add(1, Ordering::Relaxed);
        let published = self.0.deliver(Arc::new(event), std::slice::from_ref(&server))?;
        Ok(Requested { published, reply, responder: server })
    }

    /// Sends a command to its one handler.
    ///
    /// # Errors
    /// `Kind::NoHandler` when it has none; else as `publish`.
    pub fn send(&self, draft: Draft<'_>) -> Result<Published> {
        self.0.check_open("send")?;
        let topic = Topic::parse(draft.event_type)?;
        let server = self.0.server(&topic, Role::CommandHandler)?;
        let event = Arc::new(self.0.stamp(draft, topic)?);
        self.0.published.fetch_add(1, Ordering::Relaxed);
        self.0.deliver(event, std::slice::from_ref(&server))
    }

    /// Answers the request that `event` is.
    pub fn answer(&self, event: &Event, answer: Answer) {
        self.0.requests.answer(event, answer);
    }

    /// Adds a subscription, a responder or a command handler.
    ///
    /// # Errors
    /// `Kind::Topic` for a malformed pattern, `Kind::DuplicateHandler` for a command that has
    /// its handler, `Kind::Configuration` for a capacity or concurrency of zero.
    pub fn subscribe(
        &self,
        pattern: &str,
        options: Options,
        executor: Arc<dyn Executor>,
    ) -> Result<Arc<Subscription>> {
        let core = &self.0;
        core.check_open("subscribe")?;
        for (name, value) in [("capacity", options.capacity), ("concurrency", options.concurrency)]
        {
            if value == 0 {
                return Err(Error::new(
                    Kind::Configuration,
                    "subscribe",
                    format!("{name} must be at least 1, got 0"),
                ));
            }
        }
        let role = options.role;
        let pattern = Pattern::parse(pattern)?;
        let id = core.last_subscription.fetch_add(1, Ordering::Relaxed) + 1;
        let weak = Arc::downgrade(core);
        let make = |pattern| Arc::new(Subscription::new(id, pattern, options, executor, weak));
        let subscription = if role == Role::Subscriber {
            let subscription = make(pattern);
            core.subscriptions.write().insert(id, subscription.clone());
            core.router.insert(&subscription);
            subscription
        } else {
            let topic = Topic::parse(pattern.as_str())?;
            let mut servers = core.servers.lock();
            let serving = servers.entry(topic.clone()).or_default();
            if let Some(other) =
                serving.iter().find(|o| role == Role::CommandHandler || o.options().role != role)
            {
                return Err(Error::new(
                    Kind::DuplicateHandler,
                    "subscribe",
                    format!("`{topic}` is already served by {}", other.name()),
                )
                .with("event_type", topic.as_str())
                .with("handler", other.name()));
            }
            let subscription = make(pattern);
            serving.push(subscription.clone());
            drop(servers);
            core.subscriptions.write().insert(id, subscription.clone());
            subscription
        };
        Ok(subscription)
    }

    /// Publishes one of the core's own events; nobody waits for it.
    ///
    /// What finds no room is booked as dropped and logged: the core never waits for a handler.
    pub fn emit(&self, topic: &str, payload: &impl Serialize) {
        self.0.emit(topic, payload);
    }

    /// Publishes `draft` after `delay`.
    ///
    /// # Errors
    /// As `publish`, as far as can be known now.
    pub fn publish_later(&self, draft: Draft<'_>, delay: Duration) -> Result<Arc<Event>> {
        schedule::publish_later(self, draft, delay)
    }

    /// Publishes the same payload every `period`, first after one period.
    ///
    /// # Errors
    /// As `publish`, and `Kind::Configuration` for a period of zero.
    pub fn every(&self, period: Duration, draft: Draft<'_>) -> Result<Periodic> {
        schedule::every(self, period, draft)
    }

    /// Delivers dead letters again, each to the subscription that gave it up, and takes them
    /// off the shelf. Returns how many; those whose subscription has ended stay.
    pub fn replay_dead_letters(&self, wanted: impl Fn(&DeadLetter) -> bool) -> usize {
        let find = |letter: &DeadLetter| {
            let subscriptions = self.0.subscriptions.read();
            subscriptions.get(&letter.subscription_id).cloned().or_else(|| {
                // A component that was restarted subscribed anew, under the same name.
                subscriptions.values().find(|s| s.name() == &*letter.subscription).cloned()
            })
        };
        let letters = self.0.dead_letters.take(|letter| wanted(letter) && find(letter).is_some());
        let count = letters.len();
        for letter in letters {
            let Some(subscription) = find(&letter) else {
                self.0.dead_letters.keep(letter);
                continue;
            };
            match self.0.deliver(letter.event.clone(), &[subscription]) {
                Ok(Published { admission: None, .. }) => {}
                Ok(Published { admission: Some(_), .. }) | Err(_) => {
                    self.0.dead_letters.keep(letter);
                }
            }
        }
        count
    }

    /// Whether an event of this type would reach anybody.
    pub fn has_subscribers(&self, event_type: &str) -> bool {
        self.0.router.route(event_type).is_ok_and(|route| !route.targets.is_empty())
    }

    /// Every subscription, in the order in which they subscribed.
    pub fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        self.0.subscriptions.read().values().cloned().collect()
    }

    /// What became of every event.
    pub fn books(&self) -> Books {
        let core = &self.0;
        let mut total = {
            let mut ended = core.ended.lock();
            ended.settle();
            let mut total = ended.tally;
            ended.retiring.iter().for_each(|subscription| total.add(&subscription.tally()));
            total
        };
        let subscriptions: Vec<(String, Tally)> = self
            .subscriptions()
            .iter()
            .map(|subscription| {
                let tally = subscription.tally();
                total.add(&tally);
                (subscription.name().to_owned(), tally)
            })
            .collect();
        Books {
            events: core.published.load(Ordering::Relaxed),
            total,
            subscriptions,
            late_replies: core.requests.late(),
            pending_requests: core.requests.waiting(),
        }
    }

    /// What became of the events for one component, over all subscriptions that it has and had.
    pub fn tally_of(&self, component: &str) -> Tally {
        let own = |subscription: &&Arc<Subscription>| {
            subscription.component().is_some_and(|name| **name == *component)
        };
        let mut total = {
            let mut ended = self.0.ended.lock();
            ended.settle();
            let mut total = ended.by_component.get(component).copied().unwrap_or_default();
            ended.retiring.iter().filter(own).for_each(|s| total.add(&s.tally()));
            total
        };
        self.subscriptions().iter().filter(own).for_each(|s| total.add(&s.tally()));
        total
    }

    /// Says who gets an event of this type, and why others do not.
    ///
    /// # Errors
    /// `Kind::Topic` for a malformed type.
    pub fn explain(&self, event_type: &str) -> Result<Explanation> {
        let topic = Topic::parse(event_type)?;
        let subscriptions = self.subscriptions();
        let (matching, others): (Vec<_>, Vec<_>) =
            subscriptions.iter().partition(|s| s.wants(&topic));
        let suggestion = if matching.is_empty() {
            did_you_mean(event_type, others.iter().map(|s| s.pattern().as_str())).map(str::to_owned)
        } else {
            None
        };
        Ok(Explanation {
            event_type: event_type.to_owned(),
            receivers: matching
                .into_iter()
                .map(|s| Receiver {
                    name: s.name().to_owned(),
                    pattern: s.pattern().to_string(),
                    role: match s.options().role {
                        Role::Subscriber => "subscriber",
                        Role::Responder => "responder",
                        Role::CommandHandler => "command_handler",
                    },
                    runs: s.executor().describe(),
                    filtered: s.options().filter.is_some(),
                    queued: s.depth(),
                    max_attempts: match (s.options().role, &s.options().policy.retry) {
                        (Role::Responder, _) | (_, None) => 1,
                        (_, Some(retry)) => retry.max_attempts().unwrap_or(u32::MAX),
                    },
                })
                .collect(),
            others: others
                .into_iter()
                .map(|s| {
                    let reason = if s.pattern().matches(&topic) {
                        "excludes this type: another handler of its component takes it".into()
                    } else {
                        format!("pattern `{}` does not match", s.pattern())
                    };
                    (s.name().to_owned(), reason)
                })
                .collect(),
            suggestion,
        })
    }

    /// Waits until nothing is queued, handled or waiting for a retry.
    pub async fn drained(&self) {
        // A handler may publish to a subscription that was idle a moment ago. Nothing is left
        // when two rounds in a row find nothing, and nothing was published in between.
        let (mut clean, mut published) = (0, self.0.published.load(Ordering::Acquire));
        while clean < 2 {
            clean += 1;
            let mut subscriptions = self.subscriptions();
            subscriptions.extend(self.0.ended.lock().retiring.iter().cloned());
            for subscription in subscriptions {
                if subscription.tally().in_flight > 0 {
                    subscription.drained().await;
                    clean = 0;
                }
            }
            let now = self.0.published.load(Ordering::Acquire);
            if std::mem::replace(&mut published, now) != now {
                clean = 0;
            }
        }
    }

    /// Refuses new events, waits at most `grace` for what is in flight, and ends every
    /// subscription. Returns what was left, by subscription.
    pub fn close(
        &self,
        grace: Duration,
    ) -> impl Future<Output = Vec<(String, u64)>> + Send + use<> {
        let bus = self.clone();
        async move {
            bus.0.closed.store(true, Ordering::Release);
            // What is left shows in the figures below; there is nothing else to do about it.
            let _ = bus.0.clock.timeout(grace, bus.drained()).await;
            bus.end_subscriptions()
        }
    }

    /// Refuses new events and ends every subscription at once.
    pub fn close_now(&self) -> Vec<(String, u64)> {
        self.0.closed.store(true, Ordering::Release);
        self.end_subscriptions()
    }

    fn end_subscriptions(&self) -> Vec<(String, u64)> {
        let mut left = Vec::new();
        for subscription in self.subscriptions() {
            let in_flight = subscription.tally().in_flight;
            if in_flight > 0 {
                left.push((subscription.name().to_owned(), in_flight));
            }
            subscription.cancel();
        }
        self.0.requests.close();
        left
    }

    /// Whether it has been closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }
}

impl Core {
    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(
                Kind::Closed,
                operation,
                format!("cannot {operation}: the bus `{}` is closed", self.settings.name),
            ));
        }
        Ok(())
    }

    fn stamp(&self, draft: Draft<'_>, topic: Topic) -> Result<Event> {
        draft.stamp(topic, &self.ids, self.clock.unix_ms(), &self.core_producer)
    }

    /// Mailboxes with room are filled first; only then does the publisher get in line.
    fn deliver(&self, event: Arc<Event>, targets: &[Arc<Subscription>]) -> Result<Published> {
        let mut full = Vec::new();
        for target in targets {
            match target.offer(&event) {
                Offer::Full => full.push(target.clone()),
                // It ended after it was chosen. A subscriber that is gone is no concern of the
                // publisher's; the only one that could answer or obey is.
                Offer::Closed if target.options().role != Role::Subscriber => {
                    return Err(self.nobody(&event.topic, target.options().role));
                }
                _ => {}
            }
        }
        if full.is_empty() {
            return Ok(Published { event, admission: None });
        }
        let (failing, waiting): (Vec<_>, Vec<_>) =
            full.into_iter().partition(|s| s.mailbox().overflow() == Overflow::Fail);
        if failing.is_empty() {
            let admission = Admission::line_up(&event, waiting);
            return Ok(Published { event, admission: Some(admission) });
        }
        let error = admission::mailbox_full(failing.iter().chain(&waiting).map(|s| &**s));
        failing.iter().chain(&waiting).for_each(|s| s.book_dropped());
        Err(error)
    }

    fn server(&self, topic: &Topic, role: Role) -> Result<Arc<Subscription>> {
        let mut servers = self.servers.lock();
        if let Some(serving) = servers.get_mut(topic)
            && serving.first().is_some_and(|first| first.options().role == role)
        {
            // Each in turn: the one just chosen goes to the end.
            serving.rotate_left(1);
            if let Some(chosen) = serving.last() {
                return Ok(chosen.clone());
            }
        }
        drop(servers);
        Err(self.nobody(topic, role))
    }

    /// The error for a request or command that nobody serves.
    fn nobody(&self, topic: &Topic, role: Role) -> Error {
        let servers = self.servers.lock();
        let (kind, operation, verb) = match role {
            Role::Responder => (Kind::NoResponder, "request", "responds to"),
            _ => (Kind::NoHandler, "send", "handles the command"),
        };
        let known = servers
            .iter()
            .filter(|(_, serving)| serving.first().is_some_and(|s| s.options().role == role))
            .map(|(topic, _)| topic.as_str());
        let hint = did_you_mean(topic.as_str(), known)
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        Error::new(kind, operation, format!("nobody {verb} `{topic}`{hint}"))
            .with("event_type", topic.as_str())
    }

    /// Takes a subscription that has ended off the bus; its books are kept in the total.
    fn forget(&self, subscription: &Arc<Subscription>) {
        if subscription.options().role == Role::Subscriber {
            self.router.remove(subscription);
        } else {
            self.servers.lock().retain(|_, serving| {
                serving.retain(|other| other.id() != subscription.id());
                !serving.is_empty()
            });
        }
        self.subscriptions.write().remove(&subscription.id());
        let mut ended = self.ended.lock();
        ended.settle();
        ended.retiring.push(subscription.clone());
    }

    fn emit(&self, topic: &str, payload: &impl Serialize) {
        self.emit_caused_by(topic, payload, None);
    }

    fn emit_caused_by(&self, topic: &str, payload: &impl Serialize, parent: Option<&Event>) {
        let Ok(route) = self.router.route(topic) else { return };
        if route.targets.is_empty() || self.closed.load(Ordering::Acquire) {
            return;
        }
        let result = Payload::from_serialize(payload)
            .map_err(|error| Error::new(Kind::Internal, "emit", error.to_string()))
            .and_then(|payload| {
                let draft = Draft { parent, ..Draft::new(topic, payload) };
                let event = Arc::new(self.stamp(draft, route.topic.clone())?);
                self.published.fetch_add(1, Ordering::Relaxed);
                self.deliver(event, &route.targets)
            })
            .and_then(|published| match published.admission {
                Some(admission) => Err(admission.full_error()),
                None => Ok(()),
            });
        if let Err(error) = result {
            tracing::error!(target: "tiebeam::bus", topic, "an event of the core was lost: {error}");
        }
    }
}
