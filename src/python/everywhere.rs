//! `bus.dead_letters.everywhere`: those of all processes, as the broker keeps them.

use std::collections::HashSet;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::blocking::block;
use super::bridge::{RustAwaitable, check_process};
use super::dead_letters::PyDeadLetter;
use crate::bus::{Bus, KeptLetter, Picks};
use crate::error::Result;

/// The dead letters of all processes.
#[pyclass(name = "DeadLettersEverywhere", module = "tiebeam", frozen)]
pub(super) struct PyEverywhere(Bus);

impl PyEverywhere {
    pub(super) fn new(bus: Bus) -> PyEverywhere {
        PyEverywhere(bus)
    }

    fn found(
        &self,
        picks: Picks,
        limit: usize,
    ) -> PyResult<impl Future<Output = Result<Vec<KeptLetter>>> + Send + use<>> {
        check_process()?;
        if limit == 0 {
            return Err(PyValueError::new_err("limit: must be at least 1, got 0"));
        }
        let bus = self.0.clone();
        Ok(async move { bus.kept_letters(picks, limit).await })
    }

    fn replayed(
        &self,
        picks: Picks,
    ) -> PyResult<impl Future<Output = Result<usize>> + Send + use<>> {
        check_process()?;
        let bus = self.0.clone();
        Ok(async move { bus.replay_kept(picks).await })
    }

    fn purged(&self, picks: Picks) -> PyResult<impl Future<Output = Result<usize>> + Send + use<>> {
        check_process()?;
        let bus = self.0.clone();
        Ok(async move { bus.purge_kept(picks).await })
    }
}

/// One name, or several.
pub(super) struct Names(HashSet<String>);

impl<'a, 'py> FromPyObject<'a, 'py> for Names {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(name) = given.extract::<String>() {
            return Ok(Names([name].into()));
        }
        let names = given.extract::<Vec<String>>().map_err(|_| {
            PyTypeError::new_err(format!(
                "the names of dead letters are a string, or a list of strings, such as \
                 [letter.name for letter in await dead_letters.everywhere.list()], got {}",
                given.get_type()
            ))
        })?;
        Ok(Names(names.into_iter().collect()))
    }
}

/// Which ones are meant: by name, or all of a subscription or event type, or all.
fn picks(names: Option<Names>, subscription: Option<String>, event_type: Option<String>) -> Picks {
    let names = names.map(|Names(names)| names);
    Box::new(move |KeptLetter { letter, .. }| {
        names.as_ref().is_none_or(|names| names.contains(&*letter.name))
            && subscription.as_deref().is_none_or(|name| name == &*letter.subscription)
            && event_type.as_deref().is_none_or(|name| name == letter.event.topic.as_str())
    })
}

fn shown(found: Vec<KeptLetter>) -> Vec<PyDeadLetter> {
    found.into_iter().map(|kept| PyDeadLetter::new(kept.letter)).collect()
}

#[pymethods]
impl PyEverywhere {
    /// Those that are kept, the oldest first.
    #[pyo3(signature = (*, subscription=None, event_type=None, limit=1_000))]
    fn list(
        &self,
        py: Python<'_>,
        subscription: Option<String>,
        event_type: Option<String>,
        limit: usize,
    ) -> PyResult<Py<RustAwaitable>> {
        let found = self.found(picks(None, subscription, event_type), limit)?;
        let future = async move {
            let found = shown(found.await?);
            Python::attach(|py| Ok(found.into_pyobject(py)?.unbind()))
        };
        Py::new(py, RustAwaitable::new(future))
    }

    /// `list` for a plain thread.
    #[pyo3(signature = (*, subscription=None, event_type=None, limit=1_000))]
    fn list_sync(
        &self,
        py: Python<'_>,
        subscription: Option<String>,
        event_type: Option<String>,
        limit: usize,
    ) -> PyResult<Vec<PyDeadLetter>> {
        let found = self.found(picks(None, subscription, event_type), limit)?;
        Ok(shown(block(py, found, None, "read dead letters")??))
    }

    /// Has them handled again, each by the group that gave it up; returns how many.
    #[pyo3(signature = (names=None, *, subscription=None, event_type=None))]
    fn replay(
        &self,
        py: Python<'_>,
        names: Option<Names>,
        subscription: Option<String>,
        event_type: Option<String>,
    ) -> PyResult<Py<RustAwaitable>> {
        counting(py, self.replayed(picks(names, subscription, event_type))?)
    }

    /// `replay` for a plain thread.
    #[pyo3(signature = (names=None, *, subscription=None, event_type=None))]
    fn replay_sync(
        &self,
        py: Python<'_>,
        names: Option<Names>,
        subscription: Option<String>,
        event_type: Option<String>,
    ) -> PyResult<usize> {
        let replayed = self.replayed(picks(names, subscription, event_type))?;
        Ok(block(py, replayed, None, "replay dead letters")??)
    }

    /// Throws them away; returns how many.
    #[pyo3(signature = (names=None, *, subscription=None, event_type=None))]
    fn purge(
        &self,
        py: Python<'_>,
        names: Option<Names>,
        subscription: Option<String>,
        event_type: Option<String>,
    ) -> PyResult<Py<RustAwaitable>> {
        counting(py, self.purged(picks(names, subscription, event_type))?)
    }

    /// `purge` for a plain thread.
    #[pyo3(signature = (names=None, *, subscription=None, event_type=None))]
    fn purge_sync(
        &self,
        py: Python<'_>,
        names: Option<Names>,
        subscription: Option<String>,
        event_type: Option<String>,
    ) -> PyResult<usize> {
        let purged = self.purged(picks(names, subscription, event_type))?;
        Ok(block(py, purged, None, "purge dead letters")??)
    }

    fn __repr__(&self) -> &'static str {
        "<DeadLettersEverywhere>"
    }
}

fn counting(
    py: Python<'_>,
    counted: impl Future<Output = Result<usize>> + Send + 'static,
) -> PyResult<Py<RustAwaitable>> {
    let future = async move {
        let count = counted.await?;
        Python::attach(|py| Ok(count.into_pyobject(py)?.into_any().unbind()))
    };
    Py::new(py, RustAwaitable::new(future))
}
