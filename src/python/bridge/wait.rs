//! Blocking a plain thread on a Rust future, in a way that Ctrl-C can end.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

use super::runtime::{check_process, real_clock};

/// Why a wait ended without the result.
#[derive(Debug)]
pub(crate) enum WaitError {
    /// The time ran out.
    Elapsed,
    /// A signal handler raised, Ctrl-C for one.
    Interrupted(PyErr),
}

#[derive(Default)]
struct Parker {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.woken.lock() = true;
        self.changed.notify_one();
    }
}

/// How often a blocked thread looks for signals: Ctrl-C returns within this.
const SIGNAL_PERIOD: Duration = Duration::from_millis(50);

/// Blocks for `limit` of real time, with the GIL released; it takes no other thread, and so works
/// in a forked child, too.
pub(crate) fn pause(py: Python<'_>, limit: Duration) -> PyResult<()> {
    let (parker, clock) = (Parker::default(), real_clock());
    let end = clock.now().saturating_add(limit);
    loop {
        let left = end.saturating_since(clock.now());
        if left.is_zero() {
            return Ok(());
        }
        py.detach(|| {
            parker.changed.wait_for(&mut parker.woken.lock(), left.min(SIGNAL_PERIOD));
        });
        py.check_signals()?;
    }
}

/// Blocks until `future` is ready, with the GIL released.
///
/// The limit is real time: a thread that waits does not stand under a test's clock.
pub(crate) fn block_on<F>(
    py: Python<'_>,
    future: F,
    limit: Option<Duration>,
) -> Result<F::Output, WaitError>
where
    F: Future + Send,
    F::Output: Send,
{
    check_process().map_err(|error| WaitError::Interrupted(error.into()))?;
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(parker.clone());
    let clock = real_clock();
    let deadline = limit.map(|limit| clock.now().saturating_add(limit));
    let mut future = std::pin::pin!(future);
    loop {
        let polled = py.detach(|| match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => {
                let mut woken = parker.woken.lock();
                let period = match deadline {
                    None => SIGNAL_PERIOD,
                    Some(deadline) => deadline.saturating_since(clock.now()).min(SIGNAL_PERIOD),
                };
                if !*woken {
                    parker.changed.wait_for(&mut woken, period);
                }
                *woken = false;
                None
            }
        });
        if let Some(output) = polled {
            return Ok(output);
        }
        py.check_signals().map_err(WaitError::Interrupted)?;
        if deadline.is_some_and(|deadline| clock.now() >= deadline) {
            return Err(WaitError::Elapsed);
        }
    }
}
