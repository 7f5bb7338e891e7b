//! Redis Streams: events in one stream per category, read by consumer groups.
//!
//! | file | idea |
//! | --- | --- |
//! | `keys` | what is called how on the server |
//! | `link` | a connection that is made again when it is lost |
//! | `fault` | what an error of the server or the connection means |
//! | `outbox` | sending: many events in one round trip |
//! | `reader` | reading for a group: what is new, what was read and not handled, what others left |
//! | `stream` | the commands a reader uses, and how their answers are read |
//! | `holding` | the entries at work: kept alive, and acknowledged in batches |

mod fault;
mod holding;
mod keys;
mod link;
mod outbox;
mod reader;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::keys::Keys;
use self::link::Link;
use self::outbox::Outbox;
use super::entry::Sink;
use super::outcome::Receipt;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::event::Event;

/// How a transport on Redis works.
#[derive(Clone)]
pub struct Settings {
    /// Where the server is: `redis://[user:password@]host[:port][/database]`.
    pub url: String,
    /// First part of every key.
    pub prefix: String,
    /// The most entries of one read, and of one round trip when sending.
    pub batch: usize,
    /// How many events may wait to be sent.
    pub outbox: usize,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the server may take to answer.
    pub response_timeout: Duration,
    /// How long an event is tried to be sent before its publisher is told that it failed.
    pub send_timeout: Duration,
    /// How long an entry must have been left alone before another process takes it over.
    pub claim_idle: Duration,
}

impl Settings {
    /// The usual figures.
    pub fn new(url: impl Into<String>) -> Settings {
        Settings {
            url: url.into(),
            prefix: "tiebeam".into(),
            batch: 100,
            outbox: 10_000,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            send_timeout: Duration::from_secs(30),
            claim_idle: Duration::from_secs(30),
        }
    }

    fn check(&self) -> Result<()> {
        let refused = |said: String| Err(Error::new(Kind::Configuration, "connect", said));
        for (name, value) in [("batch", self.batch), ("outbox", self.outbox)] {
            if value == 0 {
                return refused(format!("{name} must be at least 1, got 0"));
            }
        }
        if self.claim_idle < Duration::from_millis(10) {
            return refused(format!(
                "claim_idle must be at least 10 ms, got {:?}: held entries are kept alive three \
                 times in that time",
                self.claim_idle
            ));
        }
        Ok(())
    }
}

/// Never shows the password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = crate::config::redact::text(&self.url);
        f.debug_struct("Settings")
            .field("url", &url)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Where a group that nobody has read for yet begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes from now on.
    Now,
    /// With the oldest event there is.
    First,
}

/// A transport on Redis; clones are handles to the same one. With the last of them its work ends;
/// [`Redis::close`] sends what waits before that.
#[derive(Clone)]
pub struct Redis(Arc<Owner>);

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
    keys: Keys,
    clock: Clock,
    client: ::redis::Client,
    runtime: Handle,
    tasks: TaskTracker,
    /// No new work is begun once this is cancelled.
    ending: CancellationToken,
    outbox: Outbox,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.inner().settings).finish()
    }
}

impl Redis {
    /// A transport whose tasks run on `runtime`. Nothing is connected yet.
    ///
    /// # Errors
    /// `Kind::Configuration` for a URL or figures that cannot be.
    pub fn new(settings: Settings, clock: Clock, runtime: Handle) -> Result<Redis> {
        settings.check()?;
        let client = link::client(&settings.url)?;
        let inner = Arc::new(Inner {
            keys: Keys::new(&settings.prefix),
            outbox: Outbox::new(settings.outbox),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            settings,
            clock,
            client,
            runtime,
        });
        let link = Link::new(&inner, inner.settings.response_timeout);
        inner.tasks.spawn_on(outbox::send(inner.clone(), link), &inner.runtime);
        Ok(Redis(Arc::new(Owner(inner))))
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.0.0
    }

    /// Waits until the server answers, or says why it will not.
    ///
    /// # Errors
    /// `Kind::Configuration` where it refuses this user, `Kind::Dependency` where it does not
    /// answer within `limit`; both without the password.
    pub async fn connect(&self, limit: Duration) -> Result<()> {
        let link = Link::new(self.inner(), self.inner().settings.response_timeout);
        link.connect(limit).await.map(drop)
    }

    /// Hands an event over, to be sent in the order of these calls.
    ///
    /// # Errors
    /// `Kind::MailboxFull` where the outbox is full, `Kind::Closed` after the end.
    pub fn publish(&self, event: &Event) -> Result<Receipt> {
        let stream = self.inner().keys.stream(event.topic.category());
        self.inner().outbox.put(stream, event)
    }

    /// How many events wait to be sent.
    pub fn unsent(&self) -> usize {
        self.inner().outbox.len()
    }

    /// Reads the events of `category` for `group`, under the name `consumer`, which no other
    /// process may use. What it reads goes to `sink` until the token returned is cancelled; what is
    /// acknowledged after that is not told to the server any more, and comes again.
    pub fn read(
        &self,
        category: &str,
        group: &str,
        consumer: &str,
        start: Start,
        sink: Arc<dyn Sink>,
    ) -> CancellationToken {
        let stop = self.inner().ending.child_token();
        let place = stream::Place {
            stream: self.inner().keys.stream(category),
            group: group.into(),
            consumer: consumer.into(),
            start,
        };
        let reading = reader::read(self.inner().clone(), place, sink, stop.clone());
        self.inner().tasks.spawn_on(reading, &self.inner().runtime);
        stop
    }

    /// Sends what waits, for at most `grace`, then ends. How many events were not sent.
    pub async fn close(&self, grace: Duration) -> usize {
        self.inner().outbox.close();
        let sent = self.inner().outbox.empty();
        let _ = self.inner().clock.timeout(grace, sent).await; // what is left is counted
        let left = self.inner().outbox.len();
        self.inner().ending.cancel();
        self.inner().tasks.close();
        self.inner().tasks.wait().await;
        self.inner().outbox.give_up();
        left
    }
}
