//! The border between Rust and the interpreter: the only ways across it.
//!
//! * [`with_python`] is the one door for threads that do not hold the GIL;
//! * [`runtime`] owns what runs in the background, ends it before the interpreter does, and
//!   refuses to work in a forked child;
//! * [`Loop`] brings work to an asyncio loop from any thread without taking the GIL;
//! * [`RustAwaitable`] turns a Rust future into an awaitable, [`await_coroutine`] a coroutine
//!   into a Rust future;
//! * [`Sleeper`] polls one on the loop that awaits it;
//! * [`Tasks`] says which task runs on a loop;
//! * [`Thread`] is a thread as Python and the system know it;
//! * [`block_on`] blocks a plain thread, interruptibly;
//! * [`activity`] counts what goes on outside the loops;
//! * [`ffi`] holds all of the unsafe code.

pub(super) mod activity;
mod door;
pub(super) mod ffi;
mod future;
mod loops;
mod runtime;
mod sleep;
mod tasks;
mod thread;
mod wait;

pub(super) use door::{guarded, with_python};
pub(super) use future::{RustAwaitable, await_coroutine, thrown};
pub(super) use loops::{Loop, empty_context};
pub(super) use runtime::{Closer, Runtime, check_process, real_clock, register, runtime};
pub(super) use sleep::{Polled, Sleeper, resolve, sleep_on};
pub(super) use tasks::Tasks;
pub(super) use thread::{Thread, native_thread};
pub(super) use wait::{WaitError, block_on, pause};
