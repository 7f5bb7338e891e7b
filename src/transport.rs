//! What carries events between processes.
//!
//! A transport hands events to a broker and reads them from there, at least once: an event is
//! *accepted* when the broker has it, *held* by the one process that reads it for a group, and
//! gone from there when it is settled. It knows nothing of subscriptions and handlers; they are
//! what `bus` makes of it.
//!
//! | module | idea |
//! | --- | --- |
//! | [`carrier`] | what every transport does |
//! | [`parcel`] | an event on its way to a broker, and where it goes |
//! | [`reading`] | what is read from a broker, in whose name, and what comes of it |
//! | [`letters`] | what was given up, as a broker keeps it for all processes |
//! | [`outcome`] | what became of an event that was handed over |
//! | [`capabilities`] | what a transport can do, and what it cannot |
//! | [`open`] | a transport by the URL of its broker |
//! | [`outbox`] | what waits to be sent: bounded, each event with its time limit |
//! | [`patience`], `awaited` | waits between tries that failed, and for what is told of |
//! | `at_home` | work that is done where connections live |
//! | `locator`, `tls` | the parts of a broker's URL; whom we believe, and who we are |
//! | [`seen`] | ids that a group has been given lately |
//! | `opening`, `trouble`, `denial` | readings that have not begun; why the broker is not there, or will not have us |
//! | [`redis`] | Redis Streams with consumer groups |
//! | [`rabbitmq`] | RabbitMQ: exchanges, quorum queues, publisher confirms |

#[cfg(any(feature = "redis", feature = "rabbitmq"))]
mod at_home;
mod awaited;
pub mod capabilities;
pub mod carrier;
#[cfg(any(feature = "redis", feature = "rabbitmq"))]
mod denial;
pub mod letters;
#[cfg(any(feature = "redis", feature = "rabbitmq"))]
mod locator;
pub mod open;
#[cfg(any(feature = "redis", feature = "rabbitmq"))]
mod opening;
pub mod outbox;
pub mod outcome;
pub mod parcel;
pub mod patience;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
pub mod reading;
#[cfg(feature = "redis")]
pub mod redis;
pub mod seen;
#[cfg(any(feature = "redis", feature = "rabbitmq"))]
mod tls;
#[cfg(any(feature = "redis", feature = "rabbitmq"))]
mod trouble;

pub use capabilities::Capabilities;
pub use carrier::{News, Transport};
pub use letters::Letters;
pub use outcome::{Fate, Outcome, Receipt};
pub use parcel::{Parcel, To};
pub use reading::{Entry, Reader, Reading, Sink, Source, Start};
