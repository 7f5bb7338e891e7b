//! A transport by the URL of its broker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::carrier::{News, Transport};
use super::outbox::Bounds;
use super::seen::Window;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

/// What all transports are made with.
#[derive(Clone)]
pub struct Options {
    /// Where the broker is: `redis://[user:password@]host[:port][/database]`, or
    /// `amqp://[user:password@]host[:port][/vhost]`.
    pub url: String,
    /// First part of every name on the broker.
    pub prefix: String,
    /// The most events of one read, and of one round trip when sending.
    pub batch: usize,
    /// The largest payload, in bytes.
    pub max_payload: usize,
    /// How long ids are remembered, so that what comes twice is handled once.
    pub dedup: Option<Window>,
    /// How many events may wait to be sent, for how long, and what happens to more.
    pub outbox: Bounds,
    /// How often an event is sent again that the broker did not take, beside the first time.
    pub max_retry: u32,
    /// How long to wait before that.
    pub retry_delay: Duration,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long an event must have been left alone before another process takes it over.
    pub claim_idle: Duration,
}

impl Options {
    /// The usual figures.
    pub fn new(url: impl Into<String>) -> Options {
        Options {
            url: url.into(),
            prefix: "tiebeam".into(),
            batch: 100,
            max_payload: 1024 * 1024,
            dedup: Some(Window::default()),
            outbox: Bounds::default(),
            max_retry: 3,
            retry_delay: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(10),
            claim_idle: Duration::from_secs(30),
        }
    }
}

/// Never shows the password.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = crate::config::redact::text(&self.url);
        f.debug_struct("Options")
            .field("url", &url)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// What the metadata of an event, and all else beside its payload, may take.
const ENVELOPE: usize = 64 * 1024;

impl Options {
    /// The largest entry that is taken for an event, in bytes.
    pub fn max_entry(&self) -> usize {
        self.max_payload.saturating_add(ENVELOPE)
    }
}

/// The transport for the broker at `options.url`; its tasks run on `runtime`. Nothing is connected
/// yet.
///
/// # Errors
/// `Kind::Configuration` for a URL of no broker, and for figures that cannot be.
#[cfg_attr(not(any(feature = "redis", feature = "rabbitmq")), allow(unused_variables))] // without a broker, nothing is made
pub fn open(
    options: &Options,
    clock: Clock,
    runtime: Handle,
    news: News,
) -> Result<Arc<dyn Transport>> {
    let refused = |said: String| Err(Error::new(Kind::Configuration, "connect", said));
    if clock.is_virtual() {
        return refused(
            "a broker lives in real time; virtual time goes with a bus in memory".into(),
        );
    }
    let scheme = options.url.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme.to_ascii_lowercase().as_str() {
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "unix" | "redis+unix" => {
            let settings = super::redis::Settings::from(options);
            Ok(Arc::new(super::redis::Redis::new(settings, clock, runtime, news)?))
        }
        #[cfg(feature = "rabbitmq")]
        "amqp" | "amqps" => {
            let settings = super::rabbitmq::Settings::from(options);
            Ok(Arc::new(super::rabbitmq::RabbitMq::new(settings, clock, runtime, news)?))
        }
        _ => refused(
            "the URL of a broker begins with `redis://`, `rediss://`, `amqp://` or `amqps://`"
                .into(),
        ),
    }
}
