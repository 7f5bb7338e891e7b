//! A bus that reaches other processes: what it publishes goes to a broker, and what its
//! subscriptions get comes from there.
//!
//! What is published comes back to the subscriptions here by the same way as to those elsewhere,
//! so that all see one order. Only the core's own events reach the listeners of this process at
//! once: they tell of the way, too, and must not depend on it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use super::admission::{Admission, Published};
use super::arrival::{Calls, Copies, Replies, Shared};
use super::core::Core;
use super::draft::{Draft, Reply};
use super::failure::Failure;
use super::handle::{Bus, Requested};
use super::options::{Options, Role};
use super::overflow::Overflow;
use super::reply::PendingReply;
use super::requests::Answer;
use super::subscription::Subscription;
use crate::error::{Category, Error, Kind, Result};
use crate::event::{Event, Payload, ReplyTo};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::topic::{Pattern, Topic};
use crate::transport::open;
use crate::transport::reading::RESPONDERS;
use crate::transport::{
    Capabilities, Letters, News, Parcel, Reader, Reading, Sink, Source, Start, To, Transport,
    outbox,
};

/// In the metadata of the core's own events: the process that they come from.
const ORIGIN: &str = "origin";

/// What processes tell each other of who is there.
const PRESENCE: &str = "system.presence.announcement";

/// What the transport tells of a message that is no event.
const QUARANTINED: &str = "system.event_quarantined";

/// The type of replies, and of those that tell of a failure.
const REPLY: &str = "system.reply";
const FAULT: &str = "system.reply.fault";

/// The way of a bus to other processes.
pub(super) struct Remote {
    transport: Arc<dyn Transport>,
    /// What is read for each subscription.
    readers: Mutex<HashMap<u64, Reader>>,
    /// Where what is read for a group is brought.
    groups: Mutex<HashMap<Arc<str>, Arc<dyn Sink>>>,
    copies: Arc<dyn Sink>,
    calls: Arc<dyn Sink>,
    /// Replies to this process; from the first request on.
    replies: Mutex<Option<Reader>>,
    /// How many of the core's own events came back from the broker.
    echoes: AtomicU64,
    /// How many messages were no events.
    quarantined: AtomicU64,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.transport, f)
    }
}

impl Bus {
    /// Connects the bus with other processes, by the transport that `make` makes: once, and before
    /// anybody subscribes. The transport tells of itself on the bus.
    ///
    /// # Errors
    /// Those of `make`; `Kind::Lifecycle` where it is connected, or in use.
    pub fn reach_out(&self, make: impl FnOnce(News) -> Result<Arc<dyn Transport>>) -> Result<()> {
        let core = Arc::downgrade(&self.0);
        let news = core.clone();
        let transport = make(Arc::new(move |topic, told| {
            if let Some(core) = news.upgrade() {
                if let (QUARANTINED, Some(remote)) = (topic, core.remote()) {
                    remote.quarantined.fetch_add(1, Ordering::Relaxed);
                }
                core.emit(topic, &told, None);
            }
        }))?;
        let remote = Remote {
            transport,
            readers: Mutex::default(),
            groups: Mutex::default(),
            copies: Arc::new(Copies(core.clone())),
            calls: Arc::new(Calls(core)),
            replies: Mutex::default(),
            echoes: AtomicU64::new(0),
            quarantined: AtomicU64::new(0),
        };
        let in_use = !self.0.subscriptions.read().is_empty();
        if in_use || self.0.remote.set(remote).is_err() {
            let said = "a bus is connected once, before anybody subscribes";
            return Err(Error::new(Kind::Lifecycle, "connect", said));
        }
        Ok(())
    }

    /// What can be asked of its subscriptions and publishers.
    pub fn capabilities(&self) -> Capabilities {
        self.0.remote().map_or(Capabilities::IN_MEMORY, |remote| remote.transport.capabilities())
    }

    /// Uses the user, the password and the certificates of these from the next connection on; in
    /// memory, nothing.
    ///
    /// # Errors
    /// `Kind::Configuration` for what cannot be, and for another broker.
    pub fn renew(&self, options: &open::Options) -> Result<()> {
        self.0.remote().map_or(Ok(()), |remote| remote.transport.renew(options))
    }

    /// Waits until the broker answers; at once where there is none.
    ///
    /// # Errors
    /// As [`Transport::connect`].
    pub async fn connected(&self, limit: Duration) -> Result<()> {
        match self.0.remote() {
            Some(remote) => remote.transport.connect(limit).await,
            None => Ok(()),
        }
    }

