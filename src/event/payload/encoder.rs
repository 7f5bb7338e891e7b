//! Writing a payload, value by value.

use std::sync::Arc;

use super::{FALSE, FLOAT, INT, LIST, MAP, NULL, Payload, STR, TRUE, UINT};

/// Writes values one after the other; the caller keeps maps and lists well-formed.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

/// An open container: where its header stands.
#[derive(Debug)]
#[must_use = "a container must be closed with `Encoder::end`"]
pub struct Open(usize);

impl Encoder {
    /// An encoder that writes into `buffer`, whose memory it reuses.
    pub fn reusing(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Encoder { out: buffer }
    }

    /// The finished payload.
    pub fn finish(self) -> Payload {
        Payload(Arc::from(self.out))
    }

    /// The finished payload, and the buffer for the next one.
    pub fn finish_reusing(self) -> (Payload, Vec<u8>) {
        (Payload(Arc::from(&self.out[..])), self.out)
    }

    /// How many bytes were written.
    #[inline]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Writes null.
    #[inline]
    pub fn null(&mut self) {
        self.out.push(NULL);
    }

    /// Writes a boolean.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { TRUE } else { FALSE });
    }

    /// Writes an integer.
    #[inline]
    pub fn int(&mut self, value: i64) {
        self.out.push(INT);
        self.varint(((value << 1) ^ (value >> 63)) as u64);
    }

    /// Writes an integer that may lie above `i64`.
    #[inline]
    pub fn uint(&mut self, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.int(value),
            Err(_) => {
                self.out.push(UINT);
                self.varint(value);
            }
        }
    }

    /// Writes a finite number; the caller has refused NaN and infinities.
    #[inline]
    pub fn float(&mut self, value: f64) {
        debug_assert!(value.is_finite());
        self.out.push(FLOAT);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes text.
    #[inline]
    pub fn str(&mut self, value: &str) {
        self.out.push(STR);
        self.key(value);
    }

    /// Writes a map's key; its value comes next.
    #[inline]
    pub fn key(&mut self, key: &str) {
        self.varint(key.len() as u64);
        self.out.extend_from_slice(key.as_bytes());
    }

    /// Opens a list.
    #[inline]
    pub fn begin_list(&mut self) -> Open {
        self.begin(LIST)
    }

    /// Opens a map.
    #[inline]
    pub fn begin_map(&mut self) -> Open {
        self.begin(MAP)
    }

    /// Closes a container of `count` items or pairs.
    #[inline]
    pub fn end(&mut self, open: Open, count: usize) {
        let length = (self.out.len() - open.0 - 9) as u32;
        self.out[open.0 + 1..open.0 + 5].copy_from_slice(&(count as u32).to_le_bytes());
        self.out[open.0 + 5..open.0 + 9].copy_from_slice(&length.to_le_bytes());
    }

    #[inline]
    fn begin(&mut self, tag: u8) -> Open {
        let at = self.out.len();
        self.out.extend_from_slice(&[tag, 0, 0, 0, 0, 0, 0, 0, 0]);
        Open(at)
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}
