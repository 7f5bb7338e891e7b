//! A connection that is made again when it is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, RedisResult};

use super::Inner;
use super::fault::{self, Fault};
use super::site::Wire;
use crate::clock::Instant;
use crate::error::Result;
use crate::transport::patience::Patience;

/// One connection at a time, for one user who puts up with its loss. It leads to whoever has a
/// key: in a cluster that is one of many.
pub(super) struct Link {
    inner: Arc<Inner>,
    slot: u16,
    /// How long the server may take to answer; absent where the connection is that of all.
    response_timeout: Option<Duration>,
    connection: Option<Wire>,
    /// How often a connection was made.
    made: u64,
}

impl Link {
    /// To whoever has `key`, over a connection of its own.
    pub fn new(inner: &Arc<Inner>, key: &str, response_timeout: Duration) -> Link {
        let response_timeout = Some(response_timeout);
        Link { response_timeout, ..Link::shared(inner, key) }
    }

    /// To whoever has `key`, for one who never has the server wait: in a cluster, over the one
    /// connection to that node, so that there are not more than there are nodes.
    pub fn shared(inner: &Arc<Inner>, key: &str) -> Link {
        let slot = inner.site.slot(key);
        Link { inner: inner.clone(), slot, response_timeout: None, connection: None, made: 0 }
    }

    /// The connection; a new one where the last was lost.
    ///
    /// # Errors
    /// What the server says, or the lack of one.
    pub async fn get(&mut self) -> RedisResult<&mut MultiplexedConnection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let site = &self.inner.site;
                let connection = match self.response_timeout {
                    Some(limit) => site.connect(self.slot, limit).await?,
                    None => site.share(self.slot).await?,
                };
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

    /// Whether a read that brought nothing tells the server that its reader is there.
    pub fn counts_empty_reads(&self) -> bool {
        self.connection.as_ref().is_some_and(|wire| wire.features.counts_empty_reads())
    }

    /// Which connection this is: rises each time one is made.
    pub fn number(&self) -> u64 {
        self.made
    }

    /// What was in use failed like this: a connection that is of no use is given up.
    pub fn failed(&mut self, cause: &RedisError) {
        if Fault::of(cause).parts()
            && let Some(wire) = self.connection.take()
        {
            self.inner.site.failed(&wire, cause);
        }
    }

    /// Does without the connection, which may be good for others.
    pub fn let_go(&mut self) {
        self.connection = None;
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

/// How long what somebody asks for once may take, while the nodes of a cluster change.
const LIMIT: Duration = Duration::from_secs(10);

/// Links for one user of many keys: one where there is one server, else one for each key.
pub(super) struct Links {
    inner: Arc<Inner>,
    links: HashMap<Arc<str>, Link>,
    patience: Patience,
    until: Instant,
}

impl Links {
    pub fn new(inner: &Arc<Inner>) -> Links {
        Links {
            inner: inner.clone(),
            links: HashMap::new(),
            patience: inner.patience(),
            until: inner.clock.now().saturating_add(LIMIT),
        }
    }

    /// That to whoever has `key`.
    pub fn to(&mut self, key: &str) -> &mut Link {
        let inner = &self.inner;
        let name = if inner.site.is_cluster() { key } else { "" };
        self.links.entry(name.into()).or_insert_with(|| Link::shared(inner, key))
    }

    /// What was in use failed like this: connections that are of no use are given up.
    pub fn failed(&mut self, cause: &RedisError) {
        self.links.values_mut().for_each(|link| link.failed(cause));
    }

    /// It failed, and may be tried again, since nodes of a cluster come and go: waits for that.
    ///
    /// # Errors
    /// `cause`, where another try is of no use, or there is no time for it.
    pub async fn wait_after(&mut self, cause: RedisError) -> RedisResult<()> {
        self.failed(&cause);
        let passes = self.inner.site.is_cluster() && Fault::of(&cause).passes();
        let in_time = self.inner.clock.now() < self.until;
        if passes && in_time && self.patience.wait().await { Ok(()) } else { Err(cause) }
    }
}
