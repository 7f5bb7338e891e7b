//! The composition root as Python sees it.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::args::{Given, seconds};
use super::bridge::{Loop, RustAwaitable, check_process, runtime};
use super::bus::PyBus;
use super::checks::{read_check, said_answer};
use super::component::{LoopSlot, PyComponent, said_failure};
use super::config::PyConfigStore;
use super::payload;
use super::resilience::PyBreaker;
use super::shared::Shared;
use super::watchdog::PyHookWatch;
use crate::error::{Error, Kind};
use crate::framework::{Framework, Part, Spawn, log_settings};
use crate::registry::graph::Node;
use crate::registry::presence::{Identity, Question};
use crate::registry::supervision::Cause;
use crate::registry::{PolicyBreaker, Status};
use crate::telemetry::exposition::Form;
use crate::telemetry::logs::LogGuard;
use crate::telemetry::{health_json, metrics};

/// A system of components.
#[pyclass(name = "Framework", module = "tiebeam._core", frozen)]
pub(super) struct PyFramework {
    framework: Framework,
    shared: Arc<Shared>,
    event_loop: LoopSlot,
    name: Arc<str>,
    logs: parking_lot::Mutex<Option<LogGuard>>,
    /// What the registry holds too: it shows the collector the circle from a component over its
    /// host to us and back.
    components: parking_lot::Mutex<Vec<Arc<PyComponent>>>,
}

/// Background work: on the runtime's threads, so that a blocked loop does not stop it; in
/// virtual time on the loop, so that every run is the same.
struct Spawner {
    event_loop: LoopSlot,
    on_loop: bool,
    handle: tokio::runtime::Handle,
}

impl Spawn for Spawner {
    fn runtime(&self) -> Option<tokio::runtime::Handle> {
        Some(self.handle.clone())
    }

    fn spawn(&self, work: BoxFuture<'static, ()>) {
        let work = std::panic::AssertUnwindSafe(work).catch_unwind().map(|ended| {
            if ended.is_err() {
                tracing::error!(target: "tiebeam::framework", "background work panicked");
            }
        });
        if !self.on_loop {
            self.handle.spawn(work);
            return;
        }
        let Some(event_loop) = self.event_loop.get() else {
            tracing::error!(target: "tiebeam::framework", "background work before the start");
            return;
        };
        event_loop.call(move |py, event_loop| {
            let awaitable = RustAwaitable::new(async move {
                work.await;
                Python::attach(|py| Ok(py.None()))
            });
            let options = PyDict::new(py);
            options.set_item("loop", event_loop)?;
            let background = py.import("tiebeam._driver")?.getattr("background")?;
            background.call((Bound::new(py, awaitable)?,), Some(&options))?;
            Ok(())
        });
    }
}

impl PyFramework {
    fn awaitable<T, F>(
        &self,
        py: Python<'_>,
        future: F,
        convert: impl for<'py> FnOnce(Python<'py>, T) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
    ) -> PyResult<Py<RustAwaitable>>
    where
        F: Future<Output = crate::error::Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        check_process()?;
        let future = async move {
            let value = future.await?;
            Python::attach(|py| convert(py, value).map(Bound::unbind))
        };
        Py::new(py, RustAwaitable::new(future))
    }
}

#[pymethods]
impl PyFramework {
    #[new]
    #[pyo3(signature = (config, *, clock=None, elsewhere=Vec::new(), host=""))]
    fn new(
        py: Python<'_>,
        config: &PyConfigStore,
        clock: Option<&super::clock::PyClock>,
        elsewhere: Vec<(String, Vec<String>)>,
        host: &str,
    ) -> PyResult<PyFramework> {
        let runtime = runtime(py)?;
        let clock = clock.map_or_else(|| runtime.clock().clone(), |clock| clock.inner().clone());
        let event_loop: LoopSlot = Arc::new(OnceLock::new());
        let spawner = Arc::new(Spawner {
            event_loop: event_loop.clone(),
            on_loop: clock.is_virtual(),
            handle: runtime.handle().clone(),
        });
        let config = config.current();
        let name = Arc::from(config.settings().system.name.as_str());
        let node = |(name, groups)| Node { groups, ..Node::new(name) };
        let elsewhere = elsewhere.into_iter().map(node).collect();
        let identity = Identity { host: host.to_owned(), pid: std::process::id() };
        let framework = Framework::part(config, clock, spawner, Part { elsewhere, identity })?;
        let policies = framework.clone();
        let shared = Shared::new(
            framework.bus().clone(),
            Box::new(move |subscription| policies.default_policy(subscription)),
            event_loop.clone(),
            &runtime,
        );
        let logs = parking_lot::Mutex::new(None);
        let components = parking_lot::Mutex::default();
        Ok(PyFramework { framework, shared, event_loop, name, logs, components })
    }

