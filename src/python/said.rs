//! What a `publish`, `request` or `send` says about its event, and the draft that comes of it.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::args::{Given, dict, priority, seconds, text, whole};
use super::event;
use super::payload;
use super::shared::Shared;
use super::typed::What;
use crate::bus::Draft;
use crate::event::{Event, Id};

/// What is said about an event, as users write it.
pub(super) struct Said<'a, 'py> {
    pub payload: Given<'a, 'py>,
    pub version: u32,
    pub event_id: Given<'a, 'py>,
    pub key: Given<'a, 'py>,
    pub priority: Given<'a, 'py>,
    pub correlation_id: Given<'a, 'py>,
    pub deadline: Given<'a, 'py>,
    pub metadata: Given<'a, 'py>,
}

impl<'a, 'py> Said<'a, 'py> {
    /// The payload and its version, and nothing beside.
    #[inline]
    pub fn about(
        what: &'a What<'py>,
        payload: Given<'a, 'py>,
        version: Given<'a, 'py>,
    ) -> PyResult<Said<'a, 'py>> {
        let (payload, version) = what.payload(payload, whole("version", version)?)?;
        Ok(Said {
            payload,
            version,
            event_id: None,
            key: None,
            priority: None,
            correlation_id: None,
            deadline: None,
            metadata: None,
        })
    }

    /// Whether there is anything beside the type, the payload and its version.
    #[inline]
    fn has_details(&self) -> bool {
        self.event_id.is_some()
            || self.key.is_some()
            || self.priority.is_some()
            || self.correlation_id.is_some()
            || self.deadline.is_some()
            || self.metadata.is_some()
    }

    /// Puts down what only some events have.
    #[cold]
    fn put_details(&self, shared: &Shared, draft: &mut Draft<'_>) -> PyResult<()> {
        draft.id = id("event_id", "the event", self.event_id)?;
        draft.priority = priority(text("priority", self.priority)?)?;
        draft.key = text("key", self.key)?.map(Arc::from);
        draft.correlation_id =
            id("correlation_id", "the chain of events that it belongs to", self.correlation_id)?;
        draft.deadline = seconds("deadline", self.deadline)?.map(|deadline| {
            let millis = i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX);
            shared.clock.unix_ms().saturating_add(millis)
        });
        if let Some(metadata) = dict("metadata", self.metadata)? {
            draft.metadata = Some(Box::new(own_metadata(metadata)?));
        }
        Ok(())
    }

    /// Encodes what was said about an event and hands the draft, with its lineage, to `act`.
    pub fn with_draft<T>(
        &self,
        py: Python<'py>,
        event_type: &str,
        (shared, producer): (&Shared, &Arc<str>),
        act: impl FnOnce(Draft<'_>) -> crate::error::Result<T>,
    ) -> PyResult<T> {
        let limit = shared.bus.settings().max_payload;
        let payload = match self.payload {
            Some(payload) => payload::encode(payload, limit, "payload")?,
            None => payload::encode(&PyDict::new(py), limit, "payload")?,
        };
        let parent = event::current(py)?;
        let parent: Option<&Arc<Event>> = parent.as_ref().map(|event| event.get().inner());
        let mut draft = Draft::new(event_type, payload);
        draft.producer = Some(producer.clone());
        draft.version = self.version;
        if self.has_details() {
            self.put_details(shared, &mut draft)?;
        }
        draft.parent = parent.map(|event| &**event);
        Ok(act(draft)?)
    }
}

/// An id that a publisher brings, and what it identifies.
fn id(name: &str, whose: &str, given: Given<'_, '_>) -> PyResult<Option<Id>> {
    const MOST: usize = 256;
    let Some(text) = text(name, given)? else { return Ok(None) };
    let wrong = if text.is_empty() {
        "is empty".to_owned()
    } else if text.len() > MOST {
        format!("has {} bytes, the limit is {MOST}", text.len())
    } else if text.chars().any(char::is_control) {
        format!("has a control character: {text:?}")
    } else {
        return Ok(Some(Id::parse(text)));
    };
    Err(PyValueError::new_err(format!(
        "{name} {wrong}; give what identifies {whose}, such as \"order-17\", or leave it out"
    )))
}

/// What users may add to the metadata; our own keys have arguments of their own.
fn own_metadata(
    metadata: &Bound<'_, PyDict>,
) -> PyResult<serde_json::Map<String, serde_json::Value>> {
    const RESERVED: [&str; 8] = [
        "priority",
        "correlation_id",
        "causation_id",
        "retry_count",
        "key",
        "deadline",
        "reply_to",
        "traceparent",
    ];
    let serde_json::Value::Object(map) = payload::from_python(metadata, "metadata")? else {
        return Ok(serde_json::Map::new());
    };
    if let Some(name) = map.keys().find(|name| RESERVED.contains(&name.as_str())) {
        return Err(PyValueError::new_err(format!(
            "metadata[{name:?}] is set by the bus; give `{name}=` where `publish` has that argument"
        )));
    }
    Ok(map)
}
