//! A connection that is made again when it is lost.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;

use super::Inner;
use super::fault::{self, Fault};
use super::site::Wire;
use crate::error::Result;

/// One connection at a time, for one user who puts up with its loss.
pub(super) struct Link {
    inner: Arc<Inner>,
    response_timeout: Duration,
    connection: Option<Wire>,
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
                let connection = self.inner.site.connect(self.response_timeout).await?;
                self.made += 1;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// The connection, if there is one.
    pub fn current(&self) -> Option<Wire> {
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

    /// Tries to connect until it works, the server refuses this user, or `limit` has passed.
    pub async fn connect(mut self, limit: Duration) -> Result<()> {
        let mut trying = self.inner.patience().within(limit, "Redis", self.inner.site.is_secure());
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
}
