//! The way to the server: found, reached, greeted.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, RedisResult};
use parking_lot::RwLock;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::address::{Address, Guide, Seat};
use super::cluster::Cluster;
use super::fault::Fault;
use super::features::{self, Features};
use super::sentinel;
use super::settings::Settings;
use super::slot;
use crate::clock::Clock;
use crate::error::Result;
use crate::transport::denial::Denial;
use crate::transport::locator::elsewhere;
use crate::transport::tls::Trust;

/// How long a peer that vanished may go unnoticed while something was sent to it.
#[cfg(target_os = "linux")]
const UNANSWERED: Duration = Duration::from_secs(15);

/// Where the server is, and how it is connected to.
pub(super) struct Site {
    way: RwLock<Arc<Way>>,
    /// What is known of it, where it is a cluster.
    cluster: Option<Cluster>,
    /// Whether a server that should stand alone has spoken of a cluster.
    exposed: AtomicBool,
    /// How long a server may take to answer.
    pub response_timeout: Duration,
    /// How long each step of connecting may take.
    pub limit: Duration,
    pub clock: Clock,
    runtime: Handle,
    denial: Denial<RedisError>,
}

/// Where it is and who we are there, for the next connection.
struct Way {
    address: Address,
    trust: Option<Trust>,
}

/// A connection, as long as somebody holds it.
#[derive(Clone)]
pub(super) struct Wire {
    connection: MultiplexedConnection,
    /// Where it leads.
    pub seat: Arc<Seat>,
    /// What the server there can do.
    pub features: Arc<Features>,
    driver: Arc<Driver>,
}

impl Wire {
    /// Whether it is this one.
    pub fn is(&self, other: &Wire) -> bool {
        Arc::ptr_eq(&self.driver, &other.driver)
    }
}

/// Reads and writes for a connection. A server that still has a blocked command of ours would give
/// entries to nobody: the socket ends with whoever holds this.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Deref for Wire {
    type Target = MultiplexedConnection;

    fn deref(&self) -> &MultiplexedConnection {
        &self.connection
    }
}

impl DerefMut for Wire {
    fn deref_mut(&mut self) -> &mut MultiplexedConnection {
        &mut self.connection
    }
}

impl Site {
    /// As `settings` say. Nothing is connected yet.
    ///
    /// # Errors
    /// `Kind::Configuration` for a URL, or for files of TLS, that cannot be.
    pub fn new(settings: &Settings, clock: &Clock, runtime: &Handle) -> Result<Site> {
        let address = Address::of(&settings.url)?;
        let cluster = match &address.guide {
            Guide::Cluster(seeds) => Some(Cluster::new(seeds.clone())),
            _ => None,
        };
        Ok(Site {
            way: RwLock::new(Arc::new(Way {
                trust: settings.options.trust(address.secure)?,
                address,
            })),
            cluster,
            exposed: AtomicBool::new(false),
            response_timeout: settings.response_timeout,
            limit: settings.connect_timeout,
            clock: clock.clone(),
            runtime: runtime.clone(),
            denial: Denial::new(clock),
        })
    }

    /// Another user, or other certificates, for the next connection.
    ///
    /// # Errors
    /// As [`Site::new`], and `Kind::Configuration` for another place.
    pub fn renew(&self, settings: &Settings) -> Result<()> {
        let address = Address::of(&settings.url)?;
        let trust = settings.options.trust(address.secure)?;
        let mut way = self.way.write();
        if !way.address.leads_where(&address) {
            return Err(elsewhere());
        }
        *way = Arc::new(Way { address, trust });
        self.denial.over();
        Ok(())
    }

    fn way(&self) -> Arc<Way> {
        self.way.read().clone()
    }

    /// Whether the way there is by TLS.
    pub fn is_secure(&self) -> bool {
        self.way().trust.is_some()
    }

    /// Whether there are many servers, each with a part of the keys.
    pub fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// The slot of a key; of no interest outside of a cluster.
    pub fn slot(&self, key: &str) -> u16 {
        if self.is_cluster() { slot::of(key) } else { 0 }
    }

