//! Requests whose responder lives on the very loop that asks: answered inside `request()`, as
//! long as the responder does not wait for anything.
//!
//! The responder runs in a task of its own, as always: one that sleeps lends its name (see
//! `stand_in`), and goes on with the responder when that waits. A request made
//! by a responder that is run this way waits for the loop like any other. The loop has other work
//! too: see `pause`.

use std::cell::Cell;
use std::sync::Arc;

use pyo3::prelude::*;

use super::Pump;
use super::pause::Pause;
use super::tasks::Tasks;
use crate::python::shared::Ready;

thread_local! {
    /// Whether what is about to be scheduled on this thread can be served at once.
    static STATE: Cell<State> = const { Cell::new(State::Off) };
}

#[derive(Default)]
enum State {
    #[default]
    Off,
    /// A request is being delivered.
    Armed,
    /// Its responder is ready, and nobody else was told.
    Caught(Arc<Pump>, Ready),
    /// A responder is being served.
    Serving,
}

/// What came of serving a responder at once.
#[derive(Default)]
pub(in crate::python) struct Served {
    /// An error of the responder that nobody may swallow.
    pub fatal: Option<PyErr>,
    /// Where it was served.
    by: Option<Arc<Pump>>,
}

impl Served {
    /// The pause that is due before the reply is handed on, if one is; the request was made at
    /// `now`.
    pub fn pause(&self, py: Python<'_>, now: i64) -> Option<Pause> {
        self.by.as_ref()?.served(py, now)
    }
}

/// Delivers a request by `deliver`, which is given what serves its responder at once, if that is
/// possible.
pub(in crate::python) fn asking<T>(
    py: Python<'_>,
    deliver: impl FnOnce(&dyn Fn()) -> T,
) -> (T, Served) {
    let before = STATE.replace(State::Armed);
    if let State::Serving = before {
        STATE.set(State::Serving);
        return (deliver(&|| {}), Served::default());
    }
    let served = Cell::new(Served::default());
    let delivered = deliver(&|| {
        if let State::Caught(pump, ready) = STATE.replace(State::Serving) {
            let fatal = pump.serve(py, ready).err();
            served.set(Served { fatal, by: Some(pump) });
        }
        STATE.set(State::Off);
    });
    // It failed on the way: what was caught has its turn by the loop.
    if let State::Caught(pump, ready) = STATE.take() {
        pump.schedule(ready);
    }
    (delivered, served.into_inner())
}

/// Keeps `ready` for the request that is being delivered on this thread, if there is one.
pub(super) fn catch(pump: &Arc<Pump>, ready: Ready) -> Option<Ready> {
    match STATE.take() {
        State::Armed if pump.event_loop.is_here() => {
            STATE.set(State::Caught(pump.clone(), ready));
            None
        }
        other => {
            STATE.set(other);
            Some(ready)
        }
    }
}

impl Pump {
    /// Serves a responder in the parked task.
    fn serve(self: &Arc<Self>, py: Python<'_>, ready: Ready) -> PyResult<()> {
        let Some(event_loop) = self.event_loop.get(py) else {
            self.schedule(ready);
            return Ok(());
        };
        let Some(current) = Tasks::get(py)?.current(&event_loop)? else {
            self.schedule(ready); // a callback asks: whether the loop runs, nobody knows
            return Ok(());
        };
        let parked = match self.parked.pop(py) {
            Some(parked) => parked,
            None => self.park_new(py, &event_loop)?,
        };
        self.watch_loop();
        self.stand_in(&event_loop, Some(current), parked, |driver| {
            self.serve_one(py, ready, driver)
        })
    }
}
