//! The handle to a bus: what its users call.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use serde::Serialize;

use super::admission::Published;
use super::core::Core;
use super::dead_letters::DeadLetters;
use super::draft::Draft;
use super::executor::Executor;
use super::options::{Options, Role};
use super::owner::Owner as _;
use super::reply::PendingReply;
use super::requests::Answer;
use super::router::Route;
use super::settings::BusSettings;
use super::stalls::Stalls;
use super::subscription::Subscription;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::sync::Ordering;
use crate::topic::{Pattern, Topic};
use crate::transport::To;

/// How long at least the end of a bus may take to tell the broker what was settled.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An event bus; clones are handles to the same one.
#[derive(Clone)]
pub struct Bus(pub(super) Arc<Core>);

/// The way back to a bus for those that it owns.
#[derive(Clone, Debug)]
pub struct WeakBus(Weak<Core>);

impl WeakBus {
    /// The bus, while somebody holds it.
    pub fn upgrade(&self) -> Option<Bus> {
        self.0.upgrade().map(Bus)
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Where the events of one type go.
#[derive(Clone, Debug)]
pub struct Destination(Arc<Route>);

/// A [`Destination`] that keeps nobody alive.
#[derive(Clone, Debug)]
pub struct WeakDestination(Weak<Route>);

impl Destination {
    /// The type of its events.
    pub fn event_type(&self) -> &str {
        self.0.topic.as_str()
    }

    /// The same one, without keeping who is there.
    pub fn downgrade(&self) -> WeakDestination {
        WeakDestination(Arc::downgrade(&self.0))
    }
}

impl WeakDestination {
    /// The destination, as long as the bus itself knows it.
    pub fn upgrade(&self) -> Option<Destination> {
        self.0.upgrade().map(Destination)
    }
}

/// A request on its way.
#[derive(Debug)]
pub struct Requested {
    /// The request as an event.
    pub published: Published,
    /// Its reply.
    pub reply: PendingReply,
    /// Who was asked; none where somebody in another process is.
    pub responder: Option<Arc<Subscription>>,
}

impl Bus {
    /// A bus on `clock`.
    pub fn new(settings: BusSettings, clock: Clock) -> Bus {
        Bus(Arc::new(Core::new(settings, clock)))
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

    /// What is stuck at this moment.
    pub fn stalls(&self) -> &Stalls {
        &self.0.stalls
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
        let destination = self.destination(draft.event_type)?;
        self.publish_to(&destination, draft)
    }

    /// Where the events of a type go as of now: for publishers who keep it, and ask for it anew
    /// when [`Bus::routing`] has changed.
    ///
    /// # Errors
    /// `Kind::Topic` for a malformed type.
    pub fn destination(&self, event_type: &str) -> Result<Destination> {
        Ok(Destination(self.0.router.route(event_type)?))
    }

    /// Changes with each subscription that comes or goes.
    pub fn routing(&self) -> u64 {
        self.0.router.version()
    }

    /// [`Bus::publish`] with the route looked up; the type in the draft is not looked at.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub fn publish_to(&self, destination: &Destination, draft: Draft<'_>) -> Result<Published> {
        self.0.check_open("publish")?;
        let route = &destination.0;
        let event = self.0.stamp(draft, route.topic.clone())?;
        if let Some(remote) = self.0.remote() {
            return self.0.send_out(remote, event, To::Topic, None);
        }
        self.0.once(event, |event| {
            self.0.published.fetch_add(1, Ordering::Relaxed);
            self.0.deliver_route(event, route)
        })
    }

    /// Sends a request to one of its responders.
    ///
    /// # Errors
    /// `Kind::NoResponder` at once when there is none; `Kind::Permanent` for the id of an earlier
    /// request, where ids are remembered; else as `publish`.
    pub fn request(&self, draft: Draft<'_>, timeout: Duration) -> Result<Requested> {
        self.request_meanwhile(draft, timeout, || false)
    }

    /// [`Bus::request`], doing something between the delivery and the wait, which says whether it
    /// has most likely brought the reply: that then needs no timer.
    ///
    /// # Errors
    /// As [`Bus::request`].
    pub fn request_meanwhile(
        &self,
        draft: Draft<'_>,
        timeout: Duration,
        act: impl FnOnce() -> bool,
    ) -> Result<Requested> {
        self.0.check_open("request")?;
        let (topic, server) =
            match (self.0.server(draft.event_type, Role::Responder), self.0.remote()) {
                (Err(error), Some(remote)) if error.kind() == Kind::NoResponder => {
                    return self.0.request_elsewhere(remote, draft, timeout);
                }
                (found, _) => found?,
            };
        let opened = self.0.requests.open();
        let event = self.0.stamp_request(draft, topic, timeout, opened.number())?;
        let published = self.0.once(event, |event| {
            self.0.published.fetch_add(1, Ordering::Relaxed);
            self.0.deliver(event, std::slice::from_ref(&server))
        })?;
        if published.duplicate {
            // The first one has the reply; nobody would answer this one.
            let id = published.event.id.to_string();
            let message = format!("the request {id} was made before, and is answered once");
            return Err(Error::new(Kind::Permanent, "request", message).with("event_id", id));
        }
        let likely = act();
        let reply = opened.reply(timeout, &published.event.topic, likely);
        Ok(Requested { published, reply, responder: Some(server) })
    }

    /// Sends a command to its one handler.
    ///
    /// # Errors
    /// `Kind::NoHandler` when it has none; else as `publish`.
    pub fn send(&self, draft: Draft<'_>) -> Result<Published> {
        self.0.check_open("send")?;
        if let Some(remote) = self.0.remote() {
            let topic = Topic::parse(draft.event_type)?;
            let event = self.0.stamp(draft, topic)?;
            return self.0.send_out(remote, event, To::Command, None);
        }
        let (topic, server) = self.0.server(draft.event_type, Role::CommandHandler)?;
        let event = self.0.stamp(draft, topic)?;
        self.0.once(event, |event| {
            self.0.published.fetch_add(1, Ordering::Relaxed);
            self.0.deliver(event, std::slice::from_ref(&server))
        })
    }

    /// Answers the request that `event` is.
    pub fn answer(&self, event: &Event, answer: Answer) {
        self.0.answer(event, answer);
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
        self.add(pattern, options, executor, false)
    }

    /// [`Bus::subscribe`] for one event: when it has come, the subscription is gone.
    ///
    /// # Errors
    /// As `subscribe`.
    pub fn subscribe_once(
        &self,
        pattern: &str,
        options: Options,
        executor: Arc<dyn Executor>,
    ) -> Result<Arc<Subscription>> {
        self.add(pattern, options, executor, true)
    }

    fn add(
        &self,
        pattern: &str,
        options: Options,
        executor: Arc<dyn Executor>,
        once: bool,
    ) -> Result<Arc<Subscription>> {
        let core = &self.0;
        core.check_open("subscribe")?;
        options.check()?;
        let pattern = Pattern::parse(pattern)?;
        let options = core.fit(options, &pattern)?;
        let role = options.role;
        let id = core.last_subscription.fetch_add(1, Ordering::Relaxed) + 1;
        let weak: Weak<Core> = Arc::downgrade(core);
        let make = |pattern| {
            let group = options.group.as_ref().filter(|_| options.competing);
            let group = group.map(|name| core.router.group(name));
            let made =
                Subscription::new(id, pattern, options, executor, (weak, &core.clock), group);
            let subscription = Arc::new(if once { made.only_once() } else { made });
            if let Some(manual) = &subscription.options().manual {
                manual.attach(&subscription);
            }
            subscription
        };
        let subscription = if role == Role::Subscriber {
            let subscription = make(pattern);
            if let Some(group) = subscription.group()
                && let Some(rival) = core.members(group).first()
            {
                subscription.check_rival(rival)?;
            }
            core.enroll(&subscription);
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
            core.enroll(&subscription);
            subscription
        };
        core.attach(&subscription);
        Ok(subscription)
    }

    /// Publishes one of the core's own events; nobody waits for it.
    ///
    /// What finds no room is booked as dropped and logged: the core never waits for a handler.
    pub fn emit(&self, topic: &str, payload: &impl Serialize) {
        self.0.emit(topic, payload, None);
    }

    /// [`Bus::emit`] for what concerns this process alone: all who subscribed here hear of it, and
    /// no broker does.
    pub fn emit_here(&self, topic: &str, payload: &impl Serialize) {
        self.0.emit_here(topic, payload);
    }

    /// Whether an event of this type would reach anybody.
    pub fn has_subscribers(&self, event_type: &str) -> bool {
        self.0.router.route(event_type).is_ok_and(|route| !route.is_empty())
    }

    /// Every subscription, in the order in which they subscribed.
    pub fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        self.0.subscriptions.read().values().cloned().collect()
    }

    /// Those of one component.
    pub fn subscriptions_of(&self, component: &str) -> Vec<Arc<Subscription>> {
        self.0.subscriptions.read().of(component).to_vec()
    }

    /// Of each handler of this component the number of its subscription, how many events it has
    /// handled with success, and how many are under way. To be called under locks of others: it
    /// wakes nobody, and is nobody's last handle, whose end might take the GIL.
    pub fn handled_well_of(&self, component: &str) -> Vec<(u64, u64, u64)> {
        let subscriptions = self.0.subscriptions.read();
        let handled = subscriptions.of(component).iter().filter_map(|subscription| {
            let (well, under_way) = subscription.handled_well()?;
            Some((subscription.id(), well, under_way))
        });
        handled.collect()
    }

    /// A subscription with something in flight whose handler needs `thread`.
    pub fn needs(&self, thread: ThreadId) -> Option<Arc<Subscription>> {
        self.unfinished().into_iter().find(|s| s.executor().thread() == Some(thread))
    }

    /// Waits until nothing is queued, handled or waiting for a retry.
    pub async fn drained(&self) {
        // A handler may publish to a subscription that was idle a moment ago. Nothing is left
        // when two rounds in a row find nothing, and nothing was published in between.
        let (mut clean, mut published) = (0, self.0.published.load(Ordering::Acquire));
        while clean < 2 {
            clean += 1;
            let subscriptions = {
                let ended = self.0.ended.lock();
                let mut subscriptions = self.subscriptions();
                subscriptions.extend(ended.retiring.iter().cloned());
                subscriptions
            };
            for subscription in subscriptions {
                if !subscription.is_idle() {
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
            bus.refuse();
            // What is left shows in the figures below; there is nothing else to do about it.
            let clock = &bus.0.clock;
            let until = clock.now().saturating_add(grace);
            let _ = clock.timeout(grace, bus.drained()).await;
            let mut left = bus.end_subscriptions();
            let rest = until.saturating_since(clock.now());
            let unsent = bus.part(rest.max(LAST_WORDS)).await;
            if unsent > 0 {
                left.push(("events that were not sent".to_owned(), unsent as u64));
            }
            left
        }
    }

    /// Refuses new events from now on; what is in flight goes on.
    pub fn refuse(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// Refuses new events and ends every subscription at once.
    pub fn close_now(&self) -> Vec<(String, u64)> {
        self.refuse();
        self.end_subscriptions()
    }

    fn end_subscriptions(&self) -> Vec<(String, u64)> {
        // Before their responders: whoever asked is told that the bus closed.
        self.0.requests.close();
        let mut left = Vec::new();
        for subscription in self.subscriptions() {
            let in_flight = subscription.tally().in_flight;
            if in_flight > 0 {
                left.push((subscription.name().to_owned(), in_flight));
            }
            subscription.cancel();
        }
        left
    }

    /// Whether it has been closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }
}