    /// Without waiting for a lock: the collector may run anywhere.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(components) = self.components.try_lock() else { return Ok(()) };
        components.iter().try_for_each(|component| component.traverse(&visit))
    }

    /// The bus, as seen by the one who owns the framework.
    fn _bus(&self) -> PyBus {
        PyBus::over(self.shared.clone(), self.name.clone(), None, None)
    }

    #[getter]
    fn state(&self) -> &'static str {
        self.framework.state().as_str()
    }

    /// Opens the logs as the configuration says.
    fn _open_logs(&self) -> PyResult<()> {
        let mut settings = log_settings(self.framework.config().settings());
        settings.redact = Some(Arc::new(redact_log));
        let guard = crate::telemetry::logs::init(settings, self.framework.clock())?;
        *self.logs.lock() = Some(guard);
        Ok(())
    }

    /// Writes out and closes the logs.
    fn _close_logs(&self, py: Python<'_>) {
        let guard = self.logs.lock().take();
        if let Some(guard) = guard {
            py.detach(|| guard.shutdown(std::time::Duration::from_secs(2)));
        }
    }

    /// Has the watchdog watch a call of a component's hook or check; none where it is off.
    fn _watch_hook(
        &self,
        component: &str,
        name: &str,
        function: &Bound<'_, PyAny>,
    ) -> Option<PyHookWatch> {
        self.shared.under_way.begin(component, name, function).map(PyHookWatch)
    }

    /// Adds a component; false if the configuration switches it off.
    fn _register(&self, host: Bound<'_, PyAny>) -> PyResult<Option<Py<PyBus>>> {
        let py = host.py();
        let component =
            PyComponent::new(host, self.event_loop.clone(), self.framework.config().settings())?;
        let component = Arc::new(component);
        let Some(slot) = self.framework.register(component.clone())? else { return Ok(None) };
        self.components.lock().push(component);
        let name: Arc<str> = Arc::from(slot.name());
        let bus = PyBus::over(self.shared.clone(), name.clone(), Some(name), Some(slot));
        Ok(Some(Py::new(py, bus)?))
    }

    /// Starts everything on the running loop; the report says who did not start.
    fn _start(&self, py: Python<'_>) -> PyResult<Py<RustAwaitable>> {
        let event_loop = Loop::running(py)?.ok_or_else(|| {
            Error::new(Kind::Lifecycle, "start", "a framework is started on a running event loop")
        })?;
        let owner = self.event_loop.get_or_init(|| event_loop.clone());
        if !Arc::ptr_eq(owner, &event_loop) {
            let message = "the framework was started on another event loop before";
            return Err(Error::new(Kind::Lifecycle, "start", message).into());
        }
        let framework = self.framework.clone();
        self.awaitable(py, async move { framework.start().await }, |py, report| {
            let dict = PyDict::new(py);
            let errors = |failed: Vec<(String, Arc<Error>)>| {
                failed.into_iter().map(|(name, e)| (name, told(&e))).collect::<Vec<_>>()
            };
            dict.set_item("started", report.started)?;
            dict.set_item("failed", errors(report.failed))?;
            dict.set_item("blocked", report.blocked)?;
            dict.set_item("interrupted", report.interrupted)?;
            Ok(dict.into_any())
        })
    }

    /// Stops everything in order; the report says what was left.
    fn _stop(&self, py: Python<'_>) -> PyResult<Py<RustAwaitable>> {
        let (framework, shared) = (self.framework.clone(), self.shared.clone());
        self.awaitable(py, async move { Ok(framework.stop().await) }, move |py, report| {
            shared.end(py)?;
            let dict = PyDict::new(py);
            dict.set_item("stopped", report.stopped)?;
            let failed: Vec<_> =
                report.failed.into_iter().map(|(name, e)| (name, told(&e))).collect();
            dict.set_item("failed", failed)?;
            dict.set_item("left", report.left)?;
            dict.set_item("seconds", report.took.as_secs_f64())?;
            Ok(dict.into_any())
        })
    }

    /// Stops what a start has begun that was cancelled; it may be started again.
    fn _take_back(&self, py: Python<'_>) -> PyResult<Py<RustAwaitable>> {
        let framework = self.framework.clone();
        let taken_back = async move {
            framework.take_back().await;
            Ok(())
        };
        self.awaitable(py, taken_back, |py, ()| Ok(py.None().into_bound(py)))
    }

    /// Starts, stops or restarts one component.
    fn _command(&self, py: Python<'_>, what: &str, name: String) -> PyResult<Py<RustAwaitable>> {
        let (registry, what) = (self.framework.registry().clone(), what.to_owned());
        let future = async move {
            match what.as_str() {
                "start" => registry.start(&name).await,
                "stop" => registry.stop(&name).await,
                "reconfigure" => registry.reconfigure(&name).await,
                _ => registry.restart(&name).await,
            }
        };
        self.awaitable(py, future, |py, ()| Ok(py.None().into_bound(py)))
    }

    /// A component has done what it is for; false if it was not at work.
    fn _finished(&self, name: &str, why: &str) -> PyResult<bool> {
        Ok(self.framework.registry().component_finished(name, why)?)
    }

    /// A component fails by its own word; false if it was not at work.
    fn _failed(&self, name: &str, error: &Bound<'_, PyAny>) -> PyResult<bool> {
        let error = said_failure(name, error);
        Ok(self.framework.registry().component_failed(name, Cause::Error, error)?)
    }

    /// A component was told of a change of what it reads beside its own section.
    fn _told_of_change(&self, name: &str, path: &str) -> PyResult<()> {
        Ok(self.framework.registry().told_of_change(name, path)?)
    }

    /// What led to a component's present state.
    fn _why<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        shown(py, &self.framework.registry().why(name)?)
    }

    /// Puts the store's current revision in force, for what asks from now on.
    fn _use_config(&self, config: &PyConfigStore) {
        self.framework.set_config(config.current());
    }

    /// The health of everything: the requirement's JSON for each component.
    fn _health<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // Without the GIL: what has ended is let go of there, and may call back.
        shown(py, &py.detach(|| self.framework.health()))
    }

    /// Where probes and metrics are served; `None` where they are not.
    #[getter]
    fn _health_url(&self) -> Option<String> {
        self.framework.health_url()
    }

    /// The health of everything as `application/health+json`.
    fn _health_json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (_, said) = py.detach(|| health_json::system(self.framework.monitor()));
        payload::to_python(py, &said)
    }

    /// All metrics as text.
    fn _metrics(&self, py: Python<'_>, openmetrics: bool) -> String {
        let form = if openmetrics { Form::OpenMetrics } else { Form::Prometheus };
        py.detach(|| metrics::text(self.framework.monitor(), form))
    }

    /// Adds a check to a component; with `ttl` it is reported instead of asked. It takes the place
    /// of one of its name that was added before, if it `replaces` that.
    fn _add_check(
        &self,
        component: &str,
        check: &Bound<'_, PyAny>,
        ttl: Given<'_, '_>,
        replaces: bool,
    ) -> PyResult<()> {
        let ttl = seconds("ttl", ttl)?;
        let mut check = read_check(component, check, self.framework.monitor().settings())?;
        if let Some(ttl) = ttl {
            if ttl.is_zero() {
                return Err(PyValueError::new_err("ttl must be above 0 seconds"));
            }
            check.period = ttl;
        }
        Ok(self.framework.monitor().add_check(component, check, ttl.is_some(), replaces)?)
    }

    /// Takes a check out that was added.
    fn _remove_check(&self, py: Python<'_>, component: &str, name: &str) -> PyResult<()> {
        let monitor = self.framework.monitor();
        Ok(py.detach(|| monitor.remove_check(component, name))?)
    }

    /// Takes what a component says of itself.
    fn _report_check(
        &self,
        py: Python<'_>,
        component: &str,
        name: &str,
        answer: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (answer, monitor) = (said_answer(answer)?, self.framework.monitor());
        Ok(py.detach(|| monitor.report_check(component, name, answer))?)
    }

    /// The last results of a component's checks, oldest first, by the name of the check.
    fn _health_history<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let checks = self.framework.monitor().checks(name)?;
        let by_name: serde_json::Map<_, _> = checks
            .iter()
            .map(|state| {
                let records = state.history().iter().map(|record| {
                    serde_json::json!({
                        "timestamp": record.at_ms,
                        "took": record.took.as_secs_f64(),
                        "result": record.raw,
                        "health": record.verdict,
                        "applied": record.applied,
                        "value": record.outcome.value,
                        "message": record.outcome.message,
                        "details": record.outcome.details,
                    })
                });
                (state.check().name.clone(), serde_json::Value::Array(records.collect()))
            })
            .collect();
        shown(py, &by_name)
    }

    /// Every component: those here, then those that other processes announce.
    fn _services<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        shown(py, &self.framework.presence().services(true))
    }

    /// What names this process to others.
    #[getter]
    fn _instance(&self) -> &str {
        self.framework.presence().instance()
    }

    /// Asks a process about one of its components: `ping`, `info` or `stats`.
    fn _ask(
        &self,
        py: Python<'_>,
        instance: String,
        component: String,
        what: &str,
        timeout: super::args::Seconds,
    ) -> PyResult<Py<RustAwaitable>> {
        let what = match what {
            "ping" => Question::Ping,
            "info" => Question::Info,
            _ => Question::Stats,
        };
        let presence = self.framework.presence().clone();
        let future = async move { presence.ask(&instance, &component, what, timeout.0).await };
        self.awaitable(py, future, |py, said| shown(py, &said))
    }

    /// Checks one component now, and returns its health.
    fn _check_now(&self, py: Python<'_>, name: String) -> PyResult<Py<RustAwaitable>> {
        let monitor = self.framework.monitor().clone();
        let future = async move { monitor.check_now(&name).await };
        self.awaitable(py, future, |py, report| shown(py, &report))
    }

    /// What is known of one component.
    fn _status<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
        let slot = self.framework.registry().get(name)?;
        let Status { state, cause, error, blocked_by, degradations, restarts, given_up, .. } =
            slot.status();
        let dict = PyDict::new(py);
        dict.set_item("name", slot.name())?;
        dict.set_item("state", state.as_str())?;
        dict.set_item("cause", cause)?;
        dict.set_item("error", error.map(|error| told(&error)))?;
        dict.set_item("blocked_by", blocked_by)?;
        dict.set_item("degradations", degradations)?;
        dict.set_item("restarts", restarts)?;
        dict.set_item("given_up", given_up)?;
        Ok(dict)
    }

    /// The names of all components, in the order of registration.
    #[getter]
    fn components(&self) -> Vec<String> {
        self.framework.registry().slots().iter().map(|slot| slot.name().to_owned()).collect()
    }

    /// The order in which components start.
    fn _start_order(&self) -> PyResult<Vec<String>> {
        Ok(self.framework.registry().plan()?.order().map(str::to_owned).collect())
    }

    /// The dependency graph, as `text` or `mermaid`.
    fn _graph(&self, form: &str) -> PyResult<String> {
        let plan = self.framework.registry().plan()?;
        Ok(if form == "mermaid" { plan.mermaid() } else { plan.tree() })
    }

    /// How long one hook may take, in seconds.
    #[getter]
    fn _service_timeout(&self) -> f64 {
        self.framework.registry().options().service_timeout.as_secs_f64()
    }

    /// How often configuration files are compared, in seconds; `None` if nobody watches them.
    #[getter]
    fn _reload_interval(&self) -> Option<f64> {
        let config = self.framework.config();
        let settings = &config.settings().configuration;
        settings.watch_for_changes.then_some(settings.reload_interval.as_secs_f64())
    }

    /// Shows the breakers of the system's policies, each with its policy's name, to who reads the
    /// metrics.
    fn _show_breakers(&self, breakers: Vec<(String, Bound<'_, PyBreaker>)>) {
        let shown = breakers.into_iter().map(|(policy, breaker)| PolicyBreaker {
            policy: policy.into(),
            breaker: breaker.get().inner().clone(),
        });
        self.framework.registry().set_policy_breakers(shown.collect());
    }

    /// Whether fallbacks run at all.
    #[getter]
    fn _fallbacks(&self) -> bool {
        self.framework.fallback_enabled()
    }
}

