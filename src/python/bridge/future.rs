//! Futures across the border, both ways, with cancellation both ways.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyType};
use tokio::sync::oneshot;

use super::door::guarded;
use super::ffi::{self, GilCell};
use super::loops::Loop;
use super::runtime::check_process;
use super::sleep::{Polled, Sleeper};
use crate::error::{Error, Kind};

/// A Rust future that ends with a Python object.
pub(crate) type PyFuture = Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send>>;

/// A Rust future that Python awaits; it is polled on the loop that awaits it.
///
/// Cancelling the awaiting task drops the Rust future at once.
#[pyclass(name = "_Awaitable", module = "tiebeam._core", frozen)]
pub(crate) struct RustAwaitable {
    future: GilCell<PyFuture>,
    sleeper: GilCell<Sleeper>,
}

impl RustAwaitable {
    pub(crate) fn new(
        future: impl Future<Output = PyResult<Py<PyAny>>> + Send + 'static,
    ) -> RustAwaitable {
        RustAwaitable { future: GilCell::of(Box::pin(future)), sleeper: GilCell::empty() }
    }

    fn step<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        check_process()?; // what would wake it runs in the parent
        let Some(mut future) = self.future.take(py) else {
            return Err(PyRuntimeError::new_err("this was awaited already"));
        };
        let mut sleeper = self.sleeper.take(py).unwrap_or_default();
        match guarded("await", || sleeper.poll(py, &mut future))? {
            Polled::Ready(result) => Err(ffi::ended_with(result?.into_bound(py))),
            Polled::Sleeps(on) => {
                drop(self.future.put(py, future));
                drop(self.sleeper.put(py, sleeper));
                Ok(on)
            }
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
        Err(PyErr::from_value(thrown(kind, value)?))
    }

    fn close(&self, py: Python<'_>) {
        drop(self.future.take(py));
    }
}

/// The exception that `throw` is called with.
pub(crate) fn thrown<'py>(
    kind: Bound<'py, PyAny>,
    value: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Some(value) if !value.is_none() => Ok(value),
        _ if kind.is_instance_of::<PyType>() => kind.call0(),
        _ => Ok(kind),
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
