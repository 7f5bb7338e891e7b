//! A place in the line before a full mailbox.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use futures_util::task::AtomicWaker;

use crate::event::Event;
use crate::sync::{AtomicU8, AtomicUsize, Ordering};

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
    pub(super) fn new(event: Arc<Event>, gate: Arc<Gate>) -> Arc<Ticket> {
        Arc::new(Ticket { event, state: AtomicU8::new(WAITING), gate })
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Acquire) == WAITING
    }

    pub(super) fn is_refused(&self) -> bool {
        self.state.load(Ordering::Acquire) == REFUSED
    }

    pub(super) fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// Its event was taken. This and `refuse` are decided under the mailbox's lock, so that
    /// whoever comes to leave the line finds out; and `tell` follows without it.
    pub(super) fn admit(&self) {
        self.state.store(ADMITTED, Ordering::Release);
    }

    /// The mailbox closed; it has booked the event.
    pub(super) fn refuse(&self) {
        self.state.store(REFUSED, Ordering::Release);
    }

    /// Tells its publisher what was decided.
    pub(super) fn tell(&self) {
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

/// What all tickets of one publish report to.
#[derive(Debug)]
pub(super) struct Gate {
    waiting: AtomicUsize,
    waker: AtomicWaker,
}

impl Gate {
    /// A gate that opens when `tickets` have been settled.
    pub(super) fn new(tickets: usize) -> Arc<Gate> {
        Arc::new(Gate { waiting: AtomicUsize::new(tickets), waker: AtomicWaker::new() })
    }

    /// How many tickets are not settled yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Has `waker` woken when the last one is.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}
