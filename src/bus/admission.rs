//! Waiting for room: what a publisher holds while a full mailbox makes it wait.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::subscription::Subscription;
use crate::error::{Error, Kind, Result};
use crate::event::Event;

const WAITING: u8 = 0;
const ADMITTED: u8 = 1;
const REFUSED: u8 = 2;

/// One place in the line before one mailbox.
pub struct Ticket {
    event: Arc<Event>,
    state: AtomicU8,
    gate: Arc<Gate>,
}

impl Ticket {
    pub(super) fn event(&self) -> &Arc<Event> {
        &self.event
    }

    pub(super) fn admit(&self) {
        self.settle(ADMITTED);
    }

    /// The mailbox closed; it has booked the event.
    pub(super) fn refuse(&self) {
        self.settle(REFUSED);
    }

    fn settle(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        if self.gate.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.gate.waker.wake();
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({})", self.event)
    }
}

#[derive(Debug)]
struct Gate {
    waiting: AtomicUsize,
    waker: AtomicWaker,
}

/// Resolves when every mailbox that was full has taken the event.
///
/// Dropped before that, the event leaves the lines it still stands in and is booked as dropped
/// there.
#[must_use = "dropping an admission gives up the event's places in line"]
pub struct Admission {
    gate: Arc<Gate>,
    lines: Vec<(Arc<Subscription>, Arc<Ticket>)>,
}

impl Admission {
    /// Puts `event` in line before each of `full`.
    pub(super) fn line_up(event: &Arc<Event>, full: Vec<Arc<Subscription>>) -> Admission {
        let gate =
            Arc::new(Gate { waiting: AtomicUsize::new(full.len()), waker: AtomicWaker::new() });
        let lines = full
            .into_iter()
            .map(|subscription| {
                let ticket = Arc::new(Ticket {
                    event: event.clone(),
                    state: AtomicU8::new(WAITING),
                    gate: gate.clone(),
                });
                subscription.line_up(ticket.clone());
                (subscription, ticket)
            })
            .collect();
        Admission { gate, lines }
    }

    /// Whether nothing is left to wait for.
    pub fn is_complete(&self) -> bool {
        self.gate.waiting.load(Ordering::Acquire) == 0
    }

    /// The subscriptions whose mailboxes are still full.
    pub fn waiting_for(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.lines
            .iter()
            .filter(|(_, ticket)| ticket.state.load(Ordering::Acquire) == WAITING)
            .map(|(subscription, _)| subscription)
    }

    /// The error for a publisher that does not wait.
    pub fn full_error(&self) -> Error {
        mailbox_full(self.waiting_for().map(|subscription| &**subscription))
    }
}

/// Names every mailbox that had no room, and says what can be done.
pub(super) fn mailbox_full<'a>(full: impl Iterator<Item = &'a Subscription>) -> Error {
    let names: Vec<String> = full
        .map(|subscription| format!("{} ({} queued)", subscription.name(), subscription.depth()))
        .collect();
    Error::new(
        Kind::MailboxFull,
        "publish",
        format!(
            "no room in the mailbox of {}; the event was dropped there. Await the publish (or \
             call `.wait()` in a thread) to wait for room, or choose another `overflow=`",
            names.join(", ")
        ),
    )
    .with("subscriptions", names.join(", "))
}

impl Future for Admission {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.gate.waker.register(cx.waker());
        if !self.is_complete() {
            return Poll::Pending;
        }
        let refused: Vec<&str> = self
            .lines
            .iter()
            .filter(|(_, ticket)| ticket.state.load(Ordering::Acquire) == REFUSED)
            .map(|(subscription, _)| subscription.name())
            .collect();
        Poll::Ready(if refused.is_empty() {
            Ok(())
        } else {
            Err(Error::new(
                Kind::Closed,
                "publish",
                format!("{} ended while the event waited for room", refused.join(", ")),
            ))
        })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        for (subscription, ticket) in &self.lines {
            if ticket.state.load(Ordering::Acquire) == WAITING {
                subscription.leave_line(ticket);
            }
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Admission({} waiting)", self.gate.waiting.load(Ordering::Relaxed))
    }
}
