//! Waiting for room: what a publisher holds while a full mailbox makes it wait.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::dedup::Dedup;
use super::subscription::Subscription;
use super::ticket::{Gate, Ticket};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Id};
use crate::transport::{Fate, Receipt, outbox};

/// An event on its way, and what its publisher may have to wait for.
#[derive(Debug)]
#[must_use = "the admission inside is the publisher's place in line"]
pub struct Published {
    /// The event as it was stamped.
    pub event: Arc<Event>,
    /// Present when a mailbox was full and its policy is to wait.
    pub admission: Option<Admission>,
    /// Whether an event of this id was published before, so that this one goes nowhere.
    pub duplicate: bool,
}

/// Resolves when every mailbox that was full has taken the event, or the broker has.
///
/// Dropped before that, the event leaves the lines it still stands in and is booked as dropped
/// there; one that is on its way to the broker goes on.
#[must_use = "dropping an admission gives up the event's places in line"]
pub struct Admission(Way);

enum Way {
    /// In a box: hardly an event has any, and what tells of each is moved about.
    Lines(Box<Places>),
    Sent(Receipt),
}

/// A mailbox, and the event's place before it.
type Line = (Arc<Subscription>, Arc<Ticket>);

/// Places in line before full mailboxes.
struct Places {
    gate: Arc<Gate>,
    lines: Vec<Line>,
    /// Where the event's id is remembered.
    remembered: Option<(Arc<Dedup>, Id)>,
}

impl Admission {
    /// Puts `event` in line before each of `full`.
    pub(super) fn line_up(event: &Arc<Event>, full: Vec<Arc<Subscription>>) -> Admission {
        let gate = Gate::new(full.len());
        let lines = full
            .into_iter()
            .map(|subscription| {
                let ticket = Ticket::new(event.clone(), gate.clone());
                subscription.line_up(ticket.clone());
                (subscription, ticket)
            })
            .collect();
        Admission(Way::Lines(Box::new(Places { gate, lines, remembered: None })))
    }

    /// The event is on its way to the broker.
    pub(super) fn sent(receipt: Receipt) -> Admission {
        Admission(Way::Sent(receipt))
    }

    /// Has the event's id forgotten if not every mailbox takes the event: its publisher may then
    /// try again.
    pub(super) fn forget_unless_complete(&mut self, dedup: Arc<Dedup>, id: Id) {
        if let Way::Lines(places) = &mut self.0 {
            places.remembered = Some((dedup, id));
        }
    }

    /// Whether nothing is left to wait for.
    pub fn is_complete(&self) -> bool {
        match &self.0 {
            Way::Lines(places) => places.gate.waiting() == 0,
            Way::Sent(receipt) => receipt.is_settled(),
        }
    }

    /// Whether the event goes nowhere unless somebody waits for that.
    pub fn waits_for_room(&self) -> bool {
        match &self.0 {
            Way::Lines(_) => !self.is_complete(),
            Way::Sent(receipt) => receipt.waits_for_room(),
        }
    }

    /// What is known of the event where it is the broker that takes it.
    pub fn fate(&self) -> Option<Fate> {
        match &self.0 {
            Way::Lines(_) => None,
            Way::Sent(receipt) => Some(receipt.fate()),
        }
    }

    /// The subscriptions whose mailboxes are still full.
    pub fn waiting_for(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        let lines = match &self.0 {
            Way::Lines(places) => &places.lines[..],
            Way::Sent(_) => &[],
        };
        lines.iter().filter(|(_, ticket)| ticket.is_waiting()).map(|(subscription, _)| subscription)
    }

    /// Does not wait: the event is given up where there is still no room.
    ///
    /// # Errors
    /// Where that is so, with the names of the mailboxes; and where one has ended meanwhile. What
    /// has found room since, and what is on its way to the broker, is taken.
    pub fn give_up(self) -> Result<()> {
        match self.0 {
            Way::Lines(mut places) => places.leave(),
            Way::Sent(receipt) if receipt.leave() => Err(outbox::full()),
            Way::Sent(_) => Ok(()),
        }
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.0 {
            Way::Lines(places) => places.poll(cx),
            Way::Sent(receipt) => Pin::new(receipt).poll(cx),
        }
    }
}

impl Places {
    fn poll(&self, cx: &Context<'_>) -> Poll<Result<()>> {
        self.gate.register(cx.waker());
        if self.gate.waiting() > 0 {
            return Poll::Pending;
        }
        Poll::Ready(ended(&self.lines).map_or(Ok(()), Err))
    }

    /// Leaves the lines; the error says where the event was not taken.
    fn leave(&mut self) -> Result<()> {
        let lines = std::mem::take(&mut self.lines);
        // In this order: whoever finds nothing to leave was admitted or refused by now.
        let left =
            |(subscription, ticket): &&Line| ticket.is_waiting() && subscription.leave_line(ticket);
        let left: Vec<&Subscription> = lines.iter().filter(left).map(|(s, _)| &**s).collect();
        let error = match left.is_empty() {
            true => ended(&lines),
            false => Some(mailbox_full(left.into_iter())),
        };
        if let Some((dedup, id)) = self.remembered.take()
            && error.is_some()
        {
            dedup.forget(&id);
        }
        error.map_or(Ok(()), Err)
    }
}

/// The error where mailboxes ended while the event stood in line before them.
fn ended(lines: &[Line]) -> Option<Error> {
    let refused = lines.iter().filter(|(_, ticket)| ticket.is_refused());
    let refused: Vec<&str> = refused.map(|(subscription, _)| subscription.name()).collect();
    (!refused.is_empty()).then(|| {
        let message = format!("{} ended while the event waited for room", refused.join(", "));
        Error::new(Kind::Closed, "publish", message)
    })
}

impl Drop for Places {
    fn drop(&mut self) {
        let _ = self.leave(); // nobody is there to be told
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Lines(places) => write!(f, "Admission({} waiting)", places.gate.waiting()),
            Way::Sent(_) => f.write_str("Admission(sent)"),
        }
    }
}
