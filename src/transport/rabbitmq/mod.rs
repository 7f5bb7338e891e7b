//! RabbitMQ: exchanges, a quorum queue per group, publisher confirms.
//!
//! | file | idea |
//! | --- | --- |
//! | `settings` | how a transport on RabbitMQ works |
//! | `names`, `topology` | what is called how on the broker; what is declared there |
//! | `link`, `cord` | a connection that is made again when it is lost; one that can be ended |
//! | `fault` | what an error means |
//! | `sender`, `flight`, `lanes` | sending: in order, confirmed; what is under way; over which channels |
//! | `pulse` | whether the broker still reads from the connection that we publish over |
//! | `together` | many things at once, in order |
//! | `delay` | delayed events wait on the broker |
//! | `readings`, `wants` | who reads what, each queue once; what is to be read from one |
//! | `reader`, `holding` | reading a queue; what is at work, and what comes twice |
//! | `in_turn` | reading a queue that gives to one reader at a time |
//! | `desk`, `letters` | where what was given up is put, and what is no event; what was given up, shown and sent again |

mod cord;
mod delay;
mod desk;
mod fault;
mod flight;
mod holding;
mod in_turn;
mod lanes;
mod letters;
mod link;
mod names;
mod pulse;
mod reader;
mod readings;
mod sender;
mod settings;
mod together;
mod topology;
mod wants;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lapin::types::ShortString;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::settings::Settings;

use self::desk::Desk;
use self::holding::Holding;
use self::link::{Link, Way};
use self::names::{Names, short};
use self::readings::Readings;
use self::topology::Declaring;
use super::at_home::at_home;
use super::carrier::{Later, News, Transport};
use super::open::Options;
use super::opening::Openings;
use super::outbox::{self, Outbox};
use super::patience::Patience;
use super::trouble::Trouble;
use super::{Capabilities, Letters, Parcel, Reader, Reading, Receipt, Sink, To};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

/// A transport on RabbitMQ; clones are handles to the same one. With the last of them its work
/// ends; [`Transport::close`] sends what waits before that.
#[derive(Clone)]
pub struct RabbitMq(Arc<Owner>);

/// Whoever has a handle: the tasks of a transport do not keep it going.
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.ending.cancel();
    }
}

/// What all parts of one transport share.
struct Inner {
    settings: Settings,
    names: Names,
    clock: Clock,
    runtime: Handle,
    /// Whoever sends and reads.
    tasks: TaskTracker,
    /// Whoever says goodbye when those have ended.
    farewell: TaskTracker,
    /// No new work is begun once this is cancelled.
    ending: CancellationToken,
    /// Where the broker is.
    way: Way,
    /// A broker that takes nothing from publishers stops reading from their connection: readers
    /// have another.
    publishing: Link,
    consuming: Link,
    outbox: Outbox<Destination>,
    /// Where replies to this process go.
    address: String,
    openings: Arc<Openings>,
    readings: Readings,
    desk: Desk,
    replacing: letters::Replacing,
    trouble: Trouble,
    news: News,
    /// What each queue has given to this process; it outlives its readers.
    holdings: Mutex<HashMap<String, Arc<Holding>>>,
}

/// Where an event goes.
struct Destination {
    to: Addressee,
    exchange: ShortString,
    key: ShortString,
    /// When it is to be published, in Unix milliseconds; now, if absent.
    due: Option<i64>,
}

/// An event on its way.
type Item = outbox::Item<Destination>;

/// Who is to get an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addressee {
    Topic,
    Command,
    Request,
    Reply,
}

impl Addressee {
    fn of(to: To<'_>) -> Addressee {
        match to {
            To::Topic => Addressee::Topic,
            To::Command => Addressee::Command,
            To::Request => Addressee::Request,
            To::Reply(_) => Addressee::Reply,
        }
    }

    fn is_topic(self) -> bool {
        self == Addressee::Topic
    }

    fn is_request(self) -> bool {
        self == Addressee::Request
    }
}

impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RabbitMq").field(&self.inner().settings).finish()
    }
}

impl Inner {
    fn patience(&self) -> Patience {
        Patience::new(&self.clock, &self.ending)
    }

    /// What a queue has given to this process.
    fn holding(&self, queue: &str) -> Arc<Holding> {
        let mut holdings = self.holdings.lock();
        let new = || Arc::new(Holding::new(self.settings.dedup, self.clock.clone()));
        holdings.entry(queue.to_owned()).or_insert_with(new).clone()
    }

    /// Ends the connections when nobody uses them any more.
    async fn say_goodbye(self: Arc<Self>) {
        self.ending.cancelled().await;
        self.tasks.close();
        self.tasks.wait().await;
        self.publishing.close().await;
        self.consuming.close().await;
    }
}

