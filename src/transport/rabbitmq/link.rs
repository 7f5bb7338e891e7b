//! A connection that is made again when it is lost, for all who use it.
//!
//! lapin can do that itself, and does not here: it hides when it does, it leaves channels closed
//! that the broker closed, and it would go on with what nobody waits for any more.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties};
use parking_lot::RwLock;
use rustls_connector::RustlsConnector;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use super::cord::Cord;
use super::fault::{self, Cause, Fault};
use super::settings::Settings;
use crate::clock::Clock;
use crate::error::Result;
use crate::transport::denial::Denial;
use crate::transport::locator::{Locator, elsewhere, refused, warn_of_plain};
use crate::transport::patience::Patience;
use crate::transport::tls::{self, Trust};

/// How long the broker may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// The one broker there is.
const HERE: &str = "";

/// What a URL of RabbitMQ may ask for.
const KNOWN: &[&str] =
    &["auth_mechanism", "channel_max", "connection_timeout", "frame_max", "heartbeat"];

/// Where the broker is, and how it is connected to. It knows the password, and shows nothing.
#[derive(Clone)]
struct Address {
    uri: Arc<AMQPUri>,
    trust: Option<Trust>,
}

impl Address {
    /// What `settings` say.
    ///
    /// # Errors
    /// `Kind::Configuration` for what is no such URL, and for files of TLS that cannot be; no
    /// password is shown.
    fn of(settings: &Settings) -> Result<Address> {
        let parts = Locator::of(&settings.url, KNOWN)?;
        if parts.path.contains('/') {
            return Err(refused("has a `/` in its vhost, which is written `%2F`"));
        }
        let mut uri: AMQPUri = match settings.url.parse() {
            Ok(uri) => uri,
            Err(_) => return Err(refused("is none: write amqp://user:password@host:5672/vhost")),
        };
        let (host, port) = parts.host(uri.scheme.default_port())?;
        // The parser puts `localhost` for a numeric address of version 6.
        (uri.authority.host, uri.authority.port) = (host, port);
        if uri.vhost.is_empty() {
            uri.vhost = "/".into(); // as in `amqp://host/`, which nobody means otherwise
        }
        if uri.vhost.len() > 255 {
            return Err(refused("has a vhost of more than 255 bytes"));
        }
        let heartbeat = u16::try_from(settings.heartbeat.as_secs()).unwrap_or(u16::MAX);
        uri.query.heartbeat.get_or_insert(heartbeat);
        let trust = settings.options.trust(uri.scheme == AMQPScheme::AMQPS)?;
        if trust.is_none() {
            warn_of_plain(&parts, &uri.authority.host);
        }
        Ok(Address { uri: Arc::new(uri), trust })
    }

    /// Whether both lead to one place, whoever goes there.
    fn leads_where(&self, other: &Address) -> bool {
        let place = |uri: &AMQPUri| {
            let authority = &uri.authority;
            (uri.scheme.clone(), authority.host.clone(), authority.port, uri.vhost.clone())
        };
        place(&self.uri) == place(&other.uri)
    }
}

/// The address that all links of a transport share.
#[derive(Clone)]
pub(super) struct Way {
    address: Arc<RwLock<Address>>,
    denial: Arc<Denial<lapin::Error>>,
}

impl Way {
    /// As `settings` say.
    ///
    /// # Errors
    /// As [`Address::of`].
    pub fn of(settings: &Settings, clock: &Clock) -> Result<Way> {
        let address = Arc::new(RwLock::new(Address::of(settings)?));
        Ok(Way { address, denial: Arc::new(Denial::new(clock)) })
    }

    /// Another user, or other certificates, for the next connection.
    ///
    /// # Errors
    /// As [`Address::of`], and `Kind::Configuration` for another place.
    pub fn renew(&self, settings: &Settings) -> Result<()> {
        let address = Address::of(settings)?;
        let mut now = self.address.write();
        if !now.leads_where(&address) {
            return Err(elsewhere());
        }
        *now = address;
        self.denial.over();
        Ok(())
    }

    fn now(&self) -> Address {
        self.address.read().clone()
    }
}

/// One connection, as long as it holds.
pub(super) struct Wire {
    connection: Connection,
    cord: Arc<Cord>,
}

