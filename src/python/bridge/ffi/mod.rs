//! Every unsafe line of the crate: calls into the C API that have no safe wrapper, and cells that
//! are guarded by the GIL instead of a lock.
//!
//! | file | idea |
//! | --- | --- |
//! | `awaits` | an `__await__` that costs a look; plain steps of iterators |
//! | `call` | calling Python code, stepping coroutines |
//! | `context` | contexts and context variables |
//! | `cell` | what the GIL guards: cells, and objects whose content is exchanged |
//! | `dump` | the stack of a thread, without the GIL |
//! | `shown` | what somebody has in hand, for whoever holds the GIL to see |
//! | `spare` | objects that are used again for their next content |
//! | `stage` | a context with an object in it, used again as long as nobody kept either |
#![allow(unsafe_code)]

mod awaits;
mod call;
mod cell;
mod context;
mod dump;
mod shown;
mod spare;
mod stage;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};

pub(crate) use awaits::{
    Before, OftenPlain, OftenReady, PlainStep, ended_with, exhausted, make_quick, make_steps_quick,
    nothing_to_wait_for,
};
pub(super) use call::kept_inside;
pub(crate) use call::{Step, call, call_one, send};
pub(crate) use cell::{Content, GilCell, Vessel, references};
pub(crate) use context::{Context, ContextVar};
pub(crate) use dump::{dump, thread_state};
pub(crate) use shown::Shown;
pub(crate) use spare::Spare;
pub(crate) use stage::Stage;

/// Whether this is the main interpreter of the process.
pub(crate) fn is_main_interpreter(_py: Python<'_>) -> bool {
    // SAFETY: the GIL is held, so that there is a current interpreter.
    unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) == 0 }
}

/// The value of an integer, where 64 bits hold it.
pub(crate) fn integer(number: &Bound<'_, PyInt>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: an int, or an instance of a subclass: no conversion runs, so nothing can fail but
    // for the range, which `overflow` tells.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &mut overflow) };
    (overflow == 0).then_some(value)
}

/// A Python string.
pub(crate) fn text<'py>(py: Python<'py>, text: &str) -> Bound<'py, PyString> {
    if !text.is_ascii() {
        return PyString::new(py, text);
    }
    // ASCII is what it is in one byte each: nothing to decode.
    let kind = ffi::PyUnicode_1BYTE_KIND as _;
    // SAFETY: `text` has that many bytes; the result is a new reference to a str, or null when
    // there is no memory left, as in `PyString::new`.
    unsafe {
        let made = ffi::PyUnicode_FromKindAndData(kind, text.as_ptr().cast(), text.len() as isize);
        Bound::from_owned_ptr(py, made).cast_into_unchecked()
    }
}

/// The proof that this thread holds the GIL, if it does.
pub(super) fn attached<'py>() -> Option<Python<'py>> {
    // SAFETY: both may be asked by any thread. Where the state of the thread that holds the GIL
    // is this thread's, this thread holds it. (`PyGILState_Check` says yes to everybody once
    // there has been a sub-interpreter.) The token is used while the caller's frame, and with it
    // whoever took the GIL further up, is alive: nobody stores one.
    unsafe {
        let ours = ffi::PyGILState_GetThisThreadState();
        let attached = !ours.is_null() && ours == ffi::compat::PyThreadState_GetUnchecked();
        attached.then(|| Python::assume_attached())
    }
}
