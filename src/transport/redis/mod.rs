//! Redis Streams: events in one stream per category and partition, read by consumer groups.
//!
//! | file | idea |
//! | --- | --- |
//! | `settings` | how a transport on Redis works |
//! | `keys`, `entry_id` | what is called how on the server |
//! | `partition`, `agreement` | which stream of its category an event goes to; how many there are |
//! | `address`, `site`, `sentinel` | where the server is, by its URL; the way there; who is the master |
//! | `cluster`, `atlas`, `slot` | many servers with a part of the keys each: who has what |
//! | `link`, `fault` | a connection that is made again when it is lost; what an error means |
//! | `features`, `prudence` | what a server can do; whether it keeps what it is given |
//! | `sender`, `batch` | sending: many events in one round trip, several at once; what goes in one |
//! | `readings` | who reads what, each stream once per group |
//! | `reader`, `holding` | reading for a group: what is new, what was given out before; what is at work |
//! | `council`, `lease` | which member of a group may read a stream, where one at a time is to |
//! | `manner` | whether that is so: all of a group want the same |
//! | `tail` | a copy of every entry, for whoever is there |
//! | `place`, `answers` | the commands of a reader, and how their answers are read |
//! | `letters` | dead letters of all processes: shown, sent again, taken out |
//! | `presence` | whether anybody is there for a request or a command |
//! | `upkeep`, `trimming` | delayed events; what nobody needs any more |
//!
//! Three things find what comes twice: what this process was given is remembered here; what any
//! process has handled is kept on the server, and asked for where others read for the group, or
//! did before; and whoever sends an event again because the answer got lost says so, and behind
//! which entry the first copy may stand, so that the stream itself tells.

mod address;
mod agreement;
mod answers;
mod atlas;
mod batch;
mod cluster;
mod council;
mod entry_id;
mod fault;
mod features;
mod holding;
mod keys;
mod lease;
mod letters;
mod link;
mod manner;
mod partition;
mod place;
mod presence;
mod prudence;
mod reader;
mod readings;
mod sender;
mod sentinel;
mod settings;
mod site;
mod slot;
mod tail;
mod trimming;
mod upkeep;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::settings::Settings;

use self::batch::Destination;
use self::council::Councils;
use self::entry_id::EntryId;
use self::holding::Holding;
use self::keys::{Keys, Kind as StreamKind, Stream};
use self::letters::Written;
use self::link::Link;
use self::place::Place;
use self::presence::Presence;
use self::readings::Readings;
use self::site::Site;
use self::upkeep::Upkeep;
use super::at_home::at_home;
use super::carrier::{Later, News, Transport};
use super::open::Options;
use super::opening::Openings;
use super::outbox::{self, Outbox};
use super::patience::Patience;
use super::seen::{Seen, Window};
use super::trouble::Trouble;
use super::{Capabilities, Letters, Parcel, Reader, Reading, Receipt, Sink, To};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::topic::Topic;

/// The group of whoever handles a command.
const HANDLERS: &str = "handlers";

/// A transport on Redis; clones are handles to the same one. With the last of them its work ends;
/// [`Transport::close`] sends what waits before that.
#[derive(Clone)]
pub struct Redis(Arc<Owner>);

/// Whoever has a handle: the tasks of a transport do not keep it going.
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.ending.cancel();
    }
}

/// How long the parts of a transport may take to end.
const PARTING: Duration = Duration::from_secs(2);

/// A stream's key, and the name of one of its groups.
type Group = (Arc<str>, Arc<str>);

/// What all parts of one transport share.
struct Inner {
    settings: Settings,
    keys: Keys,
    clock: Clock,
    site: Site,
    runtime: Handle,
    tasks: TaskTracker,
    /// No new work is begun once this is cancelled.
    ending: CancellationToken,
    outbox: Outbox<Destination>,
    /// The name of this process among the readers of a group.
    consumer: Arc<str>,
    /// Where replies to this process go.
    address: String,
    openings: Arc<Openings>,
    readings: Readings,
    councils: Councils,
    /// How many seats in those this process has had.
    seats: AtomicU64,
    presence: Presence,
    upkeep: Upkeep,
    trouble: Trouble,
    news: News,
    /// What each group has seen lately; it outlives its readers.
    seen: Mutex<HashMap<Group, Arc<Seen<EntryId>>>>,
    /// How many copies came twice to those who read without a group.
    left_out: AtomicU64,
    /// Whether it was looked whether the server keeps what it is given.
    looked: AtomicBool,
    /// What this process has of each group; it outlives their readers, too.
    holdings: Mutex<HashMap<Group, Arc<Holding>>>,
    /// Where the dead letters stand that this process wrote.
    written: Arc<Written>,
    /// There is a category that was not there before.
    announced: Notify,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.inner().settings).finish()
    }
}

