//! Configuration as Python sees it: load, ask, explain, change.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::payload;
use crate::clock::Clock;
use crate::config::{Config, ConfigStore, Loader, Proposal, Stamp, redact, validate_schema};

/// The configuration of one system: a current revision, and those before.
#[pyclass(name = "ConfigStore", module = "tiebeam._core", frozen)]
pub(super) struct PyConfigStore {
    store: Arc<ConfigStore>,
    clock: Clock,
}

impl PyConfigStore {
    pub(super) fn current(&self) -> Config {
        self.store.current()
    }

    fn stamp(&self, author: &str) -> Stamp {
        Stamp { at_ms: self.clock.unix_ms(), author: author.into() }
    }
}

/// A path that changes, with its old and its new value.
type Change<'py> = (String, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// A valid configuration that is not in force yet: whoever is concerned can be asked first.
#[pyclass(name = "ConfigProposal", module = "tiebeam._core", frozen)]
pub(super) struct PyConfigProposal(Proposal);

#[pymethods]
impl PyConfigProposal {
    /// The paths that it changes, each with the old and the new value.
    #[getter]
    fn changes<'py>(&self, py: Python<'py>) -> PyResult<Vec<Change<'py>>> {
        let changes = self.0.diff().changes().iter().map(|change| {
            let old = payload::to_python(py, &change.old)?;
            Ok((change.path.clone(), old, payload::to_python(py, &change.new)?))
        });
        changes.collect()
    }

    /// The components as they would be, in the order of declaration.
    fn components<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        components(py, self.0.config())
    }

    /// The place of the value that would decide.
    fn place(&self, path: &str) -> Option<String> {
        self.0.config().place(path)
    }
}

fn components<'py>(py: Python<'py>, config: &Config) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let make = |entry: &crate::config::ComponentEntry| -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("name", &entry.name)?;
        dict.set_item("path", &entry.path)?;
        dict.set_item("group", &entry.group)?;
        dict.set_item("enabled", entry.enabled)?;
        dict.set_item("class", &entry.class)?;
        dict.set_item("config", payload::to_python(py, &entry.config)?)?;
        Ok(dict)
    };
    config.components().iter().map(make).collect()
}

/// What a plugin gives; it has checked that itself, as far as it is a dict.
fn read_source(read: &Py<PyAny>) -> serde_json::Map<String, serde_json::Value> {
    let tree = super::bridge::with_python(|py| {
        let given = read
            .call0(py)
            .and_then(|given| payload::from_python(given.bind(py), "a configuration source"));
        match given {
            Ok(serde_json::Value::Object(tree)) => Some(tree),
            Ok(_) => None,
            Err(error) => {
                error.write_unraisable(py, Some(read.bind(py)));
                None
            }
        }
    });
    tree.flatten().unwrap_or_default()
}

#[pymethods]
impl PyConfigStore {
    #[new]
    #[pyo3(signature = (paths, *, values=None, set=Vec::new(), environ=HashMap::new(), known_components=Vec::new(), sources=Vec::new(), clock=None))]
    #[allow(clippy::too_many_arguments)] // keyword arguments with defaults
    fn new(
        py: Python<'_>,
        paths: Vec<String>,
        values: Option<&Bound<'_, PyDict>>,
        set: Vec<String>,
        environ: HashMap<String, String>,
        known_components: Vec<String>,
        sources: Vec<(String, Py<PyAny>)>,
        clock: Option<&super::clock::PyClock>,
    ) -> PyResult<PyConfigStore> {
        let clock = match clock {
            Some(clock) => clock.inner().clone(),
            None => super::bridge::runtime(py)?.clock().clone(),
        };
        let mut loader = Loader::new().environment(environ).known_components(known_components);
        for path in &paths {
            loader = loader.file(path);
        }
        if let Some(values) = values
            && let serde_json::Value::Object(tree) = payload::from_python(values, "config")?
        {
            loader = loader.values("config=", tree);
        }
        for pair in set {
            loader = loader.set(pair);
        }
        for (name, read) in sources {
            loader = loader.plugin(&name, move || read_source(&read));
        }
        let stamp = Stamp { at_ms: clock.unix_ms(), author: "start".into() };
        let store = py.detach(|| ConfigStore::open(loader, stamp))?;
        Ok(PyConfigStore { store: Arc::new(store), clock })
    }

