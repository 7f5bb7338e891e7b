//! Identifiers: time-ordered ones of our own, and whatever text others use.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use uuid::Uuid;

const PREFIX: &str = "evt_";

/// The id of an event, or of the chain of events it belongs to.
///
/// Ours are UUIDv7 (RFC 9562) and kept as bytes; ids made elsewhere are kept as they came.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Id {
    /// Made by an [`IdSource`]; shown as `evt_` and 32 hexadecimal digits.
    Native([u8; 16]),
    /// Any text given by a user or another system.
    Text(Arc<str>),
}

impl Id {
    /// The id that `text` stands for.
    pub fn parse(text: &str) -> Id {
        let native = text
            .strip_prefix(PREFIX)
            .filter(|hex| hex.len() == 32 && !hex.bytes().any(|byte| byte.is_ascii_uppercase()))
            .and_then(|hex| Uuid::try_parse(hex).ok());
        match native {
            Some(uuid) => Id::Native(*uuid.as_bytes()),
            None => Id::Text(Arc::from(text)),
        }
    }

    /// How many bytes the text of one of our ids takes.
    pub const TEXT_LEN: usize = PREFIX.len() + 32;

    /// The id as text, in `buffer` where it is not kept as text anyway.
    pub fn text<'a>(&'a self, buffer: &'a mut [u8; Id::TEXT_LEN]) -> &'a str {
        match self {
            Id::Native(bytes) => {
                let (prefix, digits) = buffer.split_at_mut(PREFIX.len());
                prefix.copy_from_slice(PREFIX.as_bytes());
                Uuid::from_bytes(*bytes).simple().encode_lower(digits);
                // ASCII throughout, so there is nothing to default from.
                std::str::from_utf8(buffer).unwrap_or_default()
            }
            Id::Text(text) => text,
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; Id::TEXT_LEN]))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes ids that rise within this source, and that no other source makes.
#[derive(Debug)]
pub struct IdSource {
    /// Milliseconds and a 12-bit sequence: UUIDv7's first 60 free bits.
    last: AtomicU64,
    /// A fixed stream of random bits, so that a test sees the same ids each time.
    seeded: Option<Mutex<fastrand::Rng>>,
}

impl IdSource {
    /// Ids from fresh randomness.
    pub fn random() -> Self {
        IdSource { last: AtomicU64::new(0), seeded: None }
    }

    /// The same ids on each run, for the same times.
    pub fn seeded(seed: u64) -> Self {
        IdSource {
            last: AtomicU64::new(0),
            seeded: Some(Mutex::new(fastrand::Rng::with_seed(seed))),
        }
    }

    /// The next id, at `unix_ms`.
    pub fn next(&self, unix_ms: i64) -> Id {
        let stamp = (unix_ms.max(0) as u64) << 12;
        // Rises within a millisecond, and stays risen when the wall clock steps back.
        let previous = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(stamp.max(last + 1)))
            .unwrap_or(stamp);
        let tick = stamp.max(previous + 1);
        let random = match &self.seeded {
            None => fastrand::u64(..),
            Some(rng) => rng.lock().u64(..),
        };
        let mut tail = [0u8; 10];
        tail[..2].copy_from_slice(&((tick & 0xfff) as u16).to_be_bytes());
        tail[2..].copy_from_slice(&random.to_be_bytes());
        Id::Native(
            *uuid::Builder::from_unix_timestamp_millis(tick >> 12, &tail).as_uuid().as_bytes(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_even_when_the_wall_clock_steps_back() {
        let source = IdSource::random();
        let mut previous = source.next(1_645_541_585_432).to_string();
        for ms in [1_645_541_585_432, 1_645_541_585_432, 1_645_541_585_000, 1_645_541_585_433] {
            let next = source.next(ms).to_string();
            assert!(next > previous, "{next} after {previous}");
            previous = next;
        }
    }

    #[test]
    fn text_and_native_ids_come_back_as_they_went() {
        let native = IdSource::seeded(1).next(5);
        assert_eq!(Id::parse(&native.to_string()), native);
        for text in ["evt_12345", "corr_67890", "EVT_X", ""] {
            assert_eq!(Id::parse(text).to_string(), text);
        }
    }

    #[test]
    fn seeded_sources_repeat_themselves() {
        let (a, b) = (IdSource::seeded(7), IdSource::seeded(7));
        assert_eq!([a.next(1), a.next(1)], [b.next(1), b.next(1)]);
    }
}
