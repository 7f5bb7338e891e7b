//! What `publish`, `request` and `send` are given: a type and a payload, or a typed event.

use std::borrow::Cow;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// The first argument: the type of the event, or an instance of a class that has one.
pub(super) struct What<'py> {
    topic: Bound<'py, PyString>,
    /// The instance that is the payload, and its version.
    typed: Option<(Bound<'py, PyAny>, u32)>,
}

impl<'a, 'py> FromPyObject<'a, 'py> for What<'py> {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(topic) = given.cast::<PyString>() {
            return Ok(What { topic: topic.to_owned(), typed: None });
        }
        // Raises for what is no event, and says what is.
        let described = given.py().import("tiebeam._typed")?.call_method1("describe", (given,))?;
        let (topic, version) = described.extract()?;
        Ok(What { topic, typed: Some((given.to_owned(), version)) })
    }
}

impl<'py> What<'py> {
    pub fn topic(&self) -> &Bound<'py, PyString> {
        &self.topic
    }

    /// The payload and its version, by what was given beside the first argument.
    pub fn payload<'a>(
        &'a self,
        payload: Option<&'a Bound<'py, PyAny>>,
        version: Option<u32>,
    ) -> PyResult<(Option<&'a Bound<'py, PyAny>>, u32)> {
        if version == Some(0) {
            return Err(PyValueError::new_err("versions begin with 1, got 0"));
        }
        match &self.typed {
            None => Ok((payload, version.unwrap_or(1))),
            Some((event, own)) if payload.is_none() => Ok((Some(event), version.unwrap_or(*own))),
            Some((event, _)) => {
                let class = event.get_type();
                let name = class
                    .name()
                    .map_or(Cow::Borrowed("event"), |name| Cow::Owned(name.to_string()));
                Err(PyTypeError::new_err(format!(
                    "a {name} is type and payload in one, and a second payload was given; to \
                     publish it under another type, write (\"other.type\", {name}(...))"
                )))
            }
        }
    }
}