    /// The number of the revision in force.
    #[getter]
    fn revision(&self) -> u64 {
        self.store.current().revision()
    }

    /// The value at a dotted path; `KeyError` when there is none.
    fn get<'py>(&self, py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyAny>> {
        match self.store.current().get(path) {
            Some(value) => payload::to_python(py, value),
            None => Err(PyKeyError::new_err(path.to_owned())),
        }
    }

    /// Whether a value stands at a dotted path.
    fn __contains__(&self, path: &str) -> bool {
        self.store.current().get(path).is_some()
    }

    /// Where the value at a path comes from, strongest source first; `None` for no such value.
    fn explain(&self, path: &str) -> Option<String> {
        self.store.current().explain(path).map(|found| found.to_string())
    }

    /// The place of the value that decided, such as `config/system.yaml:3`.
    fn place(&self, path: &str) -> Option<String> {
        self.store.current().place(path)
    }

    /// The components, in the order of declaration.
    fn components<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        components(py, &self.store.current())
    }

    /// The named policies: what was said of each stage, durations in seconds.
    fn policies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        for section in self.store.current().policies() {
            let options = serde_json::Value::Object(section.options);
            found.set_item(section.name, payload::to_python(py, &options)?)?;
        }
        Ok(found)
    }

    /// Problems that are no errors, one line each.
    fn warnings(&self) -> Vec<String> {
        self.store.current().warnings().iter().map(ToString::to_string).collect()
    }

    /// Everything, with secrets masked.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        payload::to_python(py, &self.store.current().to_redacted_json())
    }

    /// What setting these paths would change, all together, above every other source.
    fn propose(&self, py: Python<'_>, changes: &Bound<'_, PyDict>) -> PyResult<PyConfigProposal> {
        let mut overrides = Vec::with_capacity(changes.len());
        for (path, value) in changes.iter() {
            let path = path.cast::<PyString>().map_err(PyErr::from)?.to_str()?.to_owned();
            overrides.push((path.clone(), payload::from_python(&value, &path)?));
        }
        Ok(PyConfigProposal(py.detach(|| self.store.propose(&overrides))?))
    }

    /// What going back to an earlier revision would change.
    fn propose_rollback(&self, revision: u64) -> PyResult<PyConfigProposal> {
        Ok(PyConfigProposal(self.store.propose_rollback(revision)?))
    }

    /// What reading all sources again would change.
    fn propose_reload(&self, py: Python<'_>) -> PyResult<PyConfigProposal> {
        Ok(PyConfigProposal(py.detach(|| self.store.reload())?))
    }

    /// Puts a proposal in force; one that changes nothing makes no revision.
    fn commit(&self, proposal: &PyConfigProposal, author: &str) -> PyResult<()> {
        self.store.commit(proposal.0.clone(), self.stamp(author))?;
        Ok(())
    }

    /// The last revisions, oldest first.
    fn history<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let make = |revision: &crate::config::Revision| -> PyResult<Bound<'py, PyDict>> {
            let dict = PyDict::new(py);
            dict.set_item("revision", revision.id)?;
            dict.set_item("timestamp", revision.stamp.at_ms)?;
            dict.set_item("author", &revision.stamp.author)?;
            dict.set_item("rollback_of", revision.rollback_of)?;
            dict.set_item("changed", &revision.changed)?;
            Ok(dict)
        };
        self.store.history().iter().map(make).collect()
    }

    /// Every file that was read, and overlays that may appear: what to watch.
    fn files(&self) -> Vec<std::path::PathBuf> {
        self.store.current().files().to_vec()
    }

    /// The problems of `value` by a JSON Schema: pairs of JSON pointer and message.
    #[staticmethod]
    fn check_schema(
        schema: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<(String, String)>> {
        let schema = payload::from_python(schema, "schema")?;
        Ok(validate_schema(&schema, &payload::from_python(value, "value")?))
    }

    /// `value` as it may be shown under `path`: secrets masked.
    #[staticmethod]
    fn redact<'py>(
        py: Python<'py>,
        path: &str,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        payload::to_python(py, &redact::value(path, &payload::from_python(value, path)?))
    }

    fn __repr__(&self) -> String {
        let current = self.store.current();
        let files: Vec<String> =
            current.files().iter().map(|path| path.display().to_string()).collect();
        format!("<Configuration revision {} from {}>", current.revision(), files.join(", "))
    }
}
