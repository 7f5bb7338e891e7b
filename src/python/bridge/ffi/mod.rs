//! Every unsafe line of the crate: calls into the C API that have no safe wrapper, and cells that
//! are guarded by the GIL instead of a lock.
//!
//! | file | idea |
//! | --- | --- |
//! | `call` | calling Python code, stepping coroutines |
//! | `context` | contexts and context variables |
//! | `cell` | what the GIL guards: cells, and objects whose content is exchanged |
//! | `stage` | a context with an object in it, used again as long as nobody kept either |
#![allow(unsafe_code)]

mod call;
mod cell;
mod context;
mod stage;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyInt;

pub(crate) use call::{Step, call, call_one, send};
pub(crate) use cell::{Content, GilCell, Vessel, exchange};
pub(crate) use context::{Context, ContextVar};
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
