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
use super::stand_in::StoodIn;
use crate::python::bridge::Tasks;
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
    /// A responder is ready, and nobody else was told.
    Caught(Arc<Pump>, Ready),
    /// A responder is being served.
    Serving,
}

/// What came of serving a responder at once.
#[derive(Default)]
pub(in crate::python) struct Served {
    /// An error of the responder that nobody may swallow.
    pub fatal: Option<Box<PyErr>>,
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

/// Until it is dropped, a responder that becomes ready on this thread is kept for the request that
/// is being delivered; then things are as they were before, whatever happened meanwhile.
struct Armed(State);

impl Armed {
    fn begin() -> Armed {
        Armed(STATE.replace(State::Armed))
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        // It failed on the way: what was caught has its turn by the loop.
        if let State::Caught(pump, ready) = STATE.replace(std::mem::take(&mut self.0)) {
            pump.schedule(ready);
        }
    }
}

/// Delivers a request by `deliver`, which is given what serves its responder at once, if that is
/// possible, and says whether it was.
pub(in crate::python) fn asking<T>(
    py: Python<'_>,
    deliver: impl FnOnce(&dyn Fn() -> bool) -> T,
) -> (T, Served) {
    let armed = Armed::begin();
    if let State::Serving = armed.0 {
        drop(armed);
        return (deliver(&|| false), Served::default());
    }
    let served = Cell::new(Served::default());
    let delivered = deliver(&|| {
        let caught = STATE.replace(State::Serving);
        let serves = if let State::Caught(pump, ready) = caught {
            let fatal = pump.serve(py, ready).err().map(Box::new);
            served.set(Served { fatal, by: Some(pump) });
            true
        } else {
            false
        };
        STATE.set(State::Off);
        serves
    });
    drop(armed);
    (delivered, served.into_inner())
}

/// Keeps `ready` for the request that is being delivered on this thread, if that is to its
/// subscription.
pub(super) fn catch(pump: &Arc<Pump>, ready: Ready) -> Option<Ready> {
    match STATE.take() {
        State::Armed if ready.subscription.responds() && pump.event_loop.is_here() => {
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
    /// Serves a responder in the name of a driver that sleeps; what cannot be served that way has
    /// its turn by the loop.
    fn serve(self: &Arc<Self>, py: Python<'_>, ready: Ready) -> PyResult<()> {
        let waiting = Cell::new(Some(ready));
        let served = self.try_to_serve(py, &waiting);
        if let Some(ready) = waiting.take() {
            self.schedule(ready);
        }
        served
    }

    fn try_to_serve(
        self: &Arc<Self>,
        py: Python<'_>,
        waiting: &Cell<Option<Ready>>,
    ) -> PyResult<()> {
        let Some(event_loop) = self.event_loop.get(py) else { return Ok(()) };
        let Some(current) = Tasks::get(py)?.current(&event_loop)? else {
            return Ok(()); // a callback asks: whether the loop runs, nobody knows
        };
        let parked = match self.parked.pop(py) {
            Some(parked) => parked,
            None => self.park_new(py, &event_loop)?,
        };
        self.watch_loop();
        self.stand_in(&event_loop, Some(current), parked, |driver| match waiting.take() {
            Some(ready) => self.serve_one(py, ready, driver),
            None => Ok(StoodIn::Done),
        })
    }
}
