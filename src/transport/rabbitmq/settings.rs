//! How a transport on RabbitMQ works.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::transport::open::Options;

/// The longest prefix: the names made with it have 255 bytes at most.
const PREFIX: usize = 64;

/// How a transport on RabbitMQ works; the options of all transports are its own, too.
#[derive(Clone)]
pub struct Settings {
    /// What every transport is made with. Its batch is also what a reader is given before it has
    /// acknowledged any.
    pub options: Options,
    /// How long the broker may take to answer.
    pub response_timeout: Duration,
    /// The largest message that is taken for an event, in bytes.
    pub max_entry: usize,
}

impl Settings {
    /// The usual figures.
    pub fn new(url: impl Into<String>) -> Settings {
        Settings::from(Options::new(url))
    }

    pub(super) fn check(&self) -> Result<()> {
        self.options.check()?;
        let refused = |said: String| Err(Error::new(Kind::Configuration, "connect", said));
        if self.batch > usize::from(u16::MAX) {
            return refused(format!("batch must be 1 to {}, got {}", u16::MAX, self.batch));
        }
        if self.prefix.is_empty() || self.prefix.len() > PREFIX {
            return refused(format!(
                "the prefix of exchanges and queues must be some text of at most {PREFIX} bytes, \
                 got {:?}",
                self.prefix
            ));
        }
        let seconds = self.heartbeat.as_secs();
        let whole = self.heartbeat == Duration::from_secs(seconds);
        if !whole || seconds == 0 || seconds > u64::from(u16::MAX) {
            return refused(format!(
                "heartbeat must be 1 to {} whole seconds, got {:?}",
                u16::MAX,
                self.heartbeat
            ));
        }
        Ok(())
    }
}

impl From<Options> for Settings {
    fn from(options: Options) -> Settings {
        let max_entry = options.max_entry();
        Settings { options, response_timeout: Duration::from_secs(10), max_entry }
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
