//! From a callable and what is said about it to a subscription.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyString};

use super::args::{filter, flag, one_of, seconds, text, whole};
use super::bridge::{Loop, check_process};
use super::handler::Handler;
use super::inline::Inline;
use super::policies::retry_policy;
use super::pump::{LoopExecutor, Pump};
use super::shared::Shared;
use super::subscription::PySubscription;
use super::workers::ThreadExecutor;
use crate::bus::{Ack, BusSettings, Executor, KeyPath, Manual, Options, Overflow, Policy, Role};
use crate::topic::Pattern;
use crate::transport::Start;

/// How a handler wants to be served: the keyword arguments of `subscribe`, `respond` and `handle`.
#[derive(Default)]
pub(super) struct How<'py> {
    name: Option<String>,
    conditions: Option<Bound<'py, PyAny>>,
    key: Option<String>,
    concurrency: Option<usize>,
    capacity: Option<usize>,
    overflow: Option<String>,
    sample_interval: Option<Duration>,
    group: Option<String>,
    broadcast: Option<bool>,
    start: Option<Bound<'py, PyAny>>,
    ack: Option<String>,
    retry: Option<Bound<'py, PyAny>>,
    fallback: Option<Bound<'py, PyAny>>,
    run_in: Option<String>,
    timeout: Option<Duration>,
    exclude: Vec<String>,
    /// Whether one event is all it takes.
    once: bool,
    /// Whether it belongs to the machinery, which books and explanations leave out.
    internal: bool,
}

