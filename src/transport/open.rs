//! A transport by the URL of its broker.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::carrier::{News, Transport};
use super::outbox::Bounds;
use super::seen::Window;
use crate::clock::Clock;
use crate::config::schema;
use crate::error::{Error, Kind, Result, did_you_mean};

/// Files that TLS needs beside what this system trusts; in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CAs that are trusted, instead of those of this system.
    pub ca: Option<PathBuf>,
    /// The certificate that shows who we are, and what leads from it to its CA.
    pub certificate: Option<PathBuf>,
    /// The key of that, unless it stands in the same file.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        *self == TlsFiles::default()
    }
}

/// What all transports are made with.
#[derive(Clone)]
pub struct Options {
    /// Where the broker is: `redis://[user:password@]host[:port][/database]`, or
    /// `amqp://[user:password@]host[:port][/vhost]`; with TLS `rediss://` and `amqps://`.
    pub url: String,
    /// What TLS needs, where the URL asks for that.
    pub tls: TlsFiles,
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
    /// RabbitMQ: how often broker and process tell each other that they are there; who was silent
    /// for twice that time is gone. Whole seconds; what the URL says goes first.
    pub heartbeat: Duration,
    /// RabbitMQ: whether an event that no queue takes is an error for its publisher.
    pub mandatory: bool,
    /// Redis: how long an event must have been left alone before another process takes it over.
    pub claim_idle: Duration,
    /// Redis: among how many streams the keys of a category are shared out; the same number in
    /// every process.
    pub partitions: usize,
}

impl Options {
    /// The usual figures.
    pub fn new(url: impl Into<String>) -> Options {
        Options {
            url: url.into(),
            tls: TlsFiles::default(),
            prefix: "tiebeam".into(),
            batch: 100,
            max_payload: 1024 * 1024,
            dedup: Some(Window::default()),
            outbox: Bounds::default(),
            max_retry: 3,
            retry_delay: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(5),
            mandatory: false,
            claim_idle: Duration::from_secs(30),
            partitions: 1,
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

    /// Refuses figures that no broker could work with.
    #[cfg(any(feature = "redis", feature = "rabbitmq"))]
    pub(super) fn check(&self) -> Result<()> {
        for (name, value) in [("batch", self.batch), ("outbox", self.outbox.most)] {
            if value == 0 {
                let said = format!("{name} must be at least 1, got 0");
                return Err(Error::new(Kind::Configuration, "connect", said));
            }
        }
        Ok(())
    }

    /// Whom to trust, where the URL asks for TLS.
    #[cfg(any(feature = "redis", feature = "rabbitmq"))]
    pub(super) fn trust(&self, secure: bool) -> Result<Option<super::tls::Trust>> {
        if secure {
            return super::tls::Trust::new(&self.tls).map(Some);
        }
        if self.tls.is_empty() {
            return Ok(None);
        }
        let said = "tls goes with a URL that asks for it: `rediss://`, `rediss+sentinel://`, \
                    `rediss+cluster://` or `amqps://`";
        Err(Error::new(Kind::Configuration, "connect", said))
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
    let scheme = scheme.to_ascii_lowercase();
    match schema::broker_of(&scheme) {
        #[cfg(feature = "redis")]
        Some("redis") => {
            let settings = super::redis::Settings::from(options.clone());
            Ok(Arc::new(super::redis::Redis::new(settings, clock, runtime, news)?))
        }
        #[cfg(feature = "rabbitmq")]
        Some("rabbitmq") => {
            let settings = super::rabbitmq::Settings::from(options.clone());
            Ok(Arc::new(super::rabbitmq::RabbitMq::new(settings, clock, runtime, news)?))
        }
        _ => refused(unknown_scheme(&scheme)),
    }
}

fn unknown_scheme(scheme: &str) -> String {
    let known: Vec<&str> =
        schema::BROKERS.iter().flat_map(|broker| broker.schemes).copied().collect();
    let shown: Vec<_> = known.iter().map(|scheme| format!("`{scheme}://`")).collect();
    let (last, others) = shown.split_last().expect("there are brokers");
    // What stands there may be a part of a password, where there is no scheme: it is not shown.
    let hint = did_you_mean(scheme, known.iter().copied())
        .map(|near| format!("; did you mean `{near}://`?"))
        .unwrap_or_default();
    format!("the URL of a broker begins with {} or {last}{hint}", others.join(", "))
}
