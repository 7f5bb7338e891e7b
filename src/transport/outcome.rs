//! What became of an event that was handed to a broker.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::error::{Error, Kind, Result};

/// How sure it is that the broker has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has it.
    Accepted,
    /// It does not have it.
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

/// Resolves when the broker has the event, or will not have it. Dropping it changes nothing,
/// unless the event still waits for room ([`Receipt::waits_for_room`]): then it is not sent.
#[must_use = "nobody else says whether the broker has the event"]
pub struct Receipt(Arc<Mutex<State>>);

/// What is known of an event that was handed over, for whoever does not wait for it.
pub struct Fate(Arc<Mutex<State>>);

impl Fate {
    /// Whether the broker has it.
    pub fn is_accepted(&self) -> bool {
        self.0.lock().accepted
    }

    /// Whether that is known.
    pub fn is_known(&self) -> bool {
        self.0.lock().over
    }
}

/// Settles one [`Receipt`].
pub struct Pending(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    settled: Option<Result<()>>,
    /// Whether it was settled, although the result may have been taken.
    over: bool,
    /// Whether the broker has the event.
    accepted: bool,
    waker: Option<Waker>,
    /// Whether it waits for room in the outbox.
    in_line: bool,
    /// Whether nobody waits for it any more.
    dropped: bool,
}

impl Receipt {
    /// A receipt, and who settles it.
    pub fn new() -> (Pending, Receipt) {
        let state = Arc::<Mutex<State>>::default();
        (Pending(state.clone()), Receipt(state))
    }

    /// Whether the outbox was full, so that the event waits for room in it.
    pub fn waits_for_room(&self) -> bool {
        self.0.lock().in_line
    }

    /// Does not wait for room; whether it would have had to. The event is not sent, then.
    pub fn leave(&self) -> bool {
        let mut state = self.0.lock();
        state.dropped |= state.in_line;
        state.in_line && !state.over
    }

    /// Whether it is known what became of the event.
    pub fn is_settled(&self) -> bool {
        self.0.lock().over
    }

    /// What is known of the event, now and later.
    pub fn fate(&self) -> Fate {
        Fate(self.0.clone())
    }
}

impl Pending {
    /// Says what became of the event; only the first word counts.
    pub fn settle(&self, result: Result<()>) {
        let mut state = self.0.lock();
        if state.over {
            return;
        }
        (state.over, state.in_line, state.accepted) = (true, false, result.is_ok());
        state.settled = Some(result);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether that has been said.
    pub fn is_settled(&self) -> bool {
        self.0.lock().over
    }

    /// It has to wait for room, or has it now.
    pub(super) fn set_in_line(&self, in_line: bool) {
        self.0.lock().in_line = in_line;
    }

    /// Whether whoever waited for room has gone away.
    pub(super) fn has_left(&self) -> bool {
        let state = self.0.lock();
        state.in_line && state.dropped
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_settled() {
            let said = "the transport ended before the event was sent";
            self.settle(Err(Error::new(Kind::Closed, "publish", said).with("outcome", "refused")));
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.dropped = true;
        let waker = state.waker.take();
        drop(state);
        drop(waker); // anybody's code
    }
}

impl Future for Receipt {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = self.0.lock();
        if let Some(settled) = state.settled.take() {
            return Poll::Ready(settled);
        }
        if state.over {
            return Poll::Ready(Ok(())); // polled after its end
        }
        let known = state.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        let before = if known { None } else { state.waker.replace(cx.waker().clone()) };
        drop(state);
        drop(before); // a waker is anybody's code
        Poll::Pending
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

impl fmt::Debug for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fate")
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}