/// What components say of themselves may hold a secret by mistake.
fn shown<'py>(py: Python<'py>, value: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let value = serde_json::to_value(value).unwrap_or_default();
    payload::to_python(py, &crate::config::redact::value("", &value))
}

fn told(error: &Error) -> String {
    error.to_string()
}

/// Secrets by the name of their key, or as userinfo in any URL.
fn redact_log(key: Option<&str>, text: &str) -> Option<String> {
    if key.is_some_and(crate::config::redact::is_secret_key) {
        return Some("**********".into());
    }
    let masked = crate::config::redact::text(text);
    (masked != text).then_some(masked)
}

/// Python's `logging` ends where the core's own records end.
#[pyfunction]
#[pyo3(signature = (level, target, message, fields))]
pub(super) fn _log(
    level: i32,
    target: &str,
    message: String,
    fields: &Bound<'_, PyDict>,
) -> PyResult<bool> {
    let level = match level {
        ..10 => tracing::Level::TRACE,
        10..20 => tracing::Level::DEBUG,
        20..30 => tracing::Level::INFO,
        30..40 => tracing::Level::WARN,
        _ => tracing::Level::ERROR,
    };
    if !crate::telemetry::logs::enabled(level, target) {
        return Ok(false);
    }
    let serde_json::Value::Object(fields) = payload::from_python(fields, "log")? else {
        return Ok(false);
    };
    Ok(crate::telemetry::logs::emit(level, target, message, fields))
}
