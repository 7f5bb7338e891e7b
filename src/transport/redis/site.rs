//! The way to the server: found, reached, greeted.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, RedisResult};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::address::{Address, Guide, Seat};
use super::sentinel;
use super::settings::Settings;
use crate::clock::Clock;
use crate::error::Result;
use crate::transport::tls::Trust;

/// How long a peer that vanished may go unnoticed while something was sent to it.
#[cfg(target_os = "linux")]
const UNANSWERED: Duration = Duration::from_secs(15);

/// Where the server is, and how it is connected to.
pub(super) struct Site {
    address: Address,
    trust: Option<Trust>,
    /// How long each step of connecting may take.
    pub limit: Duration,
    pub clock: Clock,
    runtime: Handle,
}

/// A connection, as long as somebody holds it.
#[derive(Clone)]
pub(super) struct Wire {
    connection: MultiplexedConnection,
    _driver: Arc<Driver>,
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
        Ok(Site {
            trust: settings.options.trust(address.secure)?,
            address,
            limit: settings.connect_timeout,
            clock: clock.clone(),
            runtime: runtime.clone(),
        })
    }

    /// Whether the way there is by TLS.
    pub fn is_secure(&self) -> bool {
        self.trust.is_some()
    }

    /// A connection to the server that takes what is written.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn connect(&self, response_timeout: Duration) -> RedisResult<Wire> {
        let login = &self.address.login;
        match &self.address.guide {
            Guide::Url(seat) => self.reach(seat, login, response_timeout).await,
            Guide::Sentinels { .. } => {
                sentinel::connect(self, &self.address, response_timeout).await
            }
        }
    }

    /// A connection to the server at `seat`.
    pub async fn reach(
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
                match &self.trust {
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
            Err(elapsed) => {
                let said = format!("{seat} did not answer within {:?}", elapsed.limit);
                return Err(io::Error::new(io::ErrorKind::TimedOut, said).into());
            }
        };
        let driver = Driver(self.runtime.spawn(driver));
        Ok(Wire { connection, _driver: Arc::new(driver) })
    }

    /// Who hangs up on the first words may have expected others.
    fn hint(&self, cause: RedisError, seat: &Seat) -> RedisError {
        if !cause.is_connection_dropped() || crate::transport::tls::wrong(&cause).is_some() {
            return cause;
        }
        let said = match &self.trust {
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

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNANSWERED))?;
    Ok(())
}
