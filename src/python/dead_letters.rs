//! `bus.dead_letters`: list, show, replay, purge.

use std::collections::HashSet;

use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;

use super::event::PyEvent;
use super::everywhere::PyEverywhere;
use crate::bus::{Bus, DeadLetter};

/// One delivery that was given up on.
#[pyclass(name = "DeadLetter", module = "tiebeam", frozen)]
pub(super) struct PyDeadLetter(DeadLetter);

impl PyDeadLetter {
    pub(super) fn new(letter: DeadLetter) -> PyDeadLetter {
        PyDeadLetter(letter)
    }
}

#[pymethods]
impl PyDeadLetter {
    /// Its number on this bus; 0 where it was read from a broker.
    #[getter]
    fn id(&self) -> u64 {
        self.0.id
    }

    /// What it is called in every process.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// The event as it was published.
    #[getter]
    fn event(&self) -> PyEvent {
        PyEvent::new(self.0.event.clone(), 1)
    }

    /// Whose handler gave it up.
    #[getter]
    fn subscription(&self) -> &str {
        &self.0.subscription
    }

    /// The component of that subscription.
    #[getter]
    fn component(&self) -> Option<&str> {
        self.0.component.as_deref()
    }

    /// Why it was given up: `attempts`, `not_retryable`, `rejected`, ...
    #[getter]
    fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The category of the last failure.
    #[getter]
    fn category(&self) -> &'static str {
        self.0.failure.category.as_str()
    }

    /// The class of the last exception.
    #[getter]
    fn error_type(&self) -> &str {
        &self.0.failure.error_type
    }

    /// What that said.
    #[getter]
    fn message(&self) -> &str {
        &self.0.failure.message
    }

    /// Its traceback.
    #[getter]
    fn traceback(&self) -> Option<&str> {
        self.0.failure.traceback.as_deref()
    }

    /// How many attempts were made.
    #[getter]
    fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// When it was given up, in Unix milliseconds.
    #[getter]
    fn timestamp(&self) -> i64 {
        self.0.timestamp
    }

    fn __repr__(&self) -> String {
        let DeadLetter { event, name, subscription, reason, failure, attempts, .. } = &self.0;
        let id = if self.0.id == 0 { name.to_string() } else { self.0.id.to_string() };
        format!(
            "<DeadLetter {id} {} at {subscription} after {attempts} attempts ({reason}): {}: {}>",
            event.topic, failure.error_type, failure.message
        )
    }
}

/// The dead letters of one bus.
#[pyclass(name = "DeadLetters", module = "tiebeam", frozen)]
pub(super) struct PyDeadLetters(Bus);

impl PyDeadLetters {
    pub(super) fn new(bus: Bus) -> PyDeadLetters {
        PyDeadLetters(bus)
    }
}

/// One number, or several.
struct Ids(HashSet<u64>);

impl<'a, 'py> FromPyObject<'a, 'py> for Ids {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(id) = given.extract::<u64>() {
            return Ok(Ids([id].into()));
        }
        let ids = given.extract::<Vec<u64>>().map_err(|_| {
            PyTypeError::new_err(format!(
                "the ids of dead letters are a number, or a list of numbers, such as \
                 [letter.id for letter in dead_letters.list()], got {}",
                given.get_type()
            ))
        })?;
        Ok(Ids(ids.into_iter().collect()))
    }
}

/// Which ones are meant: by number, or all of a subscription or event type, or all.
fn picked(
    ids: Option<Ids>,
    subscription: Option<String>,
    event_type: Option<String>,
) -> impl Fn(&DeadLetter) -> bool {
    let ids = ids.map(|Ids(ids)| ids);
    move |letter| {
        ids.as_ref().is_none_or(|ids| ids.contains(&letter.id))
            && subscription.as_deref().is_none_or(|name| name == &*letter.subscription)
            && event_type.as_deref().is_none_or(|name| name == letter.event.topic.as_str())
    }
}

#[pymethods]
impl PyDeadLetters {
    /// Those that are kept, the oldest first.
    #[pyo3(signature = (*, subscription=None, event_type=None))]
    fn list(&self, subscription: Option<String>, event_type: Option<String>) -> Vec<PyDeadLetter> {
        let wanted = picked(None, subscription, event_type);
        self.0.dead_letters().list().into_iter().filter(wanted).map(PyDeadLetter::new).collect()
    }

    /// The one numbered `id`; raises `KeyError` when there is none.
    fn show(&self, id: u64) -> PyResult<PyDeadLetter> {
        let letter = self.0.dead_letters().get(id);
        letter
            .map(PyDeadLetter::new)
            .ok_or_else(|| PyKeyError::new_err(format!("no dead letter {id}")))
    }

    /// Delivers them again, each to the subscription that gave it up; returns how many.
    #[pyo3(signature = (ids=None, *, subscription=None, event_type=None))]
    fn replay(
        &self,
        py: Python<'_>,
        ids: Option<Ids>,
        subscription: Option<String>,
        event_type: Option<String>,
    ) -> usize {
        let wanted = picked(ids, subscription, event_type);
        py.detach(|| self.0.replay_dead_letters(wanted))
    }

    /// Throws them away; returns how many.
    #[pyo3(signature = (ids=None, *, subscription=None, event_type=None))]
    fn purge(
        &self,
        ids: Option<Ids>,
        subscription: Option<String>,
        event_type: Option<String>,
    ) -> usize {
        self.0.purge_dead_letters(picked(ids, subscription, event_type))
    }

    /// Those of all processes, as the broker keeps them.
    #[getter]
    fn everywhere(&self) -> PyEverywhere {
        PyEverywhere::new(self.0.clone())
    }

    fn __len__(&self) -> usize {
        self.0.dead_letters().len()
    }

    fn __repr__(&self) -> String {
        format!("<DeadLetters {} kept>", self.0.dead_letters().len())
    }
}
