//! What is read from a broker, in whose name, and what comes of it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::carrier::Later;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::topic::{Pattern, Topic};

/// The group of all who answer requests.
pub const RESPONDERS: &str = "responders";

/// What is to be read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Which events.
    pub source: Source,
    /// In whose name: each event goes to one reader of a group. None for a copy of every event,
    /// which nobody holds.
    pub group: Option<Arc<str>>,
    /// Where a group begins that nobody has read for yet.
    pub start: Start,
    /// Whether the group keeps the order of events of one key, whichever of its members handles
    /// them: what has to stay in order is read by one of them at a time. All members want the same.
    pub keyed: bool,
}

/// A member of a group wants the order of keys kept, and another one here does not.
#[cfg(any(feature = "redis", feature = "rabbitmq"))]
pub(super) fn differs(group: &str) -> Error {
    let said = format!(
        "of the group {group:?}, one subscription has key= and another one has none: the order of \
         keys is kept for all of a group, or for none; give both key=, or another group"
    );
    Error::new(Kind::Configuration, "subscribe", said)
}

/// Which events are read.
#[derive(Clone, Debug)]
pub enum Source {
    /// Those of these topics, and perhaps others, which the sink has to let go.
    Topics(Pattern),
    /// The commands of a type.
    Commands(Topic),
    /// The requests of a type.
    Requests(Topic),
    /// The replies to this process.
    Replies,
}

/// Where a group that nobody has read for yet begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Start {
    /// With what comes from now on.
    #[default]
    Now,
    /// With the oldest event there is.
    First,
    /// With the first event from this time on, in Unix milliseconds, or the oldest after that.
    At(i64),
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Now => f.write_str("\"now\""),
            Start::First => f.write_str("\"first\""),
            Start::At(time) => write!(f, "{time}"),
        }
    }
}

/// One event as it was read. For a group it is tied to the broker by [`Event::lease`], which is
/// kept alive until it is settled.
#[derive(Debug)]
pub struct Entry {
    /// The event.
    pub event: Event,
    /// How often it was given out, this time included.
    pub deliveries: u64,
}

/// Why something is no event, as far as that is kept: it may quote all of what was sent.
#[cfg(any(feature = "redis", feature = "rabbitmq"))]
pub(super) fn reason(mut said: String) -> String {
    const MOST: usize = 1_000;
    if said.len() > MOST {
        said.truncate((0..=MOST).rev().find(|end| said.is_char_boundary(*end)).unwrap_or(0));
        said.push_str("...");
    }
    said
}

/// Where a reader brings what it reads.
pub trait Sink: Send + Sync {
    /// Takes entries, in order; resolves when there is room for more.
    fn take(&self, entries: Vec<Entry>) -> Later<'_, ()>;

    /// Whether what has no room here waits for it, so that others of the group had better read it;
    /// where it is let go instead, reading goes on.
    fn waits(&self) -> bool {
        true
    }
}

/// A reading under way; it ends when this is dropped. What was settled by then is told to the
/// broker, what was not comes again.
#[must_use = "reading ends when this is dropped"]
pub struct Reader {
    ready: watch::Receiver<Option<Result<()>>>,
    _end: Box<dyn Send + Sync>,
}

/// Says once that a reading has its place, or why it has none.
#[derive(Clone)]
pub struct Begun(Arc<watch::Sender<Option<Result<()>>>>);

impl Reader {
    /// A reader that ends by dropping `end`, and who is to say that it has begun.
    pub fn new(end: impl Send + Sync + 'static) -> (Begun, Reader) {
        let begun = Begun(Arc::new(watch::channel(None).0));
        let reader = begun.reader(end);
        (begun, reader)
    }

    /// Resolves when it has its place: what is published from then on is read.
    ///
    /// # Errors
    /// What the broker said.
    pub fn ready(&self) -> Later<'static, Result<()>> {
        let mut ready = self.ready.clone();
        Box::pin(async move {
            match ready.wait_for(Option::is_some).await {
                Ok(said) => match &*said {
                    Some(Err(error)) => Err(error.again()),
                    _ => Ok(()),
                },
                Err(_) => Err(Error::new(Kind::Closed, "subscribe", "the transport has ended")),
            }
        })
    }
}

impl Begun {
    /// Another reader for the same place.
    pub fn reader(&self, end: impl Send + Sync + 'static) -> Reader {
        Reader { ready: self.0.subscribe(), _end: Box::new(end) }
    }

    /// It has its place, or will have none. Only the first word counts.
    pub fn tell(&self, result: Result<()>) {
        self.0.send_if_modified(|said| {
            let first = said.is_none();
            if first {
                *said = Some(result);
            }
            first
        });
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Begun")
    }
}
