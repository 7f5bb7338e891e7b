//! Blocking a plain thread, by a clock too, and refusing to block one that has to do what is waited for.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;
use std::time::Duration;

use pyo3::prelude::*;

use super::bridge::{Loop, WaitError, activity, block_on, pause};
use crate::bus::Bus;
use crate::clock::Clock;
use crate::error::{Error, Kind};

/// Refuses to block the thread whose loop has to do what is waited for.
pub(super) fn refuse_deadlock(
    needed: Option<ThreadId>,
    who: &str,
    operation: &'static str,
) -> Result<(), Error> {
    if needed != Some(std::thread::current().id()) {
        return Ok(());
    }
    Err(Error::new(
        Kind::WouldDeadlock,
        operation,
        format!("`.wait()` would block the event loop that runs {who}; use `await` here"),
    )
    .with("subscription", who))
}

/// Refuses to block the thread whose running loop has to handle what is in flight on `bus`.
pub(super) fn refuse_own_loop(
    py: Python<'_>,
    bus: &Bus,
    operation: &'static str,
    instead: &str,
) -> PyResult<()> {
    if Loop::running(py)?.is_some()
        && let Some(subscription) = bus.needs(std::thread::current().id())
    {
        let who = subscription.name();
        let said = format!(
            "`{operation}()` would block the event loop that runs {who}; use {instead} here"
        );
        return Err(Error::new(Kind::WouldDeadlock, operation, said)
            .with("subscription", who)
            .into());
    }
    Ok(())
}

/// Blocks until `future` is ready; a time limit becomes `TimeoutExceeded`.
pub(super) fn block<F>(
    py: Python<'_>,
    future: F,
    limit: Option<Duration>,
    operation: &'static str,
) -> PyResult<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    block_on(py, future, limit).map_err(|error| match error {
        WaitError::Interrupted(error) => error,
        WaitError::Elapsed => {
            let limit = limit.unwrap_or_default().as_secs_f64();
            Error::new(Kind::Timeout, operation, format!("{operation}: not done within {limit} s"))
                .into()
        }
    })
}

/// Blocks until `future` is ready that waits by `clock`, which is moved on as [`wait`] does: to one
/// timer after the other, as long as nothing else brings the future on.
pub(super) fn wait_for<F>(
    py: Python<'_>,
    clock: &Clock,
    mut future: F,
    operation: &'static str,
) -> PyResult<F::Output>
where
    F: Future + Send + Unpin,
    F::Output: Send,
{
    if !clock.is_virtual() || !activity::moves(clock) {
        return block(py, future, None, operation);
    }
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(&mut context) {
            return Ok(output);
        }
        let Some(due) = clock.next_due() else { return block(py, future, None, operation) };
        py.detach(|| clock.step(due));
        py.check_signals()?;
    }
}

/// Blocks this thread for `delay` on `clock`.
///
/// Where this thread is the one that moves a virtual clock, nobody else will: it moves on from
/// here. Any other waits for that one; a worker of ours does nothing meanwhile, and lets the test
/// go on.
pub(super) fn wait(py: Python<'_>, clock: &Clock, delay: Duration) -> PyResult<()> {
    if !clock.is_virtual() {
        return pause(py, delay);
    }
    if activity::moves(clock) {
        py.detach(|| clock.advance(delay));
        return Ok(());
    }
    if !activity::is_worker() {
        return block(py, Box::pin(clock.sleep(delay)), None, "wait");
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let timer = clock.schedule(delay, move || {
        activity::begin(); // before it wakes: the test must not find that there is nothing to do
        let _ = sender.send(()); // nobody waits any more where a signal ended the wait
    });
    activity::end();
    let mut receiver = Box::pin(receiver);
    let waited = block(py, receiver.as_mut(), None, "wait").map(drop);
    drop(timer);
    if waited.is_err() && receiver.try_recv().is_err() {
        activity::begin();
    }
    waited
}
