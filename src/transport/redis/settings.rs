//! How a transport on Redis works.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::transport::open::Options;
use crate::transport::outbox::Bounds;
use crate::transport::seen::Window;

/// How a transport on Redis works.
#[derive(Clone)]
pub struct Settings {
    /// Where the server is: `redis://[user:password@]host[:port][/database]`.
    pub url: String,
    /// First part of every key.
    pub prefix: String,
    /// The name of this process among those who read for a group, which no other one may have; a
    /// new one if absent. Who comes again under its old name takes up at once what it left.
    pub consumer: Option<String>,
    /// The most entries of one read, and of one round trip when sending.
    pub batch: usize,
    /// How many events may wait to be sent, for how long, and what happens to more.
    pub outbox: Bounds,
    /// How often an event is sent again that the server did not take, or to which it did not
    /// answer, beside the first time; and how long to wait before that.
    pub max_retry: u32,
    /// See `max_retry`.
    pub retry_delay: Duration,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the server may take to answer.
    pub response_timeout: Duration,
    /// How long an entry must have been left alone before another process takes it over.
    pub claim_idle: Duration,
    /// How long ids are remembered, so that what comes twice is handled once.
    pub dedup: Option<Window>,
    /// How many entries of a stream are kept although every group has handled them: for groups
    /// that begin with the oldest event.
    pub keep: usize,
    /// The largest entry that is taken for an event, in bytes.
    pub max_entry: usize,
    /// How often is looked for what is of no use any more.
    pub tidy_every: Duration,
}

impl Settings {
    /// The usual figures.
    pub fn new(url: impl Into<String>) -> Settings {
        Settings::from(&Options::new(url))
    }

    pub(super) fn check(&self) -> Result<()> {
        let refused = |said: String| Err(Error::new(Kind::Configuration, "connect", said));
        for (name, value) in [("batch", self.batch), ("outbox", self.outbox.most)] {
            if value == 0 {
                return refused(format!("{name} must be at least 1, got 0"));
            }
        }
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return refused(format!(
                "the prefix of the keys must be some text without braces, got {:?}",
                self.prefix
            ));
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

impl From<&Options> for Settings {
    fn from(options: &Options) -> Settings {
        Settings {
            url: options.url.clone(),
            prefix: options.prefix.clone(),
            consumer: None,
            batch: options.batch,
            outbox: options.outbox,
            max_retry: options.max_retry,
            retry_delay: options.retry_delay,
            connect_timeout: options.connect_timeout,
            response_timeout: Duration::from_secs(5),
            claim_idle: options.claim_idle,
            dedup: options.dedup,
            keep: 100_000,
            max_entry: options.max_entry(),
            tidy_every: Duration::from_secs(5),
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
