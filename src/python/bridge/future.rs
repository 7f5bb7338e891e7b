//! Futures across the border, both ways, with cancellation both ways.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict};
use tokio::sync::oneshot;

use super::door::{guarded, panic_message};
use super::ffi::{self, GilCell};
use super::loops::Loop;
use super::runtime::check_process;
use crate::error::{Error, Kind};

/// A Rust future that ends with a Python object.
pub(crate) type PyFuture = Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send>>;

/// A Rust future that Python awaits; it is polled on the loop that awaits it.
///
/// Cancelling the awaiting task drops the Rust future at once.
#[pyclass(name = "_Awaitable", module = "tiebeam._core", frozen)]
pub(crate) struct RustAwaitable {
    future: GilCell<PyFuture>,
    waiting: GilCell<Arc<Wakeup>>,
}

impl RustAwaitable {
    pub(crate) fn new(
        future: impl Future<Output = PyResult<Py<PyAny>>> + Send + 'static,
    ) -> RustAwaitable {
        RustAwaitable { future: GilCell::of(Box::pin(future)), waiting: GilCell::empty() }
    }

    fn step<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        check_process()?; // what would wake it runs in the parent
        let Some(mut future) = self.future.take(py) else {
            return Err(PyRuntimeError::new_err("this was awaited already"));
        };
        let wakeup = match self.waiting.take(py) {
            Some(wakeup) => wakeup,
            None => Arc::new(Wakeup::new(
                Loop::running(py)?
                    .ok_or_else(|| PyRuntimeError::new_err("no running event loop to wait on"))?,
            )),
        };
        wakeup.woken.store(false, Ordering::Release);
        let waker = Waker::from(wakeup.clone());
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        match polled {
            Ok(Poll::Ready(result)) => Err(ffi::ended_with(result?.into_bound(py))),
            Ok(Poll::Pending) => {
                drop(self.future.put(py, future));
                let waiting = wakeup.arm(py)?;
                drop(self.waiting.put(py, wakeup));
                Ok(waiting)
            }
            Err(panic) => Err(Error::new(Kind::Internal, "await", panic_message(&*panic)).into()),
        }
    }
}

impl fmt::Debug for RustAwaitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RustAwaitable")
    }
}

#[pymethods]
impl RustAwaitable {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.step(py)
    }

    fn send<'py>(&self, py: Python<'py>, _value: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.step(py)
    }

    /// Cancellation, or any other exception thrown in: the future is dropped.
    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        self.close(kind.py());
        Err(PyErr::from_value(match value {
            Some(value) if !value.is_none() => value,
            _ if kind.is_instance_of::<pyo3::types::PyType>() => kind.call0()?,
            _ => kind,
        }))
    }

    fn close(&self, py: Python<'_>) {
        drop(self.future.take(py));
    }
}

/// A future for a task to sleep on: what it is to be given by its coroutine.
pub(crate) fn sleep_on<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // asyncio's own, which every loop understands: `create_future` is one more call.
    static FUTURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = event_loop.py();
    let class = FUTURE
        .get_or_try_init(py, || PyResult::Ok(py.import("asyncio")?.getattr("Future")?.unbind()))?;
    let options = PyDict::new(py);
    options.set_item(pyo3::intern!(py, "loop"), event_loop)?;
    let future = class.bind(py).call((), Some(&options))?;
    // What a task checks to know that the future was yielded by an `await`.
    future.setattr(pyo3::intern!(py, "_asyncio_future_blocking"), true)?;
    Ok(future)
}

/// Resolves a future that [`sleep_on`] made, unless that has been done.
pub(crate) fn resolve(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(pyo3::intern!(py, "done"))?.is_truthy()? {
        future.call_method1(pyo3::intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
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
        sleeping.map_or(Ok(()), |future| resolve(future.bind(py)))
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        // On the loop's own thread, which holds the GIL, there is nobody to be woken first.
        if self.event_loop.is_here()
            && let Some(py) = ffi::attached()
        {
            // A loop that was closed has nobody left to be told.
            if !self.event_loop.is_gone(py)
                && let Err(error) = self.resolve(py)
            {
                error.write_unraisable(py, None);
            }
            return;
        }
        let event_loop = self.event_loop.clone();
        event_loop.call(move |py, _| self.resolve(py));
    }
}

/// Runs the coroutine that `make` returns as a task on `event_loop`, and waits for its result.
///
/// Dropping the returned future cancels the task: a Rust time-out stops the Python code too.
pub(crate) fn await_coroutine(
    event_loop: Arc<Loop>,
    make: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
) -> impl Future<Output = PyResult<Py<PyAny>>> + Send {
    let (sender, receiver) = oneshot::channel::<PyResult<Py<PyAny>>>();
    let task = Arc::new(Mutex::new(TaskSlot::default()));
    let slot = task.clone();
    let guard = CancelOnDrop { event_loop: event_loop.clone(), task };
    event_loop.call(move |py, event_loop| {
        if slot.lock().cancelled {
            return Ok(());
        }
        let started = make(py).and_then(|coroutine| {
            let options = PyDict::new(py);
            options.set_item("loop", event_loop)?;
            py.import("asyncio")?.call_method("ensure_future", (coroutine,), Some(&options))
        });
        let task = match started {
            Ok(task) => task,
            Err(error) => {
                // The receiver is gone only when nobody waits any more.
                let _ = sender.send(Err(error));
                return Ok(());
            }
        };
        slot.lock().task = Some(task.clone().unbind());
        let sender = Mutex::new(Some(sender));
        let done = PyCFunction::new_closure(py, None, None, move |args, _| -> PyResult<()> {
            let task = args.get_item(0)?;
            slot.lock().task = None;
            let sender = sender.lock().take();
            if let Some(sender) = sender {
                // A panic that ended the task goes on where its result is asked for.
                let result = guarded("await", || task.call_method0("result"));
                let _ = sender.send(result.map(Bound::unbind));
            }
            Ok(())
        })?;
        task.call_method1("add_done_callback", (done,))?;
        Ok(())
    });
    async move {
        let _guard = guard;
        receiver.await.unwrap_or_else(|_| {
            Err(Error::new(Kind::Closed, "await", "the event loop ended before the task did")
                .into())
        })
    }
}

#[derive(Default)]
struct TaskSlot {
    task: Option<Py<PyAny>>,
    cancelled: bool,
}

struct CancelOnDrop {
    event_loop: Arc<Loop>,
    task: Arc<Mutex<TaskSlot>>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let running = {
            let mut slot = self.task.lock();
            slot.cancelled = true;
            slot.task.take()
        };
        if let Some(task) = running {
            self.event_loop.call(move |py, _| task.call_method0(py, "cancel").map(drop));
        }
    }
}
