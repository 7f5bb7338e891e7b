//! A coroutine that must not take longer than a limit.
//!
//! It is stepped from here. Nothing can interrupt it before it waits for the first time, and most
//! calls that are quick never wait: only then a deadline is set, which cancels the task.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;

use super::switch::{active, clock_or_process};
use crate::clock::{Clock, Instant};
use crate::deadlines::{Deadlines, Key};
use crate::error::{Error, Kind};
use crate::python::args::{Given, seconds};
use crate::python::bridge::ffi::{
    self, Before, GilCell, OftenPlain, OftenReady, PlainStep, Step, ended_with,
};
use crate::python::bridge::{Loop, Tasks, runtime, thrown, with_python};
use crate::python::clock::PyClock;

/// What the cancellation of a task says whose time is up: how a breaker inside of the limit
/// tells it from a caller's.
pub(crate) const TIME_IS_UP: &str = "tiebeam: the time limit of this call has passed";

/// The limit behind `tiebeam.resilience.Timeout`.
#[pyclass(name = "_TimeLimit", module = "tiebeam._core", frozen)]
pub(crate) struct PyTimeLimit(Arc<Limit>);

struct Limit {
    name: Option<String>,
    limit: Duration,
    clock: Clock,
    /// Those of the clock that has the timers at present: a test may bring another one.
    deadlines: Mutex<(Clock, Deadlines<Waiting>)>,
    /// Called with a name when a coroutine's time was up.
    told: Py<PyAny>,
}

#[pymethods]
impl PyTimeLimit {
    #[new]
    #[pyo3(signature = (name, limit, told, clock=None))]
    fn new(
        name: Option<String>,
        limit: Given<'_, '_>,
        told: Py<PyAny>,
        clock: Option<&PyClock>,
    ) -> PyResult<Self> {
        let limit = seconds("limit", limit)?.unwrap_or_default();
        if limit.is_zero() {
            let message = "a time limit must be above zero: no call takes no time";
            return Err(Error::new(Kind::Configuration, "build timeout", message).into());
        }
        let clock = clock_or_process(clock);
        let leader = clock.leader();
        let deadlines = Deadlines::new(leader.clone(), Waiting::expire);
        let deadlines = Mutex::new((leader, deadlines));
        Ok(PyTimeLimit(Arc::new(Limit { name, limit, clock, deadlines, told })))
    }

    /// `coroutine`, to be awaited within the limit.
    fn bound<'py>(&self, coroutine: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !active() {
            return Ok(coroutine);
        }
        let py = coroutine.py();
        let bounded = Bounded {
            limit: self.0.clone(),
            coroutine: coroutine.unbind(),
            begun: self.0.clock.now(),
            waits: AtomicBool::new(false),
            armed: GilCell::empty(),
            over: GilCell::empty(),
        };
        Ok(Bound::new(py, bounded)?.into_any())
    }

    /// Sets the deadline of what the running task does next, until it is closed.
    fn open(&self, py: Python<'_>) -> PyResult<Option<Opened>> {
        if !active() {
            return Ok(None);
        }
        let armed = Armed::new(py, &self.0, self.0.clock.now())?;
        Ok(Some(Opened { armed: GilCell::of(armed) }))
    }

    /// What is raised when the time of `what` is up.
    fn exceeded(&self, py: Python<'_>, what: &str) -> Py<PyAny> {
        self.0.exceeded(what).into_value(py).into_any()
    }
}

impl Limit {
    /// Where a deadline is set.
    fn deadlines(&self) -> Deadlines<Waiting> {
        let leader = self.clock.leader();
        let mut known = self.deadlines.lock();
        if !known.0.is(&leader) {
            *known = (leader.clone(), Deadlines::new(leader, Waiting::expire));
        }
        known.1.clone()
    }

    fn exceeded(&self, what: &str) -> PyErr {
        let name = self.name.as_deref().unwrap_or(what);
        let seconds = self.limit.as_secs_f64();
        let message = format!("`{name}` took over {seconds} s");
        Error::new(Kind::Timeout, "call within a time limit", message)
            .with("name", name)
            .with("limit", seconds.to_string())
            .into()
    }

    /// What is raised instead of `error`, with which `coroutine` ended when its time was up.
    fn instead(&self, coroutine: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
        let py = coroutine.py();
        let name = coroutine.getattr("__qualname__").and_then(|name| name.extract::<String>());
        let name = name.unwrap_or_else(|_| "call".to_owned());
        if let Err(failed) = self.told.call1(py, (self.name.as_deref().unwrap_or(&name),)) {
            failed.write_unraisable(py, None);
        }
        let exceeded = self.exceeded(&name);
        exceeded.set_cause(py, Some(error));
        exceeded
    }
}

