//! The border between Rust and the interpreter: the only ways across it.
//!
//! * [`with_python`] is the one door for threads that do not hold the GIL;
//! * [`runtime`] owns what runs in the background, ends it before the interpreter does, and
//!   refuses to work in a forked child;
//! * [`Loop`] brings work to an asyncio loop from any thread without taking the GIL;
//! * [`future`] turns a Rust future into an awaitable and a coroutine into a Rust future;
//! * [`wait`] blocks a plain thread, interruptibly, and refuses to block the loop it needs;
//! * [`ffi`] holds all of the unsafe code.

mod door;
pub(super) mod ffi;
mod future;
mod loops;
mod runtime;
mod wait;

pub(super) use door::{guarded, panic_message, with_python};
pub(super) use future::{PyFuture, RustAwaitable, await_coroutine};
pub(super) use loops::Loop;
pub(super) use runtime::{check_process, on_exit, register, runtime};
pub(super) use wait::{WaitError, block_on};
