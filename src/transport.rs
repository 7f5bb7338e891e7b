//! What carries events between processes.
//!
//! A transport hands events to a broker and reads them from there, at least once: an event is
//! *accepted* when the broker has it, *held* by the one process that reads it for a group, and
//! gone from there when it is acknowledged. It knows nothing of subscriptions and handlers; they
//! are what `bus` makes of it.
//!
//! | module | idea |
//! | --- | --- |
//! | [`entry`] | an event as a broker holds it, and what is no event |
//! | [`outcome`] | what became of an event that was handed over |
//! | [`redis`] | Redis Streams with consumer groups |

pub mod entry;
pub mod outcome;
pub mod redis;

pub use entry::{Entry, Held, Sink};
pub use outcome::{Outcome, Receipt};