/// The tasks that were cancelled because their time was up, and have not come to the end of it.
static EXPIRED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Whether the time of the running task is up: how a breaker inside of a limit tells its
/// cancellation from a caller's, where the words of that were lost on the way.
#[pyfunction]
pub(crate) fn _time_is_up(py: Python<'_>) -> PyResult<bool> {
    let Some(event_loop) = Loop::running(py)? else { return Ok(false) };
    let Some(running) = event_loop.get(py) else { return Ok(false) };
    let task = Tasks::get(py)?.current(&running)?;
    Ok(task.is_some_and(|task| EXPIRED.lock().contains(&(task.as_ptr() as usize))))
}

/// A task that waits within a limit.
struct Waiting {
    task: Py<PyAny>,
    event_loop: Arc<Loop>,
    time: Arc<Time>,
}

/// Whether the time of a call is up.
#[derive(Default)]
struct Time(AtomicU8);

impl Time {
    const UP: u8 = 1;
    const ENDED: u8 = 2;

    fn up(&self) -> bool {
        self.0.compare_exchange(0, Time::UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn end(&self) -> bool {
        self.0.swap(Time::ENDED, Ordering::AcqRel) == Time::UP
    }
}

impl Waiting {
    /// The time is up; called on the clock's thread, without the GIL.
    fn expire(self) {
        let Waiting { task, event_loop, time } = self;
        event_loop.call(move |py, _| {
            if time.up() {
                EXPIRED.lock().push(task.as_ptr() as usize);
                task.call_method1(py, pyo3::intern!(py, "cancel"), (TIME_IS_UP,)).map(drop)
            } else {
                Ok(())
            }
        });
    }
}

/// The deadline of a call that waits.
struct Armed {
    key: Key,
    deadlines: Deadlines<Waiting>,
    task: Py<PyAny>,
    time: Arc<Time>,
    /// How often others wanted the task cancelled when the deadline was set; not known to 3.10.
    cancelling: Option<u32>,
}

impl Armed {
    /// Sets a deadline for the task that runs.
    fn new(py: Python<'_>, limit: &Limit, begun: Instant) -> PyResult<Armed> {
        runtime(py)?; // what lets it pass, which a forked child does not have
        let none = || PyRuntimeError::new_err("a time limit needs a running asyncio task");
        let event_loop = Loop::running(py)?.ok_or_else(none)?;
        let running = event_loop.get(py).ok_or_else(none)?;
        let task = Tasks::get(py)?.current(&running)?.ok_or_else(none)?;
        let cancelling = task.call_method0(pyo3::intern!(py, "cancelling"));
        let cancelling = cancelling.ok().and_then(|count| count.extract().ok());
        let task = task.unbind();
        let time = Arc::new(Time::default());
        let waiting = Waiting { task: task.clone_ref(py), event_loop, time: time.clone() };
        let deadlines = limit.deadlines();
        let late = limit.clock.now().saturating_since(begun);
        let begun = deadlines.now_less(late);
        let key = deadlines.set_from(begun, limit.limit, waiting);
        Ok(Armed { key, deadlines, task, time, cancelling })
    }

    /// Takes the deadline away: whether it had passed, and nobody else wants the task cancelled.
    fn clear(self, py: Python<'_>) -> bool {
        let waiting = self.deadlines.clear(self.key);
        drop(waiting);
        if !self.time.end() {
            return false;
        }
        {
            let mut expired = EXPIRED.lock();
            let task = self.task.as_ptr() as usize;
            if let Some(at) = expired.iter().position(|other| *other == task) {
                expired.swap_remove(at);
            }
        }
        let Some(before) = self.cancelling else { return true };
        let left = self.task.call_method0(py, pyo3::intern!(py, "uncancel"));
        left.and_then(|left| left.extract::<u32>(py)).is_ok_and(|left| left <= before)
    }
}

/// A coroutine within a limit, to be awaited once.
#[pyclass(name = "_Bounded", module = "tiebeam._core", frozen)]
pub(crate) struct Bounded {
    limit: Arc<Limit>,
    coroutine: Py<PyAny>,
    /// When it was called: what it does before it waits for the first time takes time, too.
    begun: Instant,
    /// Whether a deadline was ever set: looked at where one may not hold the GIL.
    waits: AtomicBool,
    armed: GilCell<Armed>,
    /// What it came to, until it is handed on.
    over: GilCell<PyResult<Py<PyAny>>>,
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bounded({:?})", self.limit.limit)
    }
}

impl Bounded {
    fn go_on(&self, py: Python<'_>) -> PlainStep {
        match ffi::send(self.coroutine.bind(py), py.None().bind(py)) {
            Ok(Step::Returned(result)) => {
                self.disarm(py);
                PlainStep::Ends(result.unbind())
            }
            Ok(Step::Yielded(on)) => match self.arm(py) {
                Ok(()) => PlainStep::Yields(on.unbind()),
                Err(error) => self.raises(py, error),
            },
            Err(error) => {
                let error = self.told(py, error);
                self.raises(py, error)
            }
        }
    }

