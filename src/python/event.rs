//! `Event`: the core's event as Python sees it, with a payload decoded on first look.

use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

use super::bridge::ffi::{Content, ContextVar, GilCell, Vessel};
use super::payload;
use crate::bus::Undecided;
use crate::error::{Error, Kind};
use crate::event::{Event, Id, Metadata, MetadataOf, Priority};
use crate::topic::Topic;

/// One thing that happened, as one handler sees it.
#[pyclass(name = "Event", module = "tiebeam", frozen, weakref)]
pub(super) struct PyEvent(Content<Seen>);

/// What a handler sees; the object around it serves the next event when nobody kept it.
pub(super) struct Seen {
    event: Arc<Event>,
    attempt: u32,
    /// Private to this handler: what it changes, nobody else sees.
    payload: GilCell<Py<PyAny>>,
    /// What its handler decides on, where it does so itself.
    undecided: Option<Box<Undecided>>,
}

impl Seen {
    pub(super) fn new(event: Arc<Event>, attempt: u32) -> Seen {
        Seen { event, attempt, payload: GilCell::empty(), undecided: None }
    }

    pub(super) fn into_event(self) -> Arc<Event> {
        self.event
    }

    pub(super) fn undecided(self, undecided: Undecided) -> Seen {
        Seen { undecided: Some(Box::new(undecided)), ..self }
    }
}

impl Vessel for PyEvent {
    type Held = Seen;

    fn content(&self) -> &Content<Seen> {
        &self.0
    }
}

impl From<Seen> for PyEvent {
    fn from(seen: Seen) -> PyEvent {
        PyEvent(Content::new(seen))
    }
}

impl PyEvent {
    pub(super) fn new(event: Arc<Event>, attempt: u32) -> PyEvent {
        Seen::new(event, attempt).into()
    }

    /// Whether somebody is still to decide on it, or has.
    pub(super) fn is_to_be_decided(&self) -> bool {
        self.0.get().undecided.is_some()
    }

    /// Has `act` decide on the event, without the GIL.
    fn decide(
        &self,
        py: Python<'_>,
        what: &'static str,
        act: impl FnOnce(&Undecided) -> crate::error::Result<()> + Send,
    ) -> PyResult<()> {
        let Some(undecided) = &self.0.get().undecided else {
            let message = format!(
                "cannot {what} the event {}: only the handler of a subscription with \
                 ack=\"manual\" decides on its events",
                self.inner().id
            );
            return Err(Error::new(Kind::Lifecycle, what, message).into());
        };
        Ok(py.detach(|| act(undecided))?)
    }

    pub(super) fn inner(&self) -> &Arc<Event> {
        &self.0.get().event
    }

    /// Whether this is what a handler sees of it.
    pub(super) fn shows(&self, event: &Arc<Event>, attempt: u32) -> bool {
        let seen = self.0.get();
        Arc::ptr_eq(&seen.event, event) && seen.attempt == attempt
    }

    /// Lets go of the decoded payload.
    pub(super) fn forget_payload(&self, py: Python<'_>) {
        drop(self.0.get().payload.take(py));
    }
}