    /// Waits until all that has been subscribed to by now is read: what any process publishes
    /// after that arrives. At once where there is no broker.
    ///
    /// # Errors
    /// What the broker said, for the first subscription that it refuses.
    pub async fn ready(&self) -> Result<()> {
        let Some(remote) = self.0.remote() else { return Ok(()) };
        let waits: Vec<_> = remote.readers.lock().values().map(Reader::ready).collect();
        join_all(waits).await.into_iter().collect()
    }

    /// Takes everything of this bus off the broker: for tests, on names of their own.
    ///
    /// # Errors
    /// What the broker said.
    pub async fn wipe(&self) -> Result<()> {
        match self.0.remote() {
            Some(remote) => remote.transport.wipe().await,
            None => Ok(()),
        }
    }

    /// Why the broker is not there just now, if it is not.
    pub fn trouble(&self) -> Option<String> {
        self.0.remote().and_then(|remote| remote.transport.trouble())
    }

    /// What names this bus to others that the broker reaches, if there is a broker.
    pub fn address(&self) -> Option<&str> {
        self.0.remote().map(|remote| remote.transport.address())
    }

    /// How many of the core's own events have come back from the broker: what rises shows that
    /// the whole way there and back is open.
    pub fn echoes(&self) -> u64 {
        self.0.remote().map_or(0, |remote| remote.echoes.load(Ordering::Relaxed))
    }

    /// Asks every process that listens to `topic`, for the reply of the one that it concerns.
    ///
    /// # Errors
    /// `Kind::Lifecycle` on a bus without a broker; `Kind::Closed`; as [`Bus::publish`].
    pub fn ask_around(
        &self,
        topic: &str,
        question: &impl Serialize,
        timeout: Duration,
    ) -> Result<PendingReply> {
        self.0.check_open("request")?;
        let Some(remote) = self.0.remote() else {
            let said = "a bus in memory reaches nobody in another process";
            return Err(Error::new(Kind::Lifecycle, "request", said));
        };
        let payload = Payload::from_serialize(question)
            .map_err(|error| Error::new(Kind::Internal, "request", error.to_string()))?;
        let draft = Draft::new(topic, payload);
        Ok(self.0.request_by(remote, draft, timeout, To::Topic)?.reply)
    }

    /// How many events wait to be sent to the broker.
    pub fn unsent(&self) -> usize {
        self.0.remote().map_or(0, |remote| remote.transport.unsent())
    }

    /// Sends what waits, for at most `grace`, and parts from the broker. How many events were not
    /// sent.
    pub async fn part(&self, grace: Duration) -> usize {
        let Some(remote) = self.0.remote() else { return 0 };
        let left = remote.transport.close(grace).await;
        // After that: what was settled until now is told.
        remote.readers.lock().clear();
        *remote.replies.lock() = None;
        left
    }
}

impl Subscription {
    /// Whether a broker keeps its events for its group, and gives each to one of that.
    pub(super) fn shares(&self) -> bool {
        self.options().group.is_some() && self.options().role == Role::Subscriber
    }

    /// Whether that keeps the order of events of one key among all members of the group.
    pub(super) fn is_keyed(&self) -> bool {
        self.shares() && self.options().key.is_some()
    }
}

impl Core {
    /// The way to other processes, if there is one.
    #[inline]
    pub(super) fn remote(&self) -> Option<&Remote> {
        self.remote.get()
    }

    /// Fits what a subscriber asks for to what the broker can do.
    ///
    /// # Errors
    /// `Kind::Configuration` for what it cannot.
    pub(super) fn fit(&self, mut options: Options, pattern: &Pattern) -> Result<Options> {
        let Some(remote) = self.remote() else {
            if options.start != Start::Now {
                return Err(refused(
                    &format!("start={}", options.start),
                    "a bus in memory, which keeps no events for those who come later: that needs \
                     a journal or a broker; leave `start` out, or say \"now\"",
                ));
            }
            return Ok(options);
        };
        let can = remote.transport.capabilities();
        let where_ = format!("`{}`", can.name);
        if options.overflow == Overflow::Fail && !can.fails_when_full {
            return Err(refused(
                "overflow=\"fail\"",
                &format!("{where_}, whose publishers do not see the mailbox; choose another one"),
            ));
        }
        if options.start != Start::Now && !can.replay {
            return Err(refused(
                &format!("start={}", options.start),
                &format!("{where_}, which keeps no events for those who come later"),
            ));
        }
        if options.start != Start::Now && options.group.is_none() {
            return Err(refused(
                &format!("start={}", options.start),
                "a subscription without a group, which gets copies from now on; give group= too",
            ));
        }
        // What processes tell each other of themselves is for whoever asks for it by name.
        if pattern.matches(&Topic::parse(PRESENCE)?) && !pattern.as_str().starts_with("system.p") {
            options.exclude.push(Pattern::parse("system.presence.*")?);
        }
        // What waits here cannot be handled by another process: so much as keeps the handler busy.
        if options.overflow == Overflow::Block && options.group.is_some() {
            let enough = self.settings.batch_size.max(options.concurrency);
            options.capacity = options.capacity.min(enough);
        }
        Ok(options)
    }

