//! How a transport on Redis works.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::transport::outbox::{Bounds, Full};
use crate::transport::window::Window;

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
        let limit = Duration::from_secs(30);
        Settings {
            url: url.into(),
            prefix: "tiebeam".into(),
            consumer: None,
            batch: 100,
            outbox: Bounds { most: 10_000, limit, full: Full::Block },
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            claim_idle: Duration::from_secs(30),
            dedup: Some(Window::default()),
            keep: 100_000,
            max_entry: 1024 * 1024 + 64 * 1024,
            tidy_every: Duration::from_secs(5),
        }
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
