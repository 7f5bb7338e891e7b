//! What the handles to one bus share, and how it delivers.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;

use super::admission::{self, Admission, Published};
use super::dead_letters::{DeadLetter, DeadLetters};
use super::dedup::Dedup;
use super::draft::{Draft, Reply};
use super::group::Group;
use super::mailbox::Offer;
use super::options::Role;
use super::overflow::Overflow;
use super::owner::Owner;
use super::remote::Remote;
use super::requests::{Answer, Requests};
use super::roll::Roll;
use super::router::Router;
use super::series::{Figures, Names};
use super::settings::BusSettings;
use super::stalls::Stalls;
use super::subscription::Subscription;
use super::tally::Tally;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result, did_you_mean};
use crate::event::{Event, IdSource, Payload, ReplyTo};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, RwLock};
use crate::topic::Topic;

/// The producer of the core's own events.
pub const CORE_PRODUCER: &str = "tiebeam";

pub(super) struct Core {
    pub(super) settings: BusSettings,
    pub(super) clock: Clock,
    pub(super) ids: IdSource,
    pub(super) router: Router,
    pub(super) subscriptions: RwLock<Roll>,
    /// Responders and command handlers, by the one type they serve.
    pub(super) servers: Mutex<HashMap<Topic, Vec<Arc<Subscription>>, foldhash::fast::RandomState>>,
    pub(super) requests: Arc<Requests>,
    pub(super) dead_letters: DeadLetters,
    pub(super) stalls: Stalls,
    /// The ids seen lately, where somebody asked for that.
    pub(super) dedup: Option<Arc<Dedup>>,
    pub(super) core_producer: Arc<str>,
    pub(super) last_subscription: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) ended: Mutex<Ended>,
    pub(super) closed: AtomicBool,
    /// The way to other processes, where there is one.
    pub(super) remote: OnceLock<Remote>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("name", &self.settings.name)
            .field("subscriptions", &self.subscriptions.read().len())
            .finish_non_exhaustive()
    }
}

/// Subscriptions that have ended: their books are never thrown away.
#[derive(Default)]
pub(super) struct Ended {
    pub(super) tally: Tally,
    /// The part of it that belongs to components: a restart must not set their figures back.
    pub(super) by_component: HashMap<Arc<str>, Figures>,
    /// And what belongs to their names.
    pub(super) names: Names,
    /// Those whose last handlers are still at work.
    pub(super) retiring: Vec<Arc<Subscription>>,
}

impl Ended {
    /// Closes the books of those that are over, and returns them. Whoever drops the last reference
    /// to one drops its handler, which may come back for `ended`: only without the lock.
    #[must_use = "to be dropped once the lock is released"]
    pub(super) fn settle(&mut self) -> Vec<Arc<Subscription>> {
        let Ended { tally, by_component, names, retiring } = self;
        let is_over = |subscription: &mut Arc<Subscription>| {
            // Asked first: a publisher that found the route before may still bring an event.
            let over = subscription.is_over();
            over && subscription.tally().in_flight == 0
        };
        let gone: Vec<_> = retiring.extract_if(.., is_over).collect();
        for subscription in gone.iter().filter(|s| !s.options().internal) {
            let figures = Figures::of(subscription);
            tally.add(&figures.tally);
            names.leave(subscription, &figures);
            if let Some(component) = subscription.component() {
                by_component.entry(component.clone()).or_default().add(&figures);
            }
        }
        gone
    }
}

impl Core {
    pub(super) fn new(settings: BusSettings, clock: Clock) -> Core {
        let ids = settings.seed.map_or_else(IdSource::random, IdSource::seeded);
        let dedup = settings.dedup.map(Dedup::new);
        Core {
            settings,
            ids,
            router: Router::default(),
            subscriptions: RwLock::default(),
            servers: Mutex::default(),
            requests: Requests::new(&clock),
            clock,
            dead_letters: DeadLetters::default(),
            stalls: Stalls::default(),
            dedup,
            core_producer: Arc::from(CORE_PRODUCER),
            last_subscription: AtomicU64::new(0),
            published: AtomicU64::new(0),
            ended: Mutex::default(),
            closed: AtomicBool::new(false),
            remote: OnceLock::new(),
        }
    }

    /// Enters a subscription in the books.
    pub(super) fn enroll(&self, subscription: &Arc<Subscription>) {
        self.ended.lock().names.enter(subscription);
        self.subscriptions.write().insert(subscription);
    }