    /// Has what a new subscription wants read.
    pub(super) fn attach(self: &Arc<Self>, subscription: &Arc<Subscription>) {
        let Some(remote) = self.remote() else { return };
        let options = subscription.options();
        let topic = || Topic::parse(subscription.pattern().as_str());
        let (source, group, sink) = match options.role {
            Role::Subscriber => {
                let source = Source::Topics(subscription.pattern().clone());
                match &options.group {
                    Some(group) => (source, Some(group.clone()), remote.shared(self, group)),
                    None => (source, None, remote.copies.clone()),
                }
            }
            Role::Responder => {
                let Ok(topic) = topic() else { return };
                (Source::Requests(topic), Some(RESPONDERS.into()), remote.calls.clone())
            }
            Role::CommandHandler => {
                let Ok(topic) = topic() else { return };
                let name = options.group.clone().unwrap_or_else(|| options.name.as_str().into());
                (Source::Commands(topic), Some(name), remote.calls.clone())
            }
        };
        let reading =
            Reading { source, group, start: options.start, keyed: subscription.is_keyed() };
        let reader = remote.transport.read(reading, sink);
        remote.readers.lock().insert(subscription.id(), reader);
        // It may have had its one event, and gone, before that.
        if !self.subscriptions.read().contains_key(&subscription.id()) {
            self.detach(subscription.id());
        }
    }

    /// Nothing is read for a subscription any more.
    pub(super) fn detach(&self, subscription: u64) {
        if let Some(remote) = self.remote() {
            let reader = remote.readers.lock().remove(&subscription);
            drop(reader); // after the lock
        }
    }

    /// Sends an event on its way.
    pub(super) fn send_out(
        &self,
        remote: &Remote,
        event: Arc<Event>,
        to: To<'_>,
        due: Option<i64>,
    ) -> Result<Published> {
        let receipt = remote.transport.send(Parcel { event: &event, to, due })?;
        self.published.fetch_add(1, Ordering::Relaxed);
        Ok(Published { event, admission: Some(Admission::sent(receipt)), duplicate: false })
    }

    /// Sends a request to somebody who answers in another process.
    pub(super) fn request_elsewhere(
        self: &Arc<Self>,
        remote: &Remote,
        draft: Draft<'_>,
        timeout: Duration,
    ) -> Result<Requested> {
        self.request_by(remote, draft, timeout, To::Request)
    }

    fn request_by(
        self: &Arc<Self>,
        remote: &Remote,
        draft: Draft<'_>,
        timeout: Duration,
        to: To<'_>,
    ) -> Result<Requested> {
        let topic = Topic::parse(draft.event_type)?;
        remote.await_replies(self);
        let opened = self.requests.open();
        let address = format!("{}:{}", remote.transport.address(), opened.number());
        let reply = Reply::to(ReplyTo::Elsewhere(address.into()), timeout, self.clock.unix_ms());
        let event = self.stamp_for(draft, topic, reply)?;
        let published = self.send_out(remote, event, to, None)?;
        let reply = opened.reply(timeout, &published.event.topic, false);
        Ok(Requested { published, reply, responder: None })
    }

    /// Answers a request from another process; false if it is from this one.
    pub(super) fn answer_elsewhere(&self, event: &Event, answer: &Answer) -> bool {
        let Some(remote) = self.remote() else { return false };
        let Some((address, _)) = place_of(event) else { return false };
        let sent = reply_event(self, event, answer).and_then(|reply| {
            let to = To::Reply(address);
            let receipt = remote.transport.send(Parcel { event: &reply, to, due: None })?;
            // Nobody is here to wait for room.
            if receipt.leave() { Err(outbox::full()) } else { Ok(()) }
        });
        if let Err(error) = sent {
            tracing::error!(
                target: "tiebeam::bus", event_id = %event.id, "a reply could not be sent: {error}"
            );
        }
        true
    }

