//! The id of an entry of a stream: the server's time, and a number within that millisecond.

use std::fmt;

/// Where an entry stands in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryId {
    /// Unix milliseconds.
    pub ms: u64,
    pub seq: u64,
}

impl EntryId {
    pub fn parse(bytes: &[u8]) -> Option<EntryId> {
        let (ms, seq) = std::str::from_utf8(bytes).ok()?.split_once('-')?;
        Some(EntryId { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written_as_the_server_does() {
        for text in ["0-0", "1700000000000-0", "18446744073709551615-18446744073709551615"] {
            assert_eq!(EntryId::parse(text.as_bytes()).expect(text).to_string(), text);
        }
        for text in ["", "1", "-", "1-", "x-1", "1-x"] {
            assert_eq!(EntryId::parse(text.as_bytes()), None, "{text}");
        }
        assert!(EntryId { ms: 9, seq: 1 } < EntryId { ms: 10, seq: 0 });
    }
}
