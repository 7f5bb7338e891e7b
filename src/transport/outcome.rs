//! What became of an event that was handed to a broker.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::error::{Error, Kind, Result};

/// How sure it is that the broker has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has it.
    Accepted,
    /// It does not have it, and said so.
    Refused,
    /// Nobody knows: the answer got lost. Sent again, it may be there twice under one id.
    Unknown,
}

impl Outcome {
    /// The name in errors and ledgers.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Refused => "refused",
            Outcome::Unknown => "unknown",
        }
    }

    /// What an error of [`Receipt`] says of the event.
    pub fn of(error: &Error) -> Outcome {
        match error.get("outcome") {
            Some("unknown") => Outcome::Unknown,
            _ => Outcome::Refused,
        }
    }
}

/// Resolves when the broker has the event, or will not have it. Dropping it changes nothing.
#[must_use = "nobody else says whether the broker has the event"]
pub struct Receipt(oneshot::Receiver<Result<()>>);

/// Settles one [`Receipt`].
pub(super) struct Pending(oneshot::Sender<Result<()>>);

impl Receipt {
    pub(super) fn new() -> (Pending, Receipt) {
        let (sender, receiver) = oneshot::channel();
        (Pending(sender), Receipt(receiver))
    }
}

impl Pending {
    /// Whoever handed the event over may have stopped waiting.
    pub fn settle(self, result: Result<()>) {
        let _ = self.0.send(result);
    }
}

impl Future for Receipt {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll(cx).map(|settled| {
            settled.unwrap_or_else(|_| {
                let said = "the transport ended before the event was sent";
                Err(Error::new(Kind::Closed, "publish", said).with("outcome", "refused"))
            })
        })
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}