/// The event whose handling is under way in the current context: where lineage comes from.
pub(super) fn current(py: Python<'_>) -> PyResult<Option<Bound<'_, PyEvent>>> {
    Ok(match lineage(py)?.get(py)? {
        Some(event) if !event.is_none() => Some(event.cast_into::<PyEvent>()?),
        _ => None,
    })
}

pub(super) fn set_current(py: Python<'_>, event: &Bound<'_, PyEvent>) -> PyResult<()> {
    lineage(py)?.set(py, event)
}

pub(super) fn unset_current(py: Python<'_>) -> PyResult<()> {
    lineage(py)?.set(py, py.None().bind(py))
}

/// The variable that holds the event whose handling is under way.
pub(super) fn lineage(py: Python<'_>) -> PyResult<&'static ContextVar> {
    static CURRENT: PyOnceLock<ContextVar> = PyOnceLock::new();
    CURRENT.get_or_try_init(py, || ContextVar::new(c"tiebeam_current_event", py))
}

#[pymethods]
impl PyEvent {
    /// Makes an event by hand: for tests, and for tools that write to a broker.
    #[new]
    #[pyo3(signature = (event_type, payload=None, *, event_id=None, timestamp=0, producer="", version=1, metadata=None))]
    #[allow(clippy::too_many_arguments)] // keyword arguments, one per field of the envelope
    fn make(
        py: Python<'_>,
        event_type: &str,
        payload: Option<&Bound<'_, PyAny>>,
        event_id: Option<&str>,
        timestamp: i64,
        producer: &str,
        version: u32,
        metadata: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyEvent> {
        let id =
            event_id.map_or_else(|| crate::event::IdSource::random().next(timestamp), Id::parse);
        let empty = PyDict::new(py).into_any();
        let event = Event {
            topic: Topic::parse(event_type)?,
            timestamp,
            late: 0,
            producer: Arc::from(producer),
            version,
            payload: payload::encode(payload.unwrap_or(&empty), usize::MAX >> 1, "payload")?,
            metadata: Metadata {
                priority: Priority::Normal,
                lineage: None,
                retry_count: 0,
                extra: None,
            },
            id,
        };
        match metadata {
            None => Ok(PyEvent::new(Arc::new(event), 1)),
            Some(metadata) => {
                // The wire form knows how to read metadata; there is no second reader.
                let mut wire: serde_json::Value = serde_json::from_str(&event.to_json())
                    .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
                wire["metadata"] = payload::from_python(metadata, "metadata")?;
                Ok(PyEvent::new(Arc::new(Event::from_json(&wire.to_string())?), 1))
            }
        }
    }

    /// Reads an event from its JSON wire form.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<PyEvent> {
        Ok(PyEvent::new(Arc::new(Event::from_json(text)?), 1))
    }

    /// The event in its JSON wire form.
    fn to_json(&self) -> String {
        self.inner().to_json()
    }

    /// Unique; `evt_` and a time-ordered number unless given.
    #[getter]
    fn event_id(&self) -> String {
        self.inner().id.to_string()
    }

    /// The topic.
    #[getter]
    fn event_type<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::intern(py, self.inner().topic.as_str())
    }

    /// The topic's first segment.
    #[getter]
    fn category(&self) -> &str {
        self.inner().category()
    }

    /// When it was published, in Unix milliseconds.
    #[getter]
    fn timestamp(&self) -> i64 {
        self.inner().timestamp
    }

    /// The component, bus or system that published it.
    #[getter]
    fn producer(&self) -> &str {
        &self.inner().producer
    }

    /// The version of the payload's form.
    #[getter]
    fn version(&self) -> u32 {
        self.inner().version
    }

    /// The payload, private to this handler.
    #[getter]
    fn payload(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let seen = self.0.get();
        if let Some(decoded) = seen.payload.get(py) {
            return Ok(decoded);
        }
        let decoded = payload::decode(py, seen.event.payload.root())?.unbind();
        // Decoding may have let another thread in, which then came first.
        if let Some(first) = seen.payload.get(py) {
            return Ok(first);
        }
        drop(seen.payload.put(py, decoded.clone_ref(py)));
        Ok(decoded)
    }

    /// Everything about the event, as it is on the wire.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let metadata = payload::to_python(py, &MetadataOf(self.inner()))?;
        metadata.set_item("retry_count", self.retry_count())?;
        Ok(metadata)
    }

    /// `low`, `normal`, `high` or `critical`.
    #[getter]
    fn priority(&self) -> &'static str {
        self.inner().metadata.priority.as_str()
    }

    /// The chain that it belongs to: its parent's, or its own id.
    #[getter]
    fn correlation_id(&self) -> String {
        self.inner().correlation_id().to_string()
    }

    /// The id of the event in whose handling it was published.
    #[getter]
    fn causation_id(&self) -> Option<String> {
        self.inner().causation_id().map(Id::to_string)
    }

    /// How many attempts failed before this one.
    #[getter]
    fn retry_count(&self) -> u32 {
        self.inner().metadata.retry_count.saturating_add(self.0.get().attempt - 1)
    }

    /// What keeps its order among events of the same key.
    #[getter]
    fn key(&self) -> Option<&str> {
        self.inner().key().map(|key| &**key)
    }

    /// After which nobody wants it, in Unix milliseconds.
    #[getter]
    fn deadline(&self) -> Option<i64> {
        self.inner().metadata.extra.as_ref().and_then(|extra| extra.deadline)
    }

    /// Settles the event as handled.
    fn ack(&self, py: Python<'_>) -> PyResult<()> {
        self.decide(py, "ack", Undecided::ack)
    }

    /// Settles the event as failed: it comes back by the retry policy.
    fn nack(&self, py: Python<'_>) -> PyResult<()> {
        self.decide(py, "nack", Undecided::nack)
    }

    /// Settles the event as a dead letter.
    #[pyo3(signature = (reason=None))]
    fn reject(&self, py: Python<'_>, reason: Option<&str>) -> PyResult<()> {
        self.decide(py, "reject", |undecided| undecided.reject(reason))
    }

    /// A payload may have been given the event itself, or who keeps it.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.get().payload.traverse(&visit)
    }

    fn __clear__(&self) {
        Python::attach(|py| self.forget_payload(py));
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<PyEvent>().is_ok_and(|other| other.get().inner().id == self.inner().id)
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.inner().id.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        format!(
            "<Event {} {} from {} {}>",
            self.inner().topic,
            self.inner().id,
            self.inner().producer,
            short_payload(self.inner())
        )
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        Ok((slf.get_type().getattr("from_json")?, (slf.get().to_json(),)))
    }

    fn _repr_html_(&self) -> String {
        let pretty = serde_json::to_string_pretty(&**self.inner()).unwrap_or_default();
        format!(
            "<details><summary><b>{}</b> from <i>{}</i> <code>{}</code></summary>\
             <pre>{}</pre></details>",
            escape(self.inner().topic.as_str()),
            escape(&self.inner().producer),
            escape(&short_payload(self.inner())),
            escape(&pretty)
        )
    }
}

/// The payload for one line.
fn short_payload(event: &Event) -> String {
    let mut payload = event.payload.to_json();
    if payload.len() > 120 {
        let end = (0..=120).rev().find(|&end| payload.is_char_boundary(end)).unwrap_or(0);
        payload.truncate(end);
        payload.push('…');
    }
    payload
}

/// Text made safe inside HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
