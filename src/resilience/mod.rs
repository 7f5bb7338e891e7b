//! What keeps one failure from becoming many: waiting, giving up, refusing.
//!
//! Everything here decides; nothing here sleeps or runs a caller's code.

mod backoff;

pub use backoff::{Backoff, Curve, Draws, Jitter};
