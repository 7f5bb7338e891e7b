//! An event as a broker holds it for a group.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::event::Event;

/// One event, read for a group.
#[derive(Debug)]
pub struct Entry {
    /// The event.
    pub event: Arc<Event>,
    /// How often it was given out, this time included.
    pub deliveries: u64,
    /// Settles it; dropped, it stays with the broker, which gives it out again.
    pub held: Held,
}

/// An entry that this process holds.
///
/// As long as it exists the broker is told that somebody is at work on the entry. Acknowledged, it
/// is gone; dropped otherwise, another process, or this one after a while, gets it.
pub struct Held(Option<Box<dyn Settle>>);

/// What a transport does at the end of a [`Held`].
pub(super) trait Settle: Send + Sync {
    fn acknowledge(self: Box<Self>);
    fn release(self: Box<Self>);
}

impl Held {
    pub(super) fn new(settle: impl Settle + 'static) -> Held {
        Held(Some(Box::new(settle)))
    }

    /// It was handled: the broker may forget it.
    pub fn acknowledge(mut self) {
        if let Some(settle) = self.0.take() {
            settle.acknowledge();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(settle) = self.0.take() {
            settle.release();
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

/// Where a reader brings what it reads.
pub trait Sink: Send + Sync + 'static {
    /// Takes entries, in order; resolves when there is room for more.
    fn take(&self, entries: Vec<Entry>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