impl Inner {
    fn patience(&self) -> Patience {
        Patience::new(&self.clock, &self.ending)
    }

    /// What the group of a place has seen.
    fn seen(&self, place: &Place, window: Window) -> Arc<Seen<EntryId>> {
        let key = (place.stream.key.clone(), place.group.clone());
        let mut seen = self.seen.lock();
        seen.entry(key).or_insert_with(|| Arc::new(Seen::new(window, self.clock.clone()))).clone()
    }

    /// What this process has of the group of a place.
    fn holding(&self, place: &Place) -> Arc<Holding> {
        let key = (place.stream.key.clone(), place.group.clone());
        let new = || Arc::new(Holding::new(&self.written));
        self.holdings.lock().entry(key).or_insert_with(new).clone()
    }

    /// When the window of what is remembered began, in Unix milliseconds.
    fn since(&self, window: Duration) -> i64 {
        let length = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        self.clock.unix_ms().saturating_sub(length)
    }
}

impl Redis {
    /// A transport whose tasks run on `runtime`, and which tells of itself by `news`. Nothing is
    /// connected yet.
    ///
    /// # Errors
    /// `Kind::Configuration` for a URL or figures that cannot be.
    pub fn new(settings: Settings, clock: Clock, runtime: Handle, news: News) -> Result<Redis> {
        settings.check()?;
        let site = Site::new(&settings, &clock, &runtime)?;
        let instance = format!("{:016x}", fastrand::u64(..));
        let inner = Arc::new(Inner {
            keys: Keys::new(&settings.prefix, settings.partitions),
            outbox: Outbox::new(settings.outbox, clock.clone()),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            consumer: match &settings.consumer {
                Some(name) => name.as_str().into(),
                None => format!("{}-{instance}", host()).into(),
            },
            address: instance,
            openings: Openings::new(),
            readings: Readings::default(),
            councils: Councils::default(),
            seats: AtomicU64::new(0),
            presence: Presence::default(),
            upkeep: Upkeep::default(),
            trouble: Trouble::new(news.clone()),
            seen: Mutex::default(),
            left_out: AtomicU64::new(0),
            looked: AtomicBool::new(false),
            holdings: Mutex::default(),
            written: Arc::default(),
            announced: Notify::new(),
            settings,
            clock,
            site,
            runtime,
            news,
        });
        sender::begin(&inner);
        upkeep::begin(&inner);
        Ok(Redis(Arc::new(Owner(inner))))
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.0.0
    }

    /// Whoever waits may do so anywhere; connections live on our runtime.
    fn on_our_runtime<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Later<'static, Result<T>> {
        at_home((&self.inner().runtime, &self.inner().tasks), operation, work)
    }

    /// Sends an event once it is known that somebody is there for it.
    fn send_if_there(&self, event: &Arc<Event>, stream: Stream) -> Result<Receipt> {
        let inner = self.inner();
        if inner.ending.is_cancelled() {
            let said = "the transport is closed";
            return Err(Error::new(Kind::Closed, "publish", said).with("outcome", "refused"));
        }
        if inner.presence.len() >= inner.settings.outbox.most {
            return Err(outbox::full());
        }
        let (pending, receipt) = Receipt::new();
        if inner.presence.line_up(&stream, (event.clone(), pending)) {
            let looking = look_and_send(inner.clone(), stream, event.topic.clone());
            inner.tasks.spawn_on(looking, &inner.runtime);
        }
        Ok(receipt)
    }
}

