//! A hook of a component, as long as it is under way.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::suspect::{Look, Place, Suspect, Suspended, Who};
use crate::health::Home;
use crate::python::bridge::{Loop, Thread};
use crate::python::handler;
use crate::python::shared::Shared;

/// A hook, or check, that is under way.
pub(in crate::python) struct Hook {
    pub component: Arc<str>,
    pub name: String,
    pub function: Py<PyAny>,
    pub home: Option<Home>,
    state: Mutex<State>,
    /// Its task, and the coroutine in there.
    task: Mutex<Option<(Py<PyAny>, Py<PyAny>)>>,
}

#[derive(Default)]
struct State {
    at: At,
    /// Counts the changes.
    step: u64,
    /// Which was seen last, and when first.
    seen: Option<(u64, Look)>,
}

#[derive(Clone, Default)]
enum At {
    #[default]
    Nowhere,
    /// A step of its coroutine, on this loop.
    Step(Arc<Loop>),
    /// A call on a thread of its own.
    Call(Thread),
    Suspended,
}

impl Hook {
    pub fn new(component: &str, name: &str, function: &Bound<'_, PyAny>) -> Arc<Hook> {
        Arc::new(Hook {
            component: component.into(),
            name: name.to_owned(),
            function: function.clone().unbind(),
            home: handler::home(function),
            state: Mutex::default(),
            task: Mutex::default(),
        })
    }

    fn enter(&self, at: At) {
        let mut state = self.state.lock();
        state.at = at;
        state.step += 1;
    }

    /// What it is to the watchdog of `shared`, if it stands still.
    pub fn look(self: &Arc<Self>, shared: &Arc<Shared>, look: Look) -> Option<Suspect> {
        let patience = shared.bus.settings().watchdog?;
        let mut state = self.state.lock();
        let step = state.step;
        let first = match state.seen {
            Some((seen, first)) if seen == step => first,
            _ => {
                state.seen = Some((step, look));
                return None;
            }
        };
        let stood = look.watched - first.watched;
        let (place, limit) = match &state.at {
            At::Nowhere => return None,
            At::Step(event_loop) => (Place::Loop(event_loop.clone()), patience.step),
            At::Call(thread) => (Place::Thread(thread.clone()), patience.call),
            At::Suspended => (self.suspended(), patience.suspension),
        };
        drop(state);
        let due = stood >= limit;
        if !due && (matches!(place, Place::Task(_)) || stood < patience.step / 2) {
            return None;
        }
        let hook = self.clone();
        Some(Suspect {
            key: (Arc::as_ptr(shared) as usize, Arc::as_ptr(self) as usize as u64, step),
            who: Who::Hook(self.clone()),
            shared: shared.clone(),
            place,
            depth: 0,
            since: first.now,
            stood,
            due,
            event: None,
            asks: None,
            fallback: false,
            still: Box::new(move || hook.state.lock().step == step),
        })
    }

    fn suspended(self: &Arc<Self>) -> Place {
        let hook = self.clone();
        Place::Task(Box::new(move |py| {
            let task = hook.task.lock();
            let (task, coroutine) = task.as_ref()?;
            let (task, coroutine) = (task.bind(py).clone(), coroutine.bind(py).clone());
            Some(Suspended { task, coroutine: Some(coroutine), event: None })
        }))
    }
}

/// What a hook that is called tells the watchdog of itself.
#[pyclass(name = "_HookWatch", module = "tiebeam._core", frozen)]
pub(in crate::python) struct PyHookWatch(pub(in crate::python) Arc<Hook>);

#[pymethods]
impl PyHookWatch {
    /// It is called on this thread, which is its own.
    fn call(&self, py: Python<'_>) {
        self.0.enter(At::Call(Thread::here(py)));
    }

    /// It, or its coroutine, is about to take a step on the running loop; where none runs, on this
    /// thread.
    fn step(&self, py: Python<'_>) -> PyResult<()> {
        let here = Loop::running(py)?.map_or_else(|| At::Call(Thread::here(py)), At::Step);
        self.0.enter(here);
        Ok(())
    }

    /// It waits for something: `coroutine`, in `task`.
    fn suspend(&self, task: Bound<'_, PyAny>, coroutine: Bound<'_, PyAny>) {
        self.0.enter(At::Suspended);
        let before = self.0.task.lock().replace((task.unbind(), coroutine.unbind()));
        drop(before); // not under the lock: it may run anybody's code
    }

    /// It has ended.
    fn end(&self) {
        self.0.enter(At::Nowhere);
        let before = self.0.task.lock().take();
        drop(before);
    }
}
