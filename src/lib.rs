//! tiebeam: an integration framework for systems of Python agents.
//!
//! This crate is the core of the Python package of the same name; it also stands alone, and
//! `cargo test` needs no Python.
//!
//! # Architecture
//!
//! Two rules make the shape. **Calls go down, events go up**: a lower layer never knows a higher
//! one; what a higher layer must learn, it hears as an event. **Only `src/python/` says
//! `pyo3`.** `tests/layers.rs` holds the layers as a table and fails when an import breaks them.
//!
//! | layer | modules | what they know |
//! | --- | --- | --- |
//! | L0 | [`error`], [`clock`], [`deadlines`], `buckets`, `sync` | what failed and what to do about it; the only `now()` and `sleep()`; what happened lately; locks |
//! | L1 | [`event`], [`topic`], [`filter`], [`lifecycle`], [`health`] | values and pure decisions |
//! | L2 | [`resilience`], [`config`], [`transport`] | retry, breaker, budgets; layered configuration with origins; events between processes |
//! | L3 | [`bus`] | publish, route, mailbox, delivery, requests, dead letters, books |
//! | L4 | [`registry`], [`recovery`], [`telemetry`] | components in order, supervision, health, errors, logs, metrics, probes |
//! | L5 | [`framework`] | the composition root: settings in, a running system out |
//! | L6 | `python` | thin classes over the core, and the bridge to the interpreter |
//!
//! A file is one idea; a `mod.rs` (or the file beside a folder) is a table of contents; an idea
//! has the same name here, in the stub, in `python/tiebeam/` and in its test.
//!
//! # Invariants
//!
//! * **One clock.** Nothing outside [`clock`] asks for the time or waits. A real clock and a
//!   virtual one keep the same ordered table of timers; they differ in who moves time on.
//! * **The books balance.** Every event offered to a subscription is delivered, filtered,
//!   conflated, dropped by a named policy, expired, dead-lettered or in flight, at any time
//!   ([`bus::Tally::balances`]).
//! * **Every queue is bounded** and names what happens when it is full.
//! * **No lock is held while a handler, a callback or Python runs**, and no two subscriptions
//!   share one.
//! * **Deciding is pure, doing is elsewhere**: [`resilience`] decides and never sleeps,
//!   `registry::supervision` decides and never restarts, [`lifecycle`] is one table.
//! * **One owner per retry**: `bus::delivery` is the only place that decides what follows a
//!   failed attempt.
//! * **Native threads enter Python through one door** (`python::bridge::with_python`), which
//!   shuts before the interpreter ends, and is shut in a forked child.
//! * **`unsafe` lives in one place**, `src/python/bridge/ffi/`.
//!
//! # The way of one event
//!
//! 1. `publish(type, payload)` finds where events of the type go by the very object that names it
//!    (`python::destinations`), walks the payload once and writes it, by exact type, into the
//!    compact form of [`event::Payload`]; what JSON does not have goes a slower way, and what has
//!    no encoding is refused with its path.
//! 2. [`bus::Bus::publish_to`] stamps id, time, producer and lineage, builds the event where it
//!    stays, and offers an `Arc` of it to each subscription: filter, then mailbox. Mailboxes with
//!    room are filled first; a publisher that has to wait holds an [`bus::Admission`]. The receipt
//!    is the last one again if nobody kept that.
//! 3. A mailbox that was idle tells its [`bus::Executor`] once. The executor claims the mailbox,
//!    pulls batches, runs handlers and settles in batches:
//!    * *loop*: driver tasks step coroutines; as long as handlers do not wait, one step of one
//!      task handles the whole batch; drivers without work sleep (`python::pump`). A request
//!      whose responder lives on the same loop is answered inside `request()`;
//!    * *thread*: worker threads, so that blocking code never stalls a loop
//!      (`python::workers`);
//!    * *inline*: inside `publish`, on the publisher's thread, counted without a lock
//!      (`bus::passage`).
//! 4. A handler gets an event whose payload is decoded when it looks, in a context of its own: the
//!    one of the handler before it, if and only if nobody kept any part of that
//!    (`python::stage`).
//! 5. Success is reported with the batch. A failure becomes text, and `bus::delivery` decides:
//!    retry (the clock requeues it; only later events of its key wait), fallback, or dead
//!    letter; `system.error.<category>` tells [`recovery`] of it.
//!
//! On a bus with a broker (`bus::remote`) the second step hands the event to a
//! [`transport::Transport`], and the admission is the broker's word. What a reader brings back goes
//! through `bus::arrival` into the same mailboxes, tied to its entry by an [`event::Lease`], which
//! is settled where the books are: after success, a dead letter, or a policy that lets it go. The
//! core's own events reach the listeners of their process at once, and others over the broker.
//!
//! # Where this differs from the first drawing of the house
//!
//! * Cancellation and task tracking come from `tokio-util`; they needed no module of their own.
//! * `deadlines` was added: what waits, with one timer for all of its time limits, because a timer
//!   each would be paid by every event and request that never needs it.
//! * A bus in memory is no transport: events of one process never pass a queue that is made for
//!   brokers. What all share is the mailbox, and the conformance suite that runs on each.
//! * [`registry`] runs hooks as plain futures and leaves it to a [`registry::Spawn`] where they
//!   are polled, so that the same code is deterministic on a test's loop and independent of a
//!   blocked loop in production.

mod buckets;
pub mod bus;
pub mod clock;
pub mod config;
pub mod deadlines;
pub mod error;
pub mod event;
pub mod filter;
pub mod framework;
pub mod health;
pub mod lifecycle;
pub mod recovery;
pub mod registry;
pub mod resilience;
mod sync;
pub mod telemetry;
pub mod topic;
pub mod transport;

#[cfg(feature = "python")]
mod python;