/// Looks whether anybody is there for what waits, and sends it, or says that nobody is.
async fn look_and_send(inner: Arc<Inner>, stream: Stream, topic: Topic) {
    let looking = presence::look(&inner, &stream, topic.as_str());
    tokio::pin!(looking);
    let there = loop {
        tokio::select! {
            there = &mut looking => break there,
            () = inner.ending.cancelled() => {
                break Err(Error::new(Kind::Closed, "publish", "the transport has ended"));
            }
            // Who has less time than that hears in time, too.
            () = inner.clock.sleep(sender::LOOK) => {
                inner.presence.expire(&inner, &stream, inner.clock.unix_ms());
            }
        }
    };
    let mut sent = FuturesUnordered::new();
    let line = std::iter::from_fn(|| inner.presence.next(&stream));
    for (event, pending) in line.flatten() {
        let (stream, category) = (stream.clone(), None);
        let place = Destination { stream, category, due: None, again: None };
        let put = match &there {
            Ok(()) => sender::put(&inner, event, place),
            Err(error) => Err(error.again()),
        };
        match put {
            Ok(receipt) => sent.push(async move { pending.settle(receipt.await) }),
            Err(error) => pending.settle(Err(error)),
        }
    }
    while sent.next().await.is_some() {}
}

impl Transport for Redis {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "redis",
            durable: true,
            shared: true,
            replay: true,
            priorities: false,
            exact_delays: true,
            keyed_order: true,
            durable_dedup: self.inner().settings.dedup.is_some(),
            shared_dedup: self.inner().settings.dedup.is_some(),
            knows_responders: true,
            one_handler: true,
            fails_when_full: false,
        }
    }

    fn address(&self) -> &str {
        &self.inner().address
    }

    fn renew(&self, options: &Options) -> Result<()> {
        self.inner().site.renew(&Settings::from(options.clone()))
    }

    fn connect(&self, limit: Duration) -> Later<'_, Result<()>> {
        let inner = self.inner().clone();
        let link = Link::shared(&inner, &inner.keys.categories());
        self.on_our_runtime("connect", async move {
            link.connect(limit).await?;
            let agreed = agreement::agree_anew(&inner).await;
            agreed.map_err(|cause| fault::error("connect", &cause))?;
            let _ = inner.clock.timeout(limit, prudence::look(&inner)).await; // it is only advice
            Ok(())
        })
    }

    fn send(&self, parcel: Parcel<'_>) -> Result<Receipt> {
        let inner = self.inner();
        let Parcel { event, to, due } = parcel;
        let stream = inner.keys.of(event, to);
        match stream.kind {
            StreamKind::Requests | StreamKind::Commands
                if inner.presence.is_waited_for(&stream)
                    || !inner.presence.is_known(&stream, inner.clock.now()) =>
            {
                return self.send_if_there(event, stream);
            }
            _ => {}
        }
        upkeep::add(inner, &stream);
        let category = (to == To::Topic).then(|| inner.keys.name(event.topic.category()));
        let place = Destination { stream, category, due, again: None };
        sender::put(inner, event.clone(), place)
    }

    fn read(&self, reading: Reading, sink: Arc<dyn Sink>) -> Reader {
        readings::begin(self.inner(), reading, sink)
    }

    fn unsent(&self) -> usize {
        self.inner().outbox.len() + self.inner().presence.len()
    }

    fn trouble(&self) -> Option<String> {
        self.inner().trouble.now()
    }

    fn duplicates(&self) -> u64 {
        let of_groups: u64 = self.inner().seen.lock().values().map(|seen| seen.duplicates()).sum();
        of_groups + self.inner().left_out.load(Ordering::Relaxed)
    }

    fn letters(&self) -> Option<&dyn Letters> {
        Some(self)
    }

    fn wipe(&self) -> Later<'_, Result<()>> {
        let inner = self.inner().clone();
        let wiping = async move {
            let wiped = async {
                for mut wire in inner.site.all().await? {
                    place::wipe(&mut wire, &inner.keys.all()).await?;
                }
                Ok(())
            };
            wiped.await.map_err(|cause| fault::error("wipe", &cause))
        };
        self.on_our_runtime("wipe", wiping)
    }

    fn close(&self, grace: Duration) -> Later<'_, usize> {
        Box::pin(async move {
            let inner = self.inner();
            inner.outbox.close(inner.trouble.now().is_some());
            let _ = inner.clock.timeout(grace, inner.outbox.empty()).await; // what is left is counted
            let left = inner.outbox.len();
            inner.ending.cancel();
            inner.tasks.close();
            // A server that does not answer now will not be waited for: what it was to be told, it
            // learns from those who take over.
            let _ = inner.clock.timeout(PARTING, inner.tasks.wait()).await;
            inner.outbox.give_up();
            left
        })
    }
}

/// The name of this machine, as far as it is known.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String =
        name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    if name.is_empty() { "host".into() } else { name }
}
