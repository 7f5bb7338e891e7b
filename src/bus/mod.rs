//! The event bus: publish, route, mailbox, delivery, requests, dead letters, accounting.
//!
//! The way of one event: [`Bus::publish`] stamps it and looks up its route; every matching
//! subscription's mailbox takes an `Arc` of it; the subscription's executor is told once, pulls
//! batches, runs the handler and settles. Nothing on this way allocates per subscription, and
//! nothing takes a lock that is shared by two subscriptions.
//!
//! | file | idea |
//! | --- | --- |
//! | `handle` | what users call: publish, request, send, subscribe, close |
//! | `core` | what handles share; delivery to mailboxes; who serves a request |
//! | `draft`, `router`, `schedule` | an event before it is stamped; where it goes; when, if later |
//! | `subscription`, `roll`, `options`, `mailbox`, `ticket`, `admission` | who wants it, and all who do; how; where it waits; and its publisher |
//! | `executor`, `consuming`, `ready_list`, `rows` | what runs handlers; what it calls; what has work, and who comes for it; turns of a loop |
//! | `backlog`, `lanes`, `turns`, `slots`, `overflow`, `intake` | what waits, in which order, and what may run |
//! | `suspending` | what waits while its component has failed |
//! | `passage` | what is handled inside `publish`, and waits nowhere |
//! | `waits` | how long events wait for their handler |
//! | `dedup`, `group` | ids seen lately; subscriptions that share their events |
//! | `delivery`, `ack`, `manual`, `policy`, `guard`, `reading`, `failure` | what follows a failed attempt |
//! | `refusal`, `parked` | what a breaker inside of the handler refused, and waits for it |
//! | `report`, `throttle` | what is told of it; how many lines of a log a storm is |
//! | `stream`, `waiter` | consumers without a handler: event by event; the next one alone |
//! | `requests`, `reply`, `asking`, `gather` | who waits for a reply, of one or of many |
//! | `dead_letters`, `kept`, `replay` | what was given up: here, and wherever it was; what is delivered again |
//! | `remote`, `arrival` | other processes: what goes to a broker; what comes from it, and to whom |
//! | `tally`, `books`, `series`, `durations`, `explain` | figures, of all and by name; how long handlers took; reasons |
//! | `stalls` | what is stuck at this moment |
//! | `owner` | what a subscription asks of its bus: calls go down, and this is the way up |

mod ack;
mod admission;
mod arrival;
mod asking;
mod backlog;
mod books;
mod consuming;
mod core;
mod dead_letters;
mod dedup;
mod delivery;
mod draft;
mod durations;
mod executor;
mod explain;
mod failure;
mod gather;
mod group;
mod guard;
mod handle;
mod intake;
mod kept;
mod key;
mod lanes;
mod mailbox;
mod manual;
mod options;
mod overflow;
mod owner;
mod parked;
mod passage;
mod policy;
mod reading;
mod ready_list;
mod refusal;
mod remote;
mod replay;
mod reply;
mod report;
mod requests;
mod roll;
mod router;
mod rows;
mod schedule;
mod series;
mod settings;
mod slots;
mod stalls;
mod stream;
mod subscription;
mod suspending;
mod tally;
#[cfg(test)]
mod tests;
mod throttle;
mod ticket;
mod turns;
mod waiter;
mod waits;

pub use ack::Ack;
pub use admission::{Admission, Published};
pub use asking::RequestedMany;
pub use books::Books;
pub use core::CORE_PRODUCER;
pub use dead_letters::{DeadLetter, DeadLetters};
pub use dedup::DedupSettings;
pub use draft::Draft;
pub use durations::Spread;
pub use executor::{Executor, Lag};
pub use explain::{Explanation, Receiver};
pub use failure::Failure;
pub use gather::Wanted;
pub use guard::Guard;
pub use handle::{Bus, Destination, Requested, WeakBus, WeakDestination};
pub use kept::{KeptLetter, Picks};
pub use key::KeyPath;
pub use lanes::{Attempt, Delivery};
pub use manual::{Manual, Undecided};
pub use options::{Options, Role};
pub use overflow::Overflow;
pub use policy::Policy;
pub use ready_list::ReadyList;
pub use reply::{PendingReplies, PendingReply};
pub use requests::Answer;
pub use rows::Rows;
pub use schedule::Periodic;
pub use series::{Figures, Queue, Series};
pub use settings::{BusSettings, Patience};
pub use stalls::{Stall, Stalls};
pub use stream::Stream;
pub use subscription::Subscription;
pub use tally::Tally;
pub use ticket::Ticket;
pub use waiter::Awaited;
pub use waits::Watcher;
