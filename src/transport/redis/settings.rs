//! How a transport on Redis works.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::partition;
use crate::error::{Error, Kind, Result};
use crate::transport::open::Options;

/// How a transport on Redis works; the options of all transports are its own, too.
#[derive(Clone)]
pub struct Settings {
    /// What every transport is made with.
    pub options: Options,
    /// The name of this process among those who read for a group, which no other one may have; a
    /// new one if absent. Who comes again under its old name takes up at once what it left.
    pub consumer: Option<String>,
    /// How long the server may take to answer.
    pub response_timeout: Duration,
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
        Settings::from(Options::new(url))
    }

    pub(super) fn check(&self) -> Result<()> {
        self.options.check()?;
        let refused = |said: String| Err(Error::new(Kind::Configuration, "connect", said));
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return refused(format!(
                "the prefix of the keys must be some text without braces, got {:?}",
                self.prefix
            ));
        }
        if self.mandatory {
            return refused(
                "mandatory goes with RabbitMQ: on Redis an event stays in its stream, whoever reads \
                 it later"
                    .into(),
            );
        }
        if !(1..=partition::MOST).contains(&self.partitions) {
            return refused(format!(
                "partitions must be 1 to {}, got {}",
                partition::MOST,
                self.partitions
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

impl From<Options> for Settings {
    fn from(options: Options) -> Settings {
        let max_entry = options.max_entry();
        Settings {
            options,
            consumer: None,
            response_timeout: Duration::from_secs(5),
            keep: 100_000,
            max_entry,
            tidy_every: Duration::from_secs(5),
        }
    }
}

impl Deref for Settings {
    type Target = Options;

    fn deref(&self) -> &Options {
        &self.options
    }
}

/// Never shows the password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("options", &self.options).finish_non_exhaustive()
    }
}
