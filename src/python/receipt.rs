//! What `publish` and `send` return: awaited in a coroutine, waited for in a thread.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::args::seconds;
use super::blocking::{block, refuse_deadlock};
use super::bridge::ffi::{
    Before, Content, OftenReady, Spare, Vessel, exhausted, nothing_to_wait_for,
};
use super::bridge::{RustAwaitable, with_python};
use crate::bus::{Admission, Published};
use crate::event::Event;
use crate::transport::Fate;

/// Accepted, or waiting for room.
#[pyclass(name = "Receipt", module = "tiebeam", frozen)]
pub(super) struct Receipt(Content<Accepted>);

/// What was published, and what is still to be waited for.
pub(super) struct Accepted {
    event: Arc<Event>,
    /// Absent where there was room at once: nobody has to look into it.
    admission: Option<Mutex<Option<Admission>>>,
    /// Where it is the broker that takes it: what is known of that.
    fate: Option<Fate>,
    duplicate: bool,
}

impl Vessel for Receipt {
    type Held = Accepted;

    fn content(&self) -> &Content<Accepted> {
        &self.0
    }
}

impl From<Accepted> for Receipt {
    fn from(accepted: Accepted) -> Receipt {
        Receipt(Content::new(accepted))
    }
}

impl Receipt {
    fn event(&self) -> &Arc<Event> {
        &self.0.get().event
    }

    /// What is still to be waited for, for the first who asks.
    fn take(&self) -> Option<Admission> {
        self.0.get().admission.as_ref().and_then(|admission| admission.lock().take())
    }
}

/// Hands out receipts.
pub(super) struct Receipts(Spare<Receipt>);

impl Receipts {
    pub(super) const fn new() -> Receipts {
        Receipts(Spare::new(1))
    }

    pub(super) fn of(&self, py: Python<'_>, published: Published) -> PyResult<Py<Receipt>> {
        let Published { event, admission, duplicate } = published;
        match admission {
            // What was accepted at once is most often dropped before the next one is needed.
            None => self.0.make(py, Accepted { event, admission: None, fate: None, duplicate }),
            Some(admission) => {
                let fate = admission.fate();
                let admission = Some(Mutex::new(Some(admission)));
                Py::new(py, Receipt::from(Accepted { event, admission, fate, duplicate }))
            }
        }
    }
}

impl OftenReady for Receipt {
    fn ready(this: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        if this.get().0.get().admission.is_none() { exhausted(this.py()) } else { None }
    }

    fn before() -> &'static Before {
        static BEFORE: Before = Before::new();
        &BEFORE
    }
}

#[pymethods]
impl Receipt {
    /// The id the event was given.
    #[getter]
    fn event_id(&self) -> String {
        self.event().id.to_string()
    }

    /// Whether every mailbox, or the broker, has taken the event.
    #[getter]
    fn accepted(&self) -> bool {
        if let Some(fate) = &self.0.get().fate {
            return fate.is_accepted();
        }
        let admission = self.0.get().admission.as_ref().map(|admission| admission.lock());
        admission.is_none_or(|a| a.as_ref().is_none_or(Admission::is_complete))
    }

    /// Whether an event of this id was published before; this one then went nowhere.
    #[getter]
    fn duplicate(&self) -> bool {
        self.0.get().duplicate
    }

    fn __await__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(admission) = self.take() else {
            return nothing_to_wait_for(py);
        };
        let future = async move {
            admission.await?;
            Python::attach(|py| Ok(py.None()))
        };
        Ok(Py::new(py, RustAwaitable::new(future))?.into_any())
    }

    /// Blocks this thread until every mailbox has taken the event.
    ///
    /// Raises `TimeoutExceeded` after `timeout` seconds; the event is then dropped where there
    /// was no room.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let timeout = seconds("timeout", timeout)?;
        let Some(admission) = self.take() else { return Ok(()) };
        for subscription in admission.waiting_for() {
            refuse_deadlock(subscription.executor().thread(), subscription.name(), "wait")?;
        }
        block(py, admission, timeout, "publish")??;
        Ok(())
    }

    fn __repr__(&self) -> String {
        let state = if self.duplicate() {
            "duplicate"
        } else if self.accepted() {
            "accepted"
        } else {
            match &self.0.get().fate {
                None => "waiting for room",
                Some(fate) if fate.is_known() => "not accepted",
                Some(_) => "on its way",
            }
        };
        format!("<Receipt {} {} {state}>", self.event().topic, self.event().id)
    }
}

impl Drop for Receipt {
    /// Nobody waited: the event is dropped where there was no room, and that is said aloud.
    fn drop(&mut self) {
        let Some(admission) = &mut self.0.get_mut().admission else { return };
        let Some(admission) = admission.get_mut().take() else { return };
        if !admission.waits_for_room() {
            return;
        }
        let Err(error) = admission.give_up() else { return };
        // While the interpreter ends, there is nobody left to tell.
        with_python(|py| PyErr::from(error).write_unraisable(py, None));
    }
}
