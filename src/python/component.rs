//! A Python component as the registry sees it.
//!
//! The Python side (`tiebeam._host.Host`) knows hooks, decorators and models; here its
//! coroutines become futures, and its exceptions errors.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::bridge::{Loop, await_coroutine, with_python};
use super::checks::{read_answer, read_check};
use super::errors::failure_from;
use super::payload;
use crate::bus::Failure;
use crate::config::{COMPONENTS_WATCHED, NAMED, Settings};
use crate::error::{Category, Error, Kind, Result};
use crate::health::Check;
use crate::registry::supervision::RestartType;
use crate::registry::{Component, ComponentConfig, Descriptor, HealthAnswer, Return, Special};

/// The loop a framework runs on; known once it starts.
pub(super) type LoopSlot = Arc<OnceLock<Arc<Loop>>>;

/// A component written in Python.
pub(super) struct PyComponent {
    host: Py<PyAny>,
    descriptor: Descriptor,
    checks: Vec<Check>,
    event_loop: LoopSlot,
}

impl PyComponent {
    pub(super) fn new(
        host: Bound<'_, PyAny>,
        event_loop: LoopSlot,
        settings: &Settings,
    ) -> PyResult<PyComponent> {
        let (health, supervision) = (&settings.health, &settings.supervision);
        let said = host.call_method0("describe")?;
        let texts = |name: &str| said.get_item(name)?.extract::<Vec<String>>();
        let restart = match said.get_item("restart")?.extract::<Option<String>>()?.as_deref() {
            None => None,
            Some("permanent") => Some(RestartType::Permanent),
            Some("transient") => Some(RestartType::Transient),
            Some("temporary") => Some(RestartType::Temporary),
            Some(other) => {
                return Err(super::args::one_of(
                    "restart",
                    other,
                    &["permanent", "transient", "temporary"],
                ));
            }
        };
        let special = read_special(&said)?;
        let usual = Return { after: supervision.recover_after, passes: supervision.recover_passes };
        let descriptor = Descriptor {
            name: said.get_item("name")?.extract()?,
            version: said.get_item("version")?.extract()?,
            groups: Vec::new(),
            depends_on: texts("depends_on")?,
            wants: texts("wants")?,
            after: texts("after")?,
            capabilities: texts("capabilities")?,
            types: texts("types")?,
            restart,
            recover: Some(special.recover(usual)),
            supervision: special.supervision,
            on_loss: special.on_loss,
        };
        let mut checks = Vec::new();
        for found in said.get_item("checks")?.try_iter()? {
            checks.push(read_check(&descriptor.name, &found?, health)?);
        }
        Ok(PyComponent { host: host.unbind(), descriptor, checks, event_loop })
    }

    /// Shows the collector whom we hold.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        visit.call(&self.host)
    }

    /// Runs one hook of the host as a task on the framework's loop.
    fn hook<A>(
        &self,
        name: &'static str,
        arguments: A,
    ) -> impl Future<Output = Result<Py<PyAny>>> + Send + use<A>
    where
        A: for<'py> FnOnce(Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> + Send + 'static,
    {
        let event_loop = self.event_loop.get().cloned();
        let host = with_python(|py| self.host.clone_ref(py));
        let component = self.descriptor.name.clone();
        async move {
            let (Some(event_loop), Some(host)) = (event_loop, host) else {
                let message = "the framework's event loop is not running";
                return Err(Error::new(Kind::Closed, name, message).with("component", component));
            };
            let called = await_coroutine(event_loop, move |py| {
                let arguments = pyo3::types::PyTuple::new(py, arguments(py)?)?;
                host.bind(py).call_method1(name, arguments)
            })
            .await;
            match called {
                Ok(value) => Ok(value),
                Err(error) => {
                    let failed = with_python(|py| hook_error(py, name, &component, &error));
                    Err(failed.unwrap_or_else(|| {
                        Error::new(Kind::Closed, name, "the interpreter is shutting down")
                    }))
                }
            }
        }
    }

    fn hook_without_result<'a>(&self, name: &'static str) -> BoxFuture<'a, Result<()>> {
        let call = self.hook(name, |_| Ok(Vec::new()));
        Box::pin(async move { call.await.map(drop) })
    }
}

