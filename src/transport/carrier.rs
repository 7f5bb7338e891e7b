//! What every transport does.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::capabilities::Capabilities;
use super::letters::Letters;
use super::open::Options;
use super::outcome::Receipt;
use super::parcel::Parcel;
use super::reading::{Reader, Reading, Sink};
use crate::error::Result;

/// A future that a transport gives.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Takes what a transport has to tell of itself: the type of a `system.` event, and its payload.
pub type News = Arc<dyn Fn(&str, serde_json::Value) + Send + Sync>;

/// A way to other processes.
pub trait Transport: Send + Sync + fmt::Debug {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Where replies to this process are sent to.
    fn address(&self) -> &str;

    /// Takes the user, the password and the certificates of these from the next connection on; the
    /// rest of them does not count.
    ///
    /// # Errors
    /// `Kind::Configuration` for a URL that cannot be, or that leads to another broker; nothing has
    /// changed then.
    fn renew(&self, options: &Options) -> Result<()>;

    /// Waits until the broker answers, or says why it will not.
    ///
    /// # Errors
    /// `Kind::Configuration` where it refuses this user, `Kind::Dependency` where it does not
    /// answer within `limit`; both without the password.
    fn connect(&self, limit: Duration) -> Later<'_, Result<()>>;

    /// Hands an event over, to be sent in the order of these calls. What was read-to-be by then
    /// ([`Transport::read`]) is: an event never gets ahead of the reading that came first.
    ///
    /// # Errors
    /// `Kind::MailboxFull` where the outbox is full, and does not make publishers wait;
    /// `Kind::Closed` after the end.
    fn send(&self, parcel: Parcel<'_>) -> Result<Receipt>;

    /// Reads until the reader is dropped. What it reads goes to `sink`; all readings in one
    /// group's name have the same one.
    fn read(&self, reading: Reading, sink: Arc<dyn Sink>) -> Reader;

    /// How many events wait to be sent.
    fn unsent(&self) -> usize;

    /// Why the broker is not there just now, if it is not.
    fn trouble(&self) -> Option<String>;

    /// How many entries it acknowledged because their ids had been handled before.
    fn duplicates(&self) -> u64;

    /// What was given up, and is kept there; none where nothing is.
    fn letters(&self) -> Option<&dyn Letters> {
        None
    }

    /// Takes everything off the broker that stands under its prefix: for tests, on names of their
    /// own.
    ///
    /// # Errors
    /// What the broker said.
    fn wipe(&self) -> Later<'_, Result<()>>;

    /// Sends what waits, for at most `grace`, then ends. How many events were not sent.
    fn close(&self, grace: Duration) -> Later<'_, usize>;
}
