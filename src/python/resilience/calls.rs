//! Calls through breakers on threads that a time limit may leave behind.
//!
//! A sync function cannot be interrupted: when its time is up, it goes on on its thread, and whoever
//! called it has an error. For the breakers between the two, the call has failed then; what becomes
//! of it later says nothing any more.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::error::{Error, Kind};
use crate::python::bridge::activity;
use crate::resilience::CircuitBreaker;
use crate::resilience::breaker::Ticket;

/// A call that a breaker has let through.
pub(super) struct Call {
    breaker: CircuitBreaker,
    ticket: Ticket,
    settled: AtomicBool,
}

impl Call {
    /// Whether it is for the caller to settle it: nobody else has.
    pub fn settle(&self) -> bool {
        !self.settled.swap(true, Ordering::AcqRel)
    }
}

/// What goes on within one limit.
#[derive(Default)]
struct Within(Mutex<State>);

#[derive(Default)]
struct State {
    over: bool,
    calls: Vec<Weak<Call>>,
}

impl Within {
    /// Has it fail when the time is up; false if it was up before.
    fn add(&self, call: &Arc<Call>) -> bool {
        let mut state = self.0.lock();
        if state.over {
            return false;
        }
        if state.calls.len() == state.calls.capacity() {
            state.calls.retain(|call| call.strong_count() > 0);
        }
        state.calls.push(Arc::downgrade(call));
        true
    }
}

thread_local! {
    static IS_WITHIN: Cell<bool> = const { Cell::new(false) };
    /// The limits that this thread is within, the outermost first.
    static LIMITS: RefCell<Vec<Arc<Within>>> = const { RefCell::new(Vec::new()) };
}

/// A call that `breaker` has let through with `ticket`, if this thread may be left behind. If it has
/// been, the call does not begin: whoever made it has an error already.
#[inline]
pub(super) fn begun(breaker: &CircuitBreaker, ticket: Ticket) -> Result<Option<Arc<Call>>, Error> {
    if !IS_WITHIN.get() {
        return Ok(None);
    }
    let settled = AtomicBool::new(false);
    let call = Arc::new(Call { breaker: breaker.clone(), ticket, settled });
    if LIMITS.with_borrow(|limits| limits.iter().all(|limit| limit.add(&call))) {
        return Ok(Some(call));
    }
    if call.settle() {
        breaker.give_back(ticket, false);
    }
    let message = format!("{}: its turn came when its time was up", breaker.name());
    Err(Error::new(Kind::Timeout, "circuit_breaker", message))
}

/// Whether the time of what this thread is at is up: whoever called it has an error already, and
/// nothing that has not begun is to begin any more.
#[pyfunction]
pub(crate) fn _left_behind() -> bool {
    IS_WITHIN.get() && LIMITS.with_borrow(|limits| limits.iter().any(|limit| limit.0.lock().over))
}

/// A sync call within a time limit, which runs on a thread of its own.
#[pyclass(name = "_Apart", module = "tiebeam._core", frozen)]
pub(crate) struct PyApart {
    own: Arc<Within>,
    limits: Vec<Arc<Within>>,
    acting: activity::Acting,
}

#[pymethods]
impl PyApart {
    /// On behalf of the calling thread.
    #[new]
    fn new() -> Self {
        let own = Arc::<Within>::default();
        let mut limits = LIMITS.with_borrow(Clone::clone);
        limits.push(own.clone());
        PyApart { own, limits, acting: activity::acting() }
    }

    /// The call begins, on this thread.
    fn begin(&self) {
        IS_WITHIN.set(true);
        LIMITS.set(self.limits.clone());
        activity::act(self.acting);
    }

    /// The time is up: for the breakers that have let it through, it has failed with `error`.
    fn leave_behind(&self, error: &str) {
        let calls = {
            let mut state = self.own.0.lock();
            state.over = true;
            std::mem::take(&mut state.calls)
        };
        for call in calls.iter().filter_map(Weak::upgrade).filter(|call| call.settle()) {
            call.breaker.fail(call.ticket, error);
        }
    }
}
