//! What a bus is made with; the defaults of everything that subscribes to it.

use std::time::Duration;

use super::dedup::DedupSettings;
use super::overflow::Overflow;

/// Settings of one bus.
#[derive(Clone, Debug)]
pub struct BusSettings {
    /// Name for people, and the producer of events published on the bus itself.
    pub name: String,
    /// How many events may wait for one subscription.
    pub capacity: usize,
    /// What happens when more come.
    pub overflow: Overflow,
    /// The most events one consumer takes at a time.
    pub batch_size: usize,
    /// How long a handler may take.
    pub handler_timeout: Duration,
    /// How long a request waits for its reply.
    pub request_timeout: Duration,
    /// When handlers are taken to be stuck; none: nobody watches them.
    pub watchdog: Option<Patience>,
    /// Whether ids are remembered, so that an event that is published twice is delivered once.
    pub dedup: Option<DedupSettings>,
    /// How often an event may be given out by a broker, because whoever had it came to no end with
    /// it, before it is a dead letter.
    pub max_deliveries: u64,
    /// How long a broker may take to be there.
    pub connect_timeout: Duration,
    /// The largest encoded payload, in bytes.
    pub max_payload: usize,
    /// Fixed ids and jitter, so that a test sees the same run each time.
    pub seed: Option<u64>,
}

impl Default for BusSettings {
    fn default() -> Self {
        BusSettings {
            name: "bus".into(),
            capacity: 10_000,
            overflow: Overflow::Block,
            batch_size: 100,
            handler_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            watchdog: Some(Patience::default()),
            dedup: None,
            max_deliveries: 4,
            connect_timeout: Duration::from_secs(10),
            max_payload: 1024 * 1024,
            seed: None,
        }
    }
}

/// How long what runs may stay where it is before it is said to be stuck. In real time, whatever
/// the clock of the bus says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// One step on an event loop, which nothing else there gets past.
    pub step: Duration,
    /// Sync code on a thread of its own.
    pub call: Duration,
    /// An async handler or hook that is suspended.
    pub suspension: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            step: Duration::from_secs(1),
            call: Duration::from_secs(10),
            suspension: Duration::from_secs(10),
        }
    }
}
