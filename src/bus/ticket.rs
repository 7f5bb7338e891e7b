//! A place in the line before a full mailbox.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;

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