    /// A reply to this process has come.
    pub(super) fn replied(&self, reply: &Event) {
        let Some((_, number)) = place_of(reply) else { return };
        let answer = match reply.topic.as_str() {
            REPLY => Ok(reply.payload.clone()),
            _ => Err(serde_json::from_value(reply.payload.to_json_value()).unwrap_or_else(|_| {
                Failure::new(
                    Category::Permanent,
                    "Fault",
                    "the responder failed, and its answer could not be read",
                )
            })),
        };
        self.requests.answer_number(number, answer);
    }

    /// The core's own event goes to other processes, too; nobody waits for that.
    pub(super) fn tell_others(&self, event: &Event) {
        let Some(remote) = self.remote() else { return };
        // What waits for a broker that is not there is what users sent; where nothing does, this
        // finds out whether it is there again.
        if remote.transport.trouble().is_some() && remote.transport.unsent() > 0 {
            return;
        }
        let mut copy = event.clone();
        let origin = remote.transport.address().into();
        copy.metadata.extra.get_or_insert_default().other.insert(ORIGIN.into(), origin);
        // With no room for it, or no broker, those here know.
        let _ = remote.transport.send(Parcel::new(&Arc::new(copy)));
    }

    /// Whether an event is one of the core's own, which those here have heard of.
    pub(super) fn is_own(&self, event: &Event) -> bool {
        let other = event.metadata.extra.as_ref().map(|extra| &extra.other);
        let origin = other.and_then(|other| other.get(ORIGIN)).and_then(|origin| origin.as_str());
        let own = self.remote().map(|remote| remote.transport.address());
        origin.is_some() && origin == own
    }
}

impl Remote {
    pub(super) fn count_echo(&self) {
        self.echoes.fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages were no events.
    pub(super) fn quarantined(&self) -> u64 {
        self.quarantined.load(Ordering::Relaxed)
    }

    /// What was given up, and is kept on the broker.
    pub(super) fn letters(&self) -> Option<&dyn Letters> {
        self.transport.letters()
    }

    /// How many events were there before, by their ids.
    pub(super) fn duplicates(&self) -> u64 {
        self.transport.duplicates()
    }

    fn shared(&self, core: &Arc<Core>, group: &Arc<str>) -> Arc<dyn Sink> {
        let make = || Arc::new(Shared::new(Arc::downgrade(core), group.clone())) as Arc<dyn Sink>;
        self.groups.lock().entry(group.clone()).or_insert_with(make).clone()
    }

    fn await_replies(&self, core: &Arc<Core>) {
        let mut replies = self.replies.lock();
        if replies.is_none() {
            let reading =
                Reading { source: Source::Replies, group: None, start: Start::Now, keyed: false };
            let sink = Arc::new(Replies(Arc::downgrade(core)));
            *replies = Some(self.transport.read(reading, sink));
        }
    }
}

/// Where the reply to a request goes: an address, and a number there.
fn place_of(event: &Event) -> Option<(&str, u64)> {
    let reply_to = event.metadata.extra.as_ref()?.reply_to.as_ref()?;
    let ReplyTo::Elsewhere(text) = reply_to else { return None };
    let (address, number) = text.rsplit_once(':')?;
    Some((address, number.parse().ok()?))
}

/// The reply to a request as it travels: the place is the request's, and so is the chain.
fn reply_event(core: &Core, request: &Event, answer: &Answer) -> Result<Arc<Event>> {
    let (topic, payload) = match answer {
        Ok(payload) => (REPLY, payload.clone()),
        Err(failure) => {
            let payload = Payload::from_serialize(failure)
                .map_err(|error| Error::new(Kind::Internal, "answer", error.to_string()))?;
            (FAULT, payload)
        }
    };
    let draft = Draft { parent: Some(request), ..Draft::new(topic, payload) };
    let event = core.stamp(draft, Topic::parse(topic)?)?;
    let mut event = Arc::unwrap_or_clone(event);
    let reply_to = request.metadata.extra.as_ref().and_then(|extra| extra.reply_to.clone());
    event.metadata.extra.get_or_insert_default().reply_to = reply_to;
    Ok(Arc::new(event))
}

fn refused(what: &str, why: &str) -> Error {
    Error::new(Kind::Configuration, "subscribe", format!("{what} is not possible on {why}"))
}