    fn raises(&self, py: Python<'_>, error: PyErr) -> PlainStep {
        drop(self.over.put(py, Err(error)));
        PlainStep::NotPlain
    }

    /// It waits: sets the deadline, the first time.
    fn arm(&self, py: Python<'_>) -> PyResult<()> {
        if self.waits.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        drop(self.armed.put(py, Armed::new(py, &self.limit, self.begun)?));
        Ok(())
    }

    /// It is over: the deadline goes. Whether that had passed, and only it wanted the call ended.
    fn disarm(&self, py: Python<'_>) -> bool {
        self.armed.take(py).is_some_and(|armed| armed.clear(py))
    }

    /// The error that a caller sees for `error`, with which the coroutine ended.
    fn told(&self, py: Python<'_>, error: PyErr) -> PyErr {
        if !self.disarm(py) || !is_ours(error.value(py)) {
            return error;
        }
        self.limit.instead(self.coroutine.bind(py), error)
    }
}

/// Whether `error` is a cancellation that a time limit may have asked for. Where asyncio counts
/// who asked, that has been looked at. Where it does not, up to 3.10, other words than ours are
/// somebody else's; none are what is left of ours after a `gather`, for one.
fn is_ours(error: &Bound<'_, PyAny>) -> bool {
    let py = error.py();
    let class = py.import("asyncio").and_then(|asyncio| asyncio.getattr("CancelledError"));
    if !class.is_ok_and(|class| error.is_instance(&class).unwrap_or(false)) {
        return false;
    }
    py.version_info() >= (3, 11)
        || error
            .getattr("args")
            .and_then(|args| args.get_item(0))
            .map_or(true, |said| said.eq(TIME_IS_UP).unwrap_or(false))
}

/// The deadline of a block of code.
#[pyclass(name = "_Opened", module = "tiebeam._core", frozen)]
pub(crate) struct Opened {
    armed: GilCell<Armed>,
}

impl Drop for Opened {
    /// A block that nobody left, of a generator that was forgotten, leaves no deadline behind.
    fn drop(&mut self) {
        with_python(|py| self.armed.take(py).map(|armed| armed.clear(py)));
    }
}

#[pymethods]
impl Opened {
    /// The block has ended, with `error` if it has one: whether that is because its time was up.
    #[pyo3(signature = (error=None))]
    fn close(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) -> bool {
        let ours = self.armed.take(py).is_some_and(|armed| armed.clear(py));
        ours && error.is_some_and(is_ours)
    }
}

impl OftenReady for Bounded {
    fn ready(this: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        Some(this.clone().into_any().unbind())
    }

    fn before() -> &'static Before {
        static BEFORE: Before = Before::new();
        &BEFORE
    }
}

impl OftenPlain for Bounded {
    fn step(&self, py: Python<'_>) -> PlainStep {
        self.go_on(py)
    }

    fn take_back(&self, py: Python<'_>, last: Py<PyAny>) {
        drop(self.over.put(py, Ok(last)));
    }

    fn before() -> &'static Before {
        static BEFORE: Before = Before::new();
        &BEFORE
    }
}

#[pymethods]
impl Bounded {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(over) = self.over.take(py) {
            return Err(over.map_or_else(|error| error, |last| ended_with(last.into_bound(py))));
        }
        match self.go_on(py) {
            PlainStep::Yields(on) => Ok(on),
            PlainStep::Ends(result) => Err(ended_with(result.into_bound(py))),
            PlainStep::NotPlain => match self.over.take(py) {
                Some(Err(error)) => Err(error),
                _ => Err(PyRuntimeError::new_err("this was awaited already")),
            },
        }
    }

    fn send(&self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.__next__(py)
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        let py = kind.py();
        let exception = thrown(kind, value)?;
        match self.coroutine.call_method1(py, pyo3::intern!(py, "throw"), (exception,)) {
            Ok(on) => Ok(on),
            Err(ended) if ended.is_instance_of::<PyStopIteration>(py) => {
                self.disarm(py);
                Err(ended)
            }
            Err(error) => Err(self.told(py, error)),
        }
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.disarm(py);
        self.coroutine.call_method0(py, pyo3::intern!(py, "close")).map(drop)
    }
}

impl Drop for Bounded {
    /// One that is never awaited leaves its coroutine to say so; one that is dropped in the middle
    /// leaves no deadline behind.
    fn drop(&mut self) {
        if self.waits.load(Ordering::Relaxed) {
            with_python(|py| self.disarm(py));
        }
    }
}
