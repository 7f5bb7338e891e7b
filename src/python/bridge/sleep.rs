//! What a task sleeps on while a Rust future is pending, and who wakes it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::{ArcWake, waker_ref};
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::ffi::{self, GilCell};
use super::loops::Loop;

/// Polls a future on the loop that awaits it.
#[derive(Default)]
pub(crate) struct Sleeper(Option<Arc<Wakeup>>);

/// What a future came to.
pub(crate) enum Polled<'py, T> {
    Ready(T),
    /// This is to be yielded to the task.
    Sleeps(Bound<'py, PyAny>),
}

impl Sleeper {
    /// Polls `future`; where it is pending, its task is woken when that changes.
    pub(crate) fn poll<'py, F: Future + Unpin>(
        &mut self,
        py: Python<'py>,
        future: &mut F,
    ) -> PyResult<Polled<'py, F::Output>> {
        let wakeup = match &mut self.0 {
            Some(wakeup) => wakeup,
            none => none
                .insert(Arc::new(Wakeup::new(Loop::running(py)?.ok_or_else(|| {
                    PyRuntimeError::new_err("no running event loop to wait on")
                })?))),
        };
        wakeup.woken.store(false, Ordering::Release);
        let polled = Pin::new(future).poll(&mut Context::from_waker(&waker_ref(wakeup)));
        match polled {
            Poll::Ready(output) => Ok(Polled::Ready(output)),
            Poll::Pending => wakeup.arm(py).map(Polled::Sleeps),
        }
    }
}

/// A future for a task to sleep on: what it is to be given by its coroutine.
pub(crate) fn sleep_on<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // asyncio's own, which every loop understands: `create_future` is one more call.
    static FUTURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = event_loop.py();
    let class = FUTURE
        .get_or_try_init(py, || PyResult::Ok(py.import("asyncio")?.getattr("Future")?.unbind()))?;
    // The same dict each time, which nobody keeps; whoever comes in between makes another one.
    static OPTIONS: GilCell<Py<PyDict>> = GilCell::empty();
    let name = pyo3::intern!(py, "loop");
    let options = match OPTIONS.take(py) {
        Some(options) => options.into_bound(py),
        None => PyDict::new(py),
    };
    options.set_item(name, event_loop)?;
    let future = class.bind(py).call((), Some(&options));
    if ffi::references(options.as_any()) == 1 {
        options.set_item(name, py.None())?;
        drop(OPTIONS.put(py, options.unbind()));
    }
    let future = future?;
    // What a task checks to know that the future was yielded by an `await`.
    future.setattr(pyo3::intern!(py, "_asyncio_future_blocking"), true)?;
    Ok(future)
}

/// Resolves a future that [`sleep_on`] made, unless that has been done.
pub(crate) fn resolve(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    // Hardly ever it is done: asking first would cost every wake a call.
    let Err(error) = future.call_method1(pyo3::intern!(py, "set_result"), (py.None(),)) else {
        return Ok(());
    };
    let done = error.is_instance_of::<PyException>(py)
        && future.call_method0(pyo3::intern!(py, "done"))?.is_truthy()?;
    if done { Ok(()) } else { Err(error) }
}

/// Wakes one await: the first wake resolves the asyncio future that the task sleeps on.
struct Wakeup {
    event_loop: Arc<Loop>,
    woken: AtomicBool,
    sleeping: GilCell<Py<PyAny>>,
}

impl Wakeup {
    fn new(event_loop: Arc<Loop>) -> Wakeup {
        Wakeup { event_loop, woken: AtomicBool::new(false), sleeping: GilCell::empty() }
    }

    /// What to yield to the task: a future, or nothing if the wake came before.
    fn arm<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(event_loop) = self.event_loop.get(py) else {
            return Err(PyRuntimeError::new_err("the event loop is gone"));
        };
        let future = sleep_on(&event_loop)?;
        drop(self.sleeping.put(py, future.clone().unbind()));
        if self.woken.load(Ordering::Acquire) {
            self.resolve(py)?;
        }
        Ok(future)
    }

    fn resolve(&self, py: Python<'_>) -> PyResult<()> {
        let sleeping = self.sleeping.take(py);
        sleeping.map_or(Ok(()), |future| resolve(&future.into_bound(py)))
    }
}

impl ArcWake for Wakeup {
    fn wake_by_ref(this: &Arc<Self>) {
        if this.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        // On the loop's own thread, which holds the GIL, there is nobody to be woken first.
        if this.event_loop.is_here()
            && let Some(py) = ffi::attached()
        {
            // A loop that was closed has nobody left to be told.
            if !this.event_loop.is_gone(py)
                && let Err(error) = this.resolve(py)
            {
                error.write_unraisable(py, None);
            }
            return;
        }
        let wakeup = this.clone();
        this.event_loop.call(move |py, _| wakeup.resolve(py));
    }
}
