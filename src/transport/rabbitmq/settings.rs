//! How a transport on RabbitMQ works.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::transport::open::Options;
use crate::transport::outbox::Bounds;
use crate::transport::seen::Window;

/// The longest prefix: the names made with it have 255 bytes at most.
const PREFIX: usize = 64;

/// How a transport on RabbitMQ works.
#[derive(Clone)]
pub struct Settings {
    /// Where the broker is: `amqp[s]://[user:password@]host[:port][/vhost]`.
    pub url: String,
    /// First part of the name of every exchange and queue.
    pub prefix: String,
    /// The most events that are sent at once, and that a reader is given before it has
    /// acknowledged any.
    pub batch: usize,
    /// How many events may wait to be sent, for how long, and what happens to more.
    pub outbox: Bounds,
    /// How often an event is sent again that the broker did not take, or to which it did not
    /// answer, beside the first time; and how long to wait before that.
    pub max_retry: u32,
    /// See `max_retry`.
    pub retry_delay: Duration,
    /// Whether an event that nobody reads is an error for its publisher.
    pub mandatory: bool,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the broker may take to answer.
    pub response_timeout: Duration,
    /// How often broker and process tell each other that they are there; who was silent for twice
    /// that time is gone. Whole seconds; what the URL says goes first.
    pub heartbeat: Duration,
    /// How long ids are remembered, so that what comes twice is handled once.
    pub dedup: Option<Window>,
    /// The largest message that is taken for an event, in bytes.
    pub max_entry: usize,
}

impl Settings {
    /// The usual figures.
    pub fn new(url: impl Into<String>) -> Settings {
        Settings::from(&Options::new(url))
    }

    pub(super) fn check(&self) -> Result<()> {
        let refused = |said: String| Err(Error::new(Kind::Configuration, "connect", said));
        if self.batch == 0 || self.batch > usize::from(u16::MAX) {
            return refused(format!("batch must be 1 to {}, got {}", u16::MAX, self.batch));
        }
        if self.outbox.most == 0 {
            return refused("outbox must be at least 1, got 0".into());
        }
        if self.prefix.is_empty() || self.prefix.len() > PREFIX {
            return refused(format!(
                "the prefix of exchanges and queues must be some text of at most {PREFIX} bytes, \
                 got {:?}",
                self.prefix
            ));
        }
        let seconds = self.heartbeat.as_secs();
        if seconds == 0 || seconds > u64::from(u16::MAX) {
            return refused(format!(
                "heartbeat must be 1 s to {} s, got {:?}",
                u16::MAX,
                self.heartbeat
            ));
        }
        Ok(())
    }
}

impl From<&Options> for Settings {
    fn from(options: &Options) -> Settings {
        Settings {
            url: options.url.clone(),
            prefix: options.prefix.clone(),
            batch: options.batch,
            outbox: options.outbox,
            max_retry: options.max_retry,
            retry_delay: options.retry_delay,
            mandatory: false,
            connect_timeout: options.connect_timeout,
            response_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(5),
            dedup: options.dedup,
            max_entry: options.max_entry(),
        }
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
