//! A thread waits until another one has done something, or some time has passed.

use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::python::args::Seconds;
use crate::python::blocking::block;
use crate::python::bridge::runtime;
use crate::python::clock::PyClock;

/// How long a thread that is too late in virtual time is waited for, in real time.
const PATIENCE: Duration = Duration::from_millis(200);

/// Set once by the one, waited for once by the other.
#[pyclass(name = "_Handover", module = "tiebeam._core", frozen)]
pub(crate) struct PyHandover {
    sender: Mutex<Option<oneshot::Sender<()>>>,
    receiver: Mutex<Option<oneshot::Receiver<()>>>,
}

#[pymethods]
impl PyHandover {
    #[new]
    fn new() -> Self {
        let (sender, receiver) = oneshot::channel();
        PyHandover { sender: Mutex::new(Some(sender)), receiver: Mutex::new(Some(receiver)) }
    }

    fn set(&self) {
        if let Some(sender) = self.sender.lock().take() {
            let _ = sender.send(()); // nobody waits any more
        }
    }

    /// Blocks until it is set, for so many seconds on `clock` at most; whether it was.
    fn wait(&self, py: Python<'_>, clock: &PyClock, limit: Seconds) -> PyResult<bool> {
        let Some(receiver) = self.receiver.lock().take() else { return Ok(false) };
        let runtime = runtime(py)?; // what wakes us when the time is up
        let sleep = clock.inner().sleep(limit.0);
        match block(py, select(receiver, sleep), None, "wait for a thread")? {
            Either::Left(_) => Ok(true),
            Either::Right(((), receiver)) if clock.inner().is_virtual() => {
                // The other thread moves such a clock, and is about to be done: were it left
                // behind, it would move the clock under whatever comes next.
                let end = runtime.clock().sleep(PATIENCE);
                block(py, select(receiver, end), None, "wait for a thread")?;
                Ok(false)
            }
            Either::Right(_) => Ok(false),
        }
    }
}
