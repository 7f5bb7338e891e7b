//! Options as they are given by name: in calls, and in the configuration.

use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{Error, Kind, did_you_mean};
use crate::python::args::{flag, number_in, seconds_in, text_in, whole_in};

/// What was given to one kind of policy.
pub(super) struct Options<'a, 'py> {
    what: &'static str,
    given: &'a Bound<'py, PyDict>,
}

impl<'a, 'py> Options<'a, 'py> {
    /// Refuses names that are not `known`.
    pub(super) fn new(
        what: &'static str,
        given: &'a Bound<'py, PyDict>,
        known: &[&str],
    ) -> PyResult<Self> {
        for name in given.keys() {
            let name = name.extract::<String>()?;
            if known.contains(&name.as_str()) {
                continue;
            }
            let hint = did_you_mean(&name, known.iter().copied())
                .map_or_else(|| known.join(", "), |near| format!("did you mean `{near}`?"));
            return Err(PyTypeError::new_err(format!("{what} has no option `{name}`; {hint}")));
        }
        Ok(Options { what, given })
    }

    pub(super) fn get(&self, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.given.get_item(name)?.filter(|value| !value.is_none()))
    }

    pub(super) fn has(&self, name: &str) -> PyResult<bool> {
        self.get(name).map(|value| value.is_some())
    }

    pub(super) fn seconds(&self, name: &str) -> PyResult<Option<Duration>> {
        self.get(name)?.map(|value| seconds_in(self.what, name, &value)).transpose()
    }

    pub(super) fn whole(&self, name: &str) -> PyResult<Option<u32>> {
        self.get(name)?.map(|value| whole_in(self.what, name, &value)).transpose()
    }

    pub(super) fn number(&self, name: &str) -> PyResult<Option<f64>> {
        self.get(name)?.map(|value| number_in(self.what, name, &value)).transpose()
    }

    pub(super) fn text(&self, name: &str) -> PyResult<Option<String>> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        text_in(self.what, name, &value).map(|text| Some(text.to_owned()))
    }

    pub(super) fn flag(&self, name: &str) -> PyResult<Option<bool>> {
        flag(&format!("{}[{name:?}]", self.what), self.get(name)?.as_ref())
    }

    /// One of a few words.
    pub(super) fn choice(&self, name: &str, allowed: &[&str]) -> PyResult<Option<String>> {
        let Some(word) = self.text(name)? else { return Ok(None) };
        if allowed.contains(&word.as_str()) {
            return Ok(Some(word));
        }
        let said = format!("`{name}` is one of {}, got `{word}`", allowed.join(", "));
        Err(self.refuse(name, &said))
    }

    /// What does not go together.
    pub(super) fn refuse(&self, name: &str, said: &str) -> PyErr {
        Error::new(Kind::Configuration, "build policy", format!("{}: {said}", self.what))
            .with("field", name)
            .into()
    }
}
