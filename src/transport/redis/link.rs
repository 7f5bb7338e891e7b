//! A connection that is made again when it is lost.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::{AsyncConnectionConfig, Client, IntoConnectionInfo};

use super::Inner;
use super::fault::{self, Fault};
use crate::clock::Instant;
use crate::error::{Error, Kind, Result};

/// How long a peer that vanished may go unnoticed while something was sent to it.
const UNANSWERED: Duration = Duration::from_secs(15);

/// A client for the server at `url`.
///
/// # Errors
/// `Kind::Configuration` for what is no such URL; it is not shown.
pub(super) fn client(url: &str) -> Result<Client> {
    let refused = |cause: ::redis::RedisError| {
        let said = format!(
            "not a URL of a Redis server: {}",
            crate::config::redact::text(&cause.to_string())
        );
        Error::new(Kind::Configuration, "connect", said)
    };
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNANSWERED);
    let info = url.into_connection_info().map_err(refused)?.set_tcp_settings(settings);
    Client::open(info).map_err(refused)
}

/// One connection at a time, for one user who puts up with its loss.
pub(super) struct Link {
    inner: Arc<Inner>,
    response_timeout: Duration,
    connection: Option<MultiplexedConnection>,
    /// How often a connection was made.
    made: u64,
}

impl Link {
    pub fn new(inner: &Arc<Inner>, response_timeout: Duration) -> Link {
        Link { inner: inner.clone(), response_timeout, connection: None, made: 0 }
    }

    /// The connection; a new one where the last was lost.
    ///
    /// # Errors
    /// What the server says, or the lack of one.
    pub async fn get(&mut self) -> ::redis::RedisResult<&mut MultiplexedConnection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = self.open().await?;
                self.made += 1;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// The connection, if there is one.
    pub fn current(&self) -> Option<MultiplexedConnection> {
        self.connection.clone()
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.connection.is_some()
    }

    /// Which connection this is: rises each time one is made.
    pub fn number(&self) -> u64 {
        self.made
    }

    /// What was in use failed like this: a connection that is of no use is given up.
    pub fn failed(&mut self, fault: Fault) {
        if matches!(fault, Fault::Lost | Fault::Demoted) {
            self.connection = None;
        }
    }

    async fn open(&self) -> ::redis::RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.inner.settings.connect_timeout))
            .set_response_timeout(Some(self.response_timeout));
        self.inner.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Tries to connect until it works, the server refuses this user, or `limit` has passed.
    pub async fn connect(mut self, limit: Duration) -> Result<()> {
        let clock = self.inner.clock.clone();
        let until: Instant = clock.now().saturating_add(limit);
        let mut patience = self.inner.patience();
        let mut last = None;
        loop {
            let left = until.saturating_since(clock.now());
            let cause = match clock.timeout(left, self.get()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(cause)) => cause,
                Err(_) => {
                    return Err(last.unwrap_or_else(|| {
                        let said = format!("Redis did not answer within {limit:?}");
                        Error::new(Kind::Dependency, "connect", said)
                    }));
                }
            };
            let left = until.saturating_since(clock.now());
            let again = Fault::of(&cause).passes()
                && clock.timeout(left, patience.wait()).await.unwrap_or(false);
            let error = fault::error("connect", &cause);
            if !again {
                return Err(error);
            }
            last = Some(error);
        }
    }
}