/// What the class says of supervision and of losses, checked as a file is.
fn read_special(said: &Bound<'_, PyAny>) -> PyResult<Special> {
    let given = payload::from_python(&said.get_item("supervision")?, "supervision")?;
    let what: String = said.get_item("class_name")?.extract()?;
    let given = match given {
        serde_json::Value::Object(given) => given,
        _ => serde_json::Map::new(),
    };
    let keys = NAMED.iter().find(|named| named.at == COMPONENTS_WATCHED);
    let read = keys.map(|named| named.read(&what, &given)).transpose()?;
    Ok(read.map(|said| Special::from_options(&said)).unwrap_or_default())
}

/// What a component says that it failed with.
pub(super) fn said_failure(component: &str, error: &Bound<'_, PyAny>) -> Error {
    hook_error(error.py(), "fail", component, &PyErr::from_value(error.clone()))
}

/// What a hook's exception means: its kind decides between "not yet", "never" and "broken".
fn hook_error(py: Python<'_>, hook: &'static str, component: &str, error: &PyErr) -> Error {
    let Failure { category, error_type, message, traceback, .. } = failure_from(py, error);
    let kind = match (error_type.as_str(), category) {
        ("NotReady", _) => Kind::NotReady,
        (_, Category::Configuration) => Kind::Configuration,
        _ => Kind::Lifecycle,
    };
    let told =
        if message.is_empty() { error_type.clone() } else { format!("{error_type}: {message}") };
    let mut failed = Error::new(kind, hook, told)
        .with_category(category)
        .with("component", component)
        .with("error_type", error_type);
    if let Some(traceback) = traceback {
        failed = failed.with("traceback", traceback);
    }
    failed
}

impl Component for PyComponent {
    fn describe(&self) -> Descriptor {
        self.descriptor.clone()
    }

    fn initialize(&self) -> BoxFuture<'_, Result<()>> {
        self.hook_without_result("initialize")
    }

    fn configure<'a>(&'a self, config: &'a ComponentConfig) -> BoxFuture<'a, Result<()>> {
        let value = config.value.clone();
        let call = self.hook("configure", move |py| Ok(vec![payload::to_python(py, &value)?]));
        Box::pin(async move { call.await.map(drop) })
    }

    fn start(&self) -> BoxFuture<'_, Result<()>> {
        self.hook_without_result("start")
    }

    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        self.hook_without_result("stop")
    }

    fn health_check(&self) -> BoxFuture<'_, Result<HealthAnswer>> {
        let call = self.hook("health_check", |_| Ok(Vec::new()));
        Box::pin(async move { read_answer(call.await?) })
    }

    fn checks(&self) -> Vec<Check> {
        self.checks.clone()
    }

    fn run_check<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<HealthAnswer>> {
        let name = name.to_owned();
        let call = self.hook("run_check", move |py| {
            Ok(vec![pyo3::types::PyString::new(py, &name).into_any()])
        });
        Box::pin(async move { read_answer(call.await?) })
    }

    fn dependency<'a>(&'a self, name: &'a str, lost: bool) -> BoxFuture<'a, Result<()>> {
        let name = name.to_owned();
        let call = self.hook("dependency", move |py| {
            let name = pyo3::types::PyString::new(py, &name).into_any();
            Ok(vec![name, pyo3::types::PyBool::new(py, lost).to_owned().into_any()])
        });
        Box::pin(async move { call.await.map(drop) })
    }

    fn validate(&self, config: &serde_json::Value) -> Result<()> {
        let checked = with_python(|py| -> PyResult<()> {
            self.host.call_method1(py, "validate", (payload::to_python(py, config)?,))?;
            Ok(())
        });
        match checked {
            Some(Err(error)) => {
                let failed = with_python(|py| {
                    hook_error(py, "validate_configuration", &self.descriptor.name, &error)
                });
                Err(failed.unwrap_or_else(|| {
                    Error::new(Kind::Closed, "validate", "the interpreter is shutting down")
                }))
            }
            _ => Ok(()),
        }
    }
}