impl Wire {
    /// Whether the broker takes nothing from us just now: its memory, or its disk, is full.
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Resolves when the broker has answered something over it, whatever that is.
    pub async fn is_answered(&self) {
        if let Ok(channel) = self.connection.create_channel().await {
            let _ = channel.close(200, "OK".into()).await;
        }
    }

    /// Ends it at once; what is under way over it fails.
    pub fn end(&self) {
        self.cord.cut();
    }

    fn holds(&self) -> bool {
        self.connection.status().connected()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cord.cut();
    }
}

/// A channel, and what holds its connection; none where it is to be made.
type Kept = Option<(Arc<Wire>, Channel)>;

/// A connection that is made again.
pub(super) struct Link {
    way: Way,
    name: String,
    connect_timeout: Duration,
    response_timeout: Duration,
    clock: Clock,
    runtime: Handle,
    wire: tokio::sync::Mutex<Option<Arc<Wire>>>,
    declaring: Arc<tokio::sync::Mutex<Kept>>,
}

/// The one channel to declare with, as long as somebody uses it.
pub(super) struct Declares {
    channel: Channel,
    _turn: OwnedMutexGuard<Kept>,
}

impl std::ops::Deref for Declares {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Link {
    /// For `purpose`, which the broker shows to its operators. Nothing is connected yet.
    pub fn new(
        (way, settings): (&Way, &Settings),
        purpose: &str,
        clock: &Clock,
        runtime: &Handle,
    ) -> Link {
        Link {
            way: way.clone(),
            name: format!("{} {purpose}", settings.prefix),
            connect_timeout: settings.connect_timeout,
            response_timeout: settings.response_timeout,
            clock: clock.clone(),
            runtime: runtime.clone(),
            wire: tokio::sync::Mutex::new(None),
            declaring: Arc::default(),
        }
    }

    /// The connection; a new one where the last was lost. One at a time is made, whoever asks.
    ///
    /// # Errors
    /// What the broker says, or the lack of one.
    pub async fn get(&self) -> Result<Arc<Wire>, Cause> {
        let mut wire = self.wire.lock().await;
        if let Some(wire) = wire.as_ref().filter(|wire| wire.holds()) {
            return Ok(wire.clone());
        }
        *wire = None;
        let denial = &self.way.denial;
        if let Some(error) = denial.stands(HERE) {
            return Err(error.into());
        }
        let we = denial.we();
        match self.open().await {
            Ok(made) => Ok(wire.insert(Arc::new(made)).clone()),
            Err(Cause::Said(error))
                if Fault::of_error(&error) == Fault::Denied && tls::wrong(&error).is_none() =>
            {
                denial.note(HERE, we, error.clone());
                Err(error.into())
            }
            Err(cause) => Err(cause),
        }
    }

    /// A new channel, and the connection that it is on.
    ///
    /// # Errors
    /// As there.
    pub async fn channel(&self) -> Result<(Arc<Wire>, Channel), Cause> {
        let wire = self.get().await?;
        let channel = self.answer(wire.connection.create_channel()).await?;
        Ok((wire, channel))
    }

    /// The channel to declare with, whoever's turn it is. It stays: where channels come and go, the
    /// end of one is taken for that of the next, which has the same number.
    ///
    /// # Errors
    /// As there.
    pub async fn declares(&self) -> Result<Declares, Cause> {
        let mut turn = self.declaring.clone().lock_owned().await;
        let there = turn.take().filter(|(_, channel)| channel.status().connected());
        let (_, channel) = turn.insert(match there {
            Some(there) => there,
            None => self.channel().await?,
        });
        Ok(Declares { channel: channel.clone(), _turn: turn })
    }