    #[inline]
    pub(super) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(
                Kind::Closed,
                operation,
                format!("cannot {operation}: the bus `{}` is closed", self.settings.name),
            ));
        }
        Ok(())
    }

    pub(super) fn stamp(&self, draft: Draft<'_>, topic: Topic) -> Result<Arc<Event>> {
        draft.stamp(topic, &self.ids, self.clock.unix_ms(), &self.core_producer, None)
    }

    /// Stamps a request: it loses its worth when nobody waits for the reply any more.
    pub(super) fn stamp_request(
        &self,
        draft: Draft<'_>,
        topic: Topic,
        limit: Duration,
        id: u64,
    ) -> Result<Arc<Event>> {
        let reply = Reply::to(ReplyTo::here(id), limit, self.clock.unix_ms());
        self.stamp_for(draft, topic, reply)
    }

    /// Stamps a request whose reply is to go to `reply`.
    pub(super) fn stamp_for(
        &self,
        draft: Draft<'_>,
        topic: Topic,
        reply: Reply,
    ) -> Result<Arc<Event>> {
        let now = self.clock.unix_ms();
        draft.stamp(topic, &self.ids, now, &self.core_producer, Some(reply))
    }

    /// Mailboxes with room are filled first; only then does the publisher get in line.
    pub(super) fn deliver(
        &self,
        event: Arc<Event>,
        targets: &[Arc<Subscription>],
    ) -> Result<Published> {
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
            return Ok(Published { event, admission: None, duplicate: false });
        }
        let (failing, waiting): (Vec<_>, Vec<_>) =
            full.into_iter().partition(|s| s.mailbox().overflow() == Overflow::Fail);
        if failing.is_empty() {
            let admission = Admission::line_up(&event, waiting);
            return Ok(Published { event, admission: Some(admission), duplicate: false });
        }
        let error = admission::mailbox_full(failing.iter().chain(&waiting).map(|s| &**s));
        failing.iter().chain(&waiting).for_each(|s| s.book_dropped());
        Err(error)
    }

    /// Whoever has the turn to serve `event_type`, and that as a topic.
    pub(super) fn server(
        &self,
        event_type: &str,
        role: Role,
    ) -> Result<(Topic, Arc<Subscription>)> {
        let mut servers = self.servers.lock();
        if let Some((topic, serving)) = servers.get_key_value(event_type)
            && serving.first().is_some_and(|first| first.options().role == role)
        {
            let topic = topic.clone();
            if let [only] = &serving[..] {
                return Ok((topic, only.clone()));
            }
            if let Some(serving) = servers.get_mut(event_type) {
                // Each in turn: the one just chosen goes to the end. One whose component has failed
                // only where there is no other.
                let waits = serving.iter().take_while(|one| one.is_suspended()).count();
                let next = waits % serving.len();
                serving.rotate_left(next + 1);
                if let Some(chosen) = serving.last() {
                    return Ok((topic, chosen.clone()));
                }
            }
        }
        drop(servers);
        Err(self.nobody(&Topic::parse(event_type)?, role))
    }

    /// The error for a request or command that nobody serves.
    pub(super) fn nobody(&self, topic: &Topic, role: Role) -> Error {
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

    pub(super) fn emit(&self, topic: &str, payload: &impl Serialize, parent: Option<&Event>) {
        self.emit_to(topic, payload, parent, self.remote().is_some());
    }

    /// Publishes an event of the core's own to those who subscribed here, and to nobody else.
    pub(super) fn emit_here(&self, topic: &str, payload: &impl Serialize) {
        self.emit_to(topic, payload, None, false);
    }

    fn emit_to(&self, topic: &str, payload: &impl Serialize, parent: Option<&Event>, far: bool) {
        let Ok(route) = self.router.route(topic) else { return };
        let heard = !route.is_empty() || far;
        if !heard || self.closed.load(Ordering::Acquire) {
            return;
        }
        let result = Payload::from_serialize(payload)
            .map_err(|error| Error::new(Kind::Internal, "emit", error.to_string()))
            .and_then(|payload| {
                let draft = Draft { parent, ..Draft::new(topic, payload) };
                let event = self.stamp(draft, route.topic.clone())?;
                self.published.fetch_add(1, Ordering::Relaxed);
                if far {
                    return Ok(self.deliver_own(event));
                }
                self.deliver_route(event, &route)
            })
            .and_then(|published| match published.admission {
                Some(admission) => admission.give_up(),
                None => Ok(()),
            });
        if let Err(error) = result {
            tracing::error!(target: "tiebeam::bus", topic, "an event of the core was lost: {error}");
        }
    }
}

impl Owner for Core {
    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn forget(&self, subscription: u64) {
        self.detach(subscription);
        // Under the lock of those that have ended: nobody finds it in neither place.
        let mut ended = self.ended.lock();
        let Some(found) = self.subscriptions.write().remove(subscription) else { return };
        ended.retiring.push(found.clone());
        drop(ended);
        if found.options().role == Role::Subscriber {
            self.router.remove(&found);
        } else {
            self.servers.lock().retain(|_, serving| {
                serving.retain(|other| other.id() != subscription);
                !serving.is_empty()
            });
        }
    }

    fn members(&self, group: &Arc<Group>) -> Vec<Arc<Subscription>> {
        if self.closed.load(Ordering::Acquire) {
            return Vec::new();
        }
        let subscriptions = self.subscriptions.read();
        let member = |s: &&Arc<Subscription>| s.group().is_some_and(|g| Arc::ptr_eq(g, group));
        subscriptions.values().filter(member).cloned().collect()
    }

    fn release_ended(&self) {
        let gone = self.ended.lock().settle();
        drop(gone); // the lock is released by now
    }

    fn tell(&self, topic: &str, payload: serde_json::Value, parent: Option<&Event>) {
        self.emit(topic, &payload, parent);
    }

    fn answer(&self, event: &Event, answer: Answer) {
        if !self.answer_elsewhere(event, &answer) {
            self.requests.answer(event, answer);
        }
    }

    fn keep(&self, letter: DeadLetter) {
        // Where the event was read from it is kept as given up before it is forgotten.
        if let Some(lease) = letter.event.lease() {
            lease.bury(letter.to_letter());
        }
        let (_, evicted) = self.dead_letters.keep(letter);
        if let Some(evicted) = evicted {
            tracing::error!(
                target: "tiebeam::bus",
                event_id = %evicted.event.id,
                event_type = %evicted.event.topic,
                "too many dead letters: the oldest was given up"
            );
        }
    }
}