impl RabbitMq {
    /// A transport whose tasks run on `runtime`, and which tells of itself by `news`. Nothing is
    /// connected yet.
    ///
    /// # Errors
    /// `Kind::Configuration` for a URL or figures that cannot be.
    pub fn new(settings: Settings, clock: Clock, runtime: Handle, news: News) -> Result<RabbitMq> {
        settings.check()?;
        let way = Way::of(&settings, &clock)?;
        let link = |purpose| Link::new((&way, &settings), purpose, &clock, &runtime);
        let inner = Arc::new(Inner {
            names: Names::new(&settings.prefix),
            outbox: Outbox::new(settings.outbox, clock.clone()),
            tasks: TaskTracker::new(),
            farewell: TaskTracker::new(),
            ending: CancellationToken::new(),
            publishing: link("publishing"),
            consuming: link("reading"),
            way: way.clone(),
            address: format!("{:016x}", fastrand::u64(..)),
            openings: Openings::new(),
            readings: Readings::default(),
            desk: Desk::default(),
            replacing: letters::Replacing::default(),
            trouble: Trouble::new(news.clone()),
            holdings: Mutex::default(),
            settings,
            clock,
            runtime,
            news,
        });
        inner.tasks.spawn_on(sender::send(inner.clone()), &inner.runtime);
        inner.farewell.spawn_on(inner.clone().say_goodbye(), &inner.runtime);
        Ok(RabbitMq(Arc::new(Owner(inner))))
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
}

impl Transport for RabbitMq {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "rabbitmq",
            durable: true,
            shared: true,
            replay: false,
            priorities: false,
            exact_delays: false,
            keyed_order: true,
            durable_dedup: false,
            shared_dedup: false,
            knows_responders: true,
            one_handler: false,
            fails_when_full: false,
        }
    }

    fn address(&self) -> &str {
        &self.inner().address
    }

    fn renew(&self, options: &Options) -> Result<()> {
        self.inner().way.renew(&Settings::from(options.clone()))
    }

    fn connect(&self, limit: Duration) -> Later<'_, Result<()>> {
        Box::pin(self.inner().publishing.connect(limit, self.inner().patience()))
    }

    fn send(&self, parcel: Parcel<'_>) -> Result<Receipt> {
        let inner = self.inner();
        let Parcel { event, to, due } = parcel;
        let refused = |said: String| {
            Error::new(Kind::Permanent, "publish", said)
                .with("outcome", "refused")
                .with("event_id", event.id.to_string())
        };
        let (exchange, key) = inner.names.of(event.topic.as_str(), to);
        let (Ok(exchange), Ok(key)) = (short(&exchange), short(&key)) else {
            return Err(refused("the address has more than 255 bytes".into()));
        };
        if let Some(due) = due {
            let left = due.saturating_sub(inner.clock.unix_ms()).max(0).unsigned_abs();
            if delay::steps(Duration::from_millis(left)).is_none() {
                return Err(refused(format!(
                    "on RabbitMQ an event can be delayed by {} days at most",
                    delay::most().as_secs() / 86_400
                )));
            }
        }
        let place = Destination { to: Addressee::of(to), exchange, key, due };
        inner.outbox.put(event.clone(), place)
    }

    fn read(&self, reading: Reading, sink: Arc<dyn Sink>) -> Reader {
        readings::begin(self.inner(), reading, sink)
    }

    fn unsent(&self) -> usize {
        self.inner().outbox.len()
    }

    fn trouble(&self) -> Option<String> {
        self.inner().trouble.now()
    }

    fn duplicates(&self) -> u64 {
        self.inner().holdings.lock().values().map(|holding| holding.duplicates()).sum()
    }

    fn letters(&self) -> Option<&dyn Letters> {
        Some(self)
    }

    /// A broker does not tell what there is: what this process does not know stays.
    fn wipe(&self) -> Later<'_, Result<()>> {
        let inner = self.inner();
        Box::pin(async move {
            let queues: Vec<String> = inner.holdings.lock().keys().cloned().collect();
            let wiped = async {
                let declaring = Declaring::on(&inner.publishing, &inner.names).await?;
                declaring.wipe(&queues).await
            };
            wiped.await.map_err(|cause| fault::error("wipe", &cause))
        })
    }

    fn close(&self, grace: Duration) -> Later<'_, usize> {
        Box::pin(async move {
            let inner = self.inner();
            inner.outbox.close(inner.trouble.now().is_some());
            let _ = inner.clock.timeout(grace, inner.outbox.empty()).await; // what is left is counted
            let left = inner.outbox.len();
            inner.ending.cancel();
            inner.farewell.close();
            inner.farewell.wait().await;
            inner.outbox.give_up();
            left
        })
    }
}