    /// What the broker answers, if it does so in time.
    ///
    /// # Errors
    /// What it says, or its silence.
    pub async fn answer<T>(
        &self,
        asked: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Cause> {
        match self.clock.timeout(self.response_timeout, asked).await {
            Ok(answer) => Ok(answer?),
            Err(elapsed) => Err(Cause::Silence(elapsed.limit)),
        }
    }

    async fn open(&self) -> Result<Wire, Cause> {
        let properties = ConnectionProperties::default()
            .with_connection_name(self.name.as_str().into())
            .with_client_property("product".into(), "tiebeam".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let cord = Arc::new(Cord::default());
        // Whatever becomes of this future, the thread that lapin starts must not wait for ever.
        let guard = Uncut(Some(cord.clone()));
        let (clock, limit, tied) = (self.clock.clone(), self.connect_timeout, cord.clone());
        let Address { uri, trust } = self.way.now();
        let connect = async move |uri: AMQPUri, runtime: async_rs::Runtime<async_rs::Tokio>| {
            let step = |said| move |_| std::io::Error::new(std::io::ErrorKind::TimedOut, said);
            let reached = clock.timeout(limit, reach(&uri, &runtime, &tied)).await;
            let stream =
                reached.map_err(step(format!("it cannot be reached within {limit:?}")))??;
            let Some(trust) = &trust else { return Ok(stream) };
            let connector = RustlsConnector::from(trust.config());
            let secured = stream.into_rustls(&connector, &uri.authority.host);
            let said = format!("no answer to TLS within {limit:?}; does it speak that?");
            Ok(clock.timeout(limit, secured).await.map_err(step(said))??)
        };
        let runtime = async_rs::Runtime::tokio_with_handle(self.runtime.clone());
        let uri = AMQPUri::clone(&uri);
        let connection = Connection::connector(uri, runtime, connect, properties);
        match self.clock.timeout(self.connect_timeout, connection).await {
            Ok(connection) => {
                let connection = connection?;
                guard.keep();
                Ok(Wire { connection, cord })
            }
            Err(elapsed) => Err(Cause::Silence(elapsed.limit)),
        }
    }

    /// Tries to connect until it works, the broker refuses this user, or `limit` has passed.
    ///
    /// # Errors
    /// `Kind::Configuration` or `Kind::Dependency`.
    pub async fn connect(&self, limit: Duration, patience: Patience) -> Result<()> {
        let mut trying = patience.within(limit, "RabbitMQ", self.way.now().trust.is_some());
        loop {
            match trying.once(self.get()).await? {
                Ok(_) => return Ok(()),
                Err(cause) => {
                    let (error, fault) = (fault::error("connect", &cause), Fault::of(&cause));
                    trying.failed(error, fault.passes()).await?;
                }
            }
        }
    }

    /// Ends the connection, over which there was no answer: the next one may bring one. A full
    /// broker says so, and reads again when it has room.
    pub async fn hang_up(&self) {
        let mut wire = self.wire.lock().await;
        if wire.as_ref().is_some_and(|wire| !wire.is_blocked())
            && let Some(wire) = wire.take()
        {
            wire.end();
        }
    }

    /// Says goodbye, if there is somebody to say it to.
    pub async fn close(&self) {
        *self.declaring.lock().await = None;
        let Some(wire) = self.wire.lock().await.take() else { return };
        if wire.holds() && !wire.is_blocked() {
            // Whether it is heard or not, the connection ends.
            let goodbye = wire.connection.close(200, "OK".into());
            let _ = self.clock.timeout(GOODBYE, goodbye).await;
        }
    }
}

type Stream = AsyncTcpStream<<async_rs::Tokio as async_rs::traits::Reactor>::TcpStream>;

/// A stream to the broker, tied to `cord`.
async fn reach(
    uri: &AMQPUri,
    runtime: &async_rs::Runtime<async_rs::Tokio>,
    cord: &Cord,
) -> std::io::Result<Stream> {
    let host = &uri.authority.host;
    let place = runtime.to_socket_addrs((host.clone(), uri.authority.port));
    let stream = AsyncTcpStream::connect(runtime, place).await?;
    if let AsyncTcpStream::Plain(plain) = &stream {
        cord.tie(plain.get_ref())?;
    }
    Ok(stream)
}

/// Cuts a cord, unless it is to be kept.
struct Uncut(Option<Arc<Cord>>);

impl Uncut {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Uncut {
    fn drop(&mut self) {
        if let Some(cord) = &self.0 {
            cord.cut();
        }
    }
}

/// Never shows where the broker is: the password stands beside it.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("name", &self.name).finish_non_exhaustive()
    }
}