    /// A connection to the server that takes what is written into `slot`.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn connect(&self, slot: u16, response_timeout: Duration) -> RedisResult<Wire> {
        let way = self.way();
        match (&self.cluster, &way.address.guide) {
            (Some(cluster), _) => cluster.connect(self, slot, response_timeout).await,
            (None, Guide::Url(seat)) if self.exposed.load(Ordering::Relaxed) => {
                Err(features::of_cluster(seat))
            }
            (None, Guide::Url(seat)) => self.reach_server(seat, response_timeout).await,
            (None, _) => sentinel::connect(self, &way.address, response_timeout).await,
        }
    }

    /// The same, over the connection that all share who can; outside of a cluster it is one's own.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn share(&self, slot: u16) -> RedisResult<Wire> {
        match &self.cluster {
            Some(cluster) => cluster.share(self, slot).await,
            None => self.connect(slot, self.response_timeout).await,
        }
    }

    /// Connections to all servers that take what is written.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn all(&self) -> RedisResult<Vec<Wire>> {
        match &self.cluster {
            Some(cluster) => cluster.all(self).await,
            None => Ok(vec![self.connect(0, self.response_timeout).await?]),
        }
    }

    /// What was asked for over `wire` failed like this.
    pub fn failed(&self, wire: &Wire, cause: &RedisError) {
        match &self.cluster {
            Some(cluster) => cluster.failed(wire, cause),
            None if Fault::of(cause) == Fault::Moved => self.exposed.store(true, Ordering::Relaxed),
            None => {}
        }
    }

    /// A connection to the server at `seat` that has the data, if it can do what is needed.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn reach_server(&self, seat: &Seat, response_timeout: Duration) -> RedisResult<Wire> {
        let mut wire = self.reach(seat, &self.way().address.login, response_timeout).await?;
        let asking = Features::ask(&mut wire, self, seat);
        let features = match self.clock.timeout(self.limit, asking).await {
            Ok(answer) => answer?,
            Err(elapsed) => return Err(silent(seat, elapsed.limit).into()),
        };
        wire.features = Arc::new(features);
        Ok(wire)
    }

    /// A connection to the server at `seat`; one that would not have us is not asked again soon.
    pub async fn reach(
        &self,
        seat: &Seat,
        login: &RedisConnectionInfo,
        response_timeout: Duration,
    ) -> RedisResult<Wire> {
        let whom = seat.to_string();
        if let Some(cause) = self.denial.stands(&whom) {
            return Err(cause);
        }
        let we = self.denial.we();
        let reached = self.try_to_reach(seat, login, response_timeout).await;
        if let Err(cause) = &reached
            && Fault::of(cause) == Fault::Denied
            && crate::transport::tls::wrong(cause).is_none()
        {
            self.denial.note(&whom, we, cause.clone());
        }
        reached
    }

    async fn try_to_reach(
        &self,
        seat: &Seat,
        login: &RedisConnectionInfo,
        response_timeout: Duration,
    ) -> RedisResult<Wire> {
        match seat {
            Seat::Tcp(host, port) => {
                let connecting = TcpStream::connect((host.as_str(), *port));
                let stream = self.step(connecting, || format!("{seat} cannot be reached")).await?;
                prepare(&stream)?;
                match &self.way().trust {
                    Some(trust) => {
                        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                        let tls = TlsConnector::from(trust.config()).connect(name, stream);
                        let silent =
                            || format!("{seat} does not answer to TLS; does it speak that?");
                        let stream = self.step(tls, silent).await?;
                        self.greet(stream, seat, login, response_timeout).await
                    }
                    None => self.greet(stream, seat, login, response_timeout).await,
                }
            }
            #[cfg(unix)]
            Seat::Unix(path) => {
                let connecting = tokio::net::UnixStream::connect(path);
                let stream = self.step(connecting, || format!("{seat} cannot be reached")).await?;
                self.greet(stream, seat, login, response_timeout).await
            }
            #[cfg(not(unix))]
            Seat::Unix(_) => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        }
    }

    /// One step of connecting, within the time for that.
    async fn step<T>(
        &self,
        step: impl Future<Output = io::Result<T>>,
        silent: impl FnOnce() -> String,
    ) -> io::Result<T> {
        match self.clock.timeout(self.limit, step).await {
            Ok(done) => done,
            Err(elapsed) => {
                let said = format!("{} within {:?}", silent(), elapsed.limit);
                Err(io::Error::new(io::ErrorKind::TimedOut, said))
            }
        }
    }

    /// Says who we are, and which database it is about.
    async fn greet(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        seat: &Seat,
        login: &RedisConnectionInfo,
        response_timeout: Duration,
    ) -> RedisResult<Wire> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(response_timeout));
        let greeting = MultiplexedConnection::new_with_config(login, stream, config);
        let (connection, driver) = match self.clock.timeout(self.limit, greeting).await {
            Ok(greeted) => greeted.map_err(|cause| self.hint(cause, seat))?,
            Err(elapsed) => return Err(silent(seat, elapsed.limit).into()),
        };
        let driver = Arc::new(Driver(self.runtime.spawn(driver)));
        let (seat, features) = (Arc::new(seat.clone()), Arc::default());
        Ok(Wire { connection, seat, features, driver })
    }

    /// Who hangs up on the first words may have expected others.
    fn hint(&self, cause: RedisError, seat: &Seat) -> RedisError {
        if !cause.is_connection_dropped() || crate::transport::tls::wrong(&cause).is_some() {
            return cause;
        }
        let said = match &self.way().trust {
            None => {
                "hung up; does it speak TLS, so that the URL begins with `rediss://`, or has it as \
                 many clients as its `maxclients` allows?"
            }
            Some(_) => "hung up after the TLS handshake; does it want a certificate of ours?",
        };
        let kind = io::ErrorKind::ConnectionReset;
        io::Error::new(kind, format!("{seat} {said} ({cause})")).into()
    }
}

fn silent(seat: &Seat, limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{seat} did not answer within {limit:?}"))
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNANSWERED))?;
    Ok(())
}