impl<'py> How<'py> {
    /// Reads what was given; the only place that knows the options by their names. Which of them
    /// a method has, and what a slip of the pen may mean, `tiebeam._options` tells before.
    pub fn read(given: Option<&Bound<'py, PyDict>>) -> PyResult<How<'py>> {
        let mut how = How::default();
        for (option, value) in given.into_iter().flatten() {
            how.set(&option.extract::<String>()?, value)?;
        }
        Ok(how)
    }

    fn set(&mut self, option: &str, value: Bound<'py, PyAny>) -> PyResult<()> {
        let given = (!value.is_none()).then_some(&value);
        let text = || text(option, given).map(|text| text.map(str::to_owned));
        match option {
            "name" => self.name = text()?,
            "where" => self.conditions = given.cloned(),
            "key" => self.key = text()?,
            "concurrency" => self.concurrency = whole(option, given)?,
            "capacity" => self.capacity = whole(option, given)?,
            "overflow" => self.overflow = text()?,
            "sample_interval" => self.sample_interval = seconds(option, given)?,
            "group" => self.group = text()?,
            "broadcast" => self.broadcast = flag(option, given)?,
            "start" => self.start = given.cloned(),
            "ack" => self.ack = text()?,
            "retry" => self.retry = given.cloned(),
            "fallback" => self.fallback = given.cloned(),
            "run_in" => self.run_in = text()?,
            "timeout" => self.timeout = seconds(option, given)?,
            "_exclude" => self.exclude = value.extract()?,
            "_once" => self.once = value.extract()?,
            "_internal" => self.internal = value.extract()?,
            other => {
                return Err(PyTypeError::new_err(format!("there is no option `{other}`")));
            }
        }
        Ok(())
    }
}

/// Subscribes `callable` on the bus of `shared`, for `component` if it is one's.
pub(super) fn add(
    py: Python<'_>,
    shared: &Arc<Shared>,
    component: Option<&Arc<str>>,
    pattern: &str,
    callable: Bound<'_, PyAny>,
    role: Role,
    how: How<'_>,
) -> PyResult<PySubscription> {
    check_process()?;
    let settings = shared.bus.settings();
    let name = how.name.clone().unwrap_or_else(|| handler_name(&callable));
    let name = match component {
        Some(component) => format!("{component}.{name}"),
        None => name,
    };
    let policy = (shared.default_policy)(&name)?;
    let options = options(settings, name, component, policy, role, &how)?;
    let handler = Handler::new(callable, how.fallback.clone(), settings.max_payload)?;
    let place = place(how.run_in.as_deref(), handler.needs_loop())?;
    let (handler, executor) =
        executor(py, shared, handler.deciding(options.manual.clone()), place)?;
    let subscription = if how.once {
        shared.bus.subscribe_once(pattern, options, executor)?
    } else {
        shared.bus.subscribe(pattern, options, executor)?
    };
    Ok(PySubscription::new(subscription, handler))
}

/// Refuses what `add` would refuse on a bus with the usual settings, wherever it is; for what is
/// declared before there is a bus.
pub(super) fn check(role: Role, is_async: bool, how: &How<'_>) -> PyResult<()> {
    let component = Arc::from("component");
    let settings = BusSettings::default();
    options(&settings, "handler".into(), Some(&component), Policy::default(), role, how)?
        .check()?;
    place(how.run_in.as_deref(), is_async)?;
    Ok(())
}

/// What is said about a handler, as the core takes it.
fn options(
    settings: &BusSettings,
    name: String,
    component: Option<&Arc<str>>,
    mut policy: Policy,
    role: Role,
    how: &How<'_>,
) -> PyResult<Options> {
    let overflow = match how.overflow.as_deref() {
        // Requests and commands never conflate: each wants its answer, or its effect.
        None if role != Role::Subscriber && settings.overflow == Overflow::Latest => {
            Overflow::Block
        }
        None => settings.overflow,
        Some(given) => overflow(given)?,
    };
    if overflow == Overflow::Sample && how.run_in.as_deref() == Some("inline") {
        return Err(PyValueError::new_err(
            "overflow=\"sample\" has events wait, and run_in=\"inline\" handles them inside \
             `publish`; choose another `run_in`",
        ));
    }
    if let Some(retry) = &how.retry {
        policy.retry = retry_policy(retry, settings.seed)?;
    }
    let ack = match how.ack.as_deref() {
        None => Ack::default(),
        Some(given) => {
            Ack::parse(given).ok_or_else(|| one_of("ack", given, &Ack::ALL.map(Ack::as_str)))?
        }
    };
    if !ack.retries() && how.retry.is_none() {
        policy.retry = None; // the bus's own, which is not meant for it
    }
    policy.fallback = how.fallback.is_some();
    let (group, competing) = group(how, component.is_some() && role == Role::Subscriber, &name)?;
    Ok(Options {
        name,
        component: component.cloned(),
        exclude: how.exclude.iter().map(|p| Pattern::parse(p)).collect::<Result<_, _>>()?,
        filter: filter(how.conditions.as_ref())?,
        key: how.key.as_deref().map(KeyPath::parse).transpose()?,
        capacity: how.capacity.unwrap_or(settings.capacity),
        overflow,
        sample_interval: how.sample_interval,
        concurrency: how.concurrency.unwrap_or(1),
        timeout: Some(how.timeout.unwrap_or(settings.handler_timeout)),
        policy,
        ack,
        manual: (ack == Ack::Manual).then(Arc::<Manual>::default),
        start: start(how.start.as_ref())?,
        group,
        competing,
        role,
        internal: how.internal,
        abroad: false,
    })
}

/// The group, and whether its events are shared on this bus. A component's handler has a group of
/// its own, which its replicas on other buses belong to: nobody here competes with it.
fn group(how: &How<'_>, in_component: bool, name: &str) -> PyResult<(Option<Arc<str>>, bool)> {
    match (how.group.as_deref(), how.broadcast) {
        (Some(group), Some(true)) => Err(PyValueError::new_err(format!(
            "broadcast=True gives every subscription each event, group={group:?} one of them; \
             leave one of them out"
        ))),
        (Some(group), _) => Ok((Some(group.into()), true)),
        (None, Some(true)) => Ok((None, false)),
        (None, Some(false)) if !in_component => Err(PyValueError::new_err(
            "broadcast=False needs to know with whom to share; give group=, or leave it out",
        )),
        (None, _) => Ok((in_component.then(|| name.into()), false)),
    }
}

/// Where a new group begins.
fn start(given: Option<&Bound<'_, PyAny>>) -> PyResult<Start> {
    let Some(given) = given else { return Ok(Start::Now) };
    match given.cast::<PyString>() {
        Ok(text) if text == "now" => Ok(Start::Now),
        Ok(text) if text == "first" => Ok(Start::First),
        Ok(text) => Err(one_of("start", text.to_str()?, &["now", "first"])),
        Err(_) if given.is_instance_of::<PyInt>() && !given.is_instance_of::<PyBool>() => {
            let position = given.extract().ok().filter(|position| *position >= 0);
            position.map(Start::At).ok_or_else(|| {
                let said = "a position is a time in Unix milliseconds";
                PyValueError::new_err(format!("start: {said}, got {given}"))
            })
        }
        Err(_) => Err(PyTypeError::new_err(format!(
            "start is \"now\", \"first\" or a position, got {}",
            given.get_type().name()?
        ))),
    }
}

/// An overflow policy by its name.
fn overflow(name: &str) -> PyResult<Overflow> {
    Overflow::parse(name)
        .ok_or_else(|| one_of("overflow", name, &Overflow::ALL.map(Overflow::as_str)))
}

/// The overflow policy of a whole bus.
pub(super) fn default_overflow(name: &str) -> PyResult<Overflow> {
    match overflow(name)? {
        Overflow::Sample => Err(PyValueError::new_err(
            "overflow=\"sample\" is for single subscriptions, because each needs its \
             sample_interval=; for a whole bus, choose \"latest\"",
        )),
        overflow => Ok(overflow),
    }
}

/// Where a handler runs, by its kind and by what its subscriber wishes.
fn place(run_in: Option<&str>, needs_loop: bool) -> PyResult<&str> {
    const PLACES: [&str; 3] = ["loop", "thread", "inline"];
    let place = match run_in {
        None if needs_loop => "loop",
        None => "thread",
        Some(place) if PLACES.contains(&place) => place,
        Some(place) => return Err(one_of("run_in", place, &PLACES)),
    };
    if place != "loop" && needs_loop {
        return Err(PyValueError::new_err(format!(
            "an async handler runs on an event loop, not run_in={place:?}; make it `def`, or \
             leave `run_in` out"
        )));
    }
    Ok(place)
}

/// The handler, and what runs it there.
fn executor(
    py: Python<'_>,
    shared: &Arc<Shared>,
    handler: Handler,
    place: &str,
) -> PyResult<(Arc<Handler>, Arc<dyn Executor>)> {
    let weak = Arc::downgrade(shared);
    if place == "inline" {
        let handler = Inline::of(handler, weak);
        return Ok((handler.clone(), handler));
    }
    let handler = Arc::new(handler);
    if place != "loop" {
        let executor = ThreadExecutor { handler: handler.clone(), shared: weak };
        return Ok((handler, Arc::new(executor)));
    }
    let event_loop = match Loop::running(py)? {
        Some(event_loop) => event_loop,
        None => shared.other_loop(py)?,
    };
    let pump = Pump::of(py, &event_loop)?;
    let executor = LoopExecutor::new(pump, handler.clone(), weak);
    Ok((handler, Arc::new(executor)))
}

/// The handler's own name, `Class.method` for a bound method.
fn handler_name(callable: &Bound<'_, PyAny>) -> String {
    ["__qualname__", "__name__"]
        .iter()
        .find_map(|name| callable.getattr(*name).ok()?.extract::<String>().ok())
        .map(|name| name.rsplit("<locals>.").next().unwrap_or(&name).to_owned())
        .unwrap_or_else(|| {
            callable.get_type().name().map_or_else(|_| "handler".into(), |name| name.to_string())
        })
}
