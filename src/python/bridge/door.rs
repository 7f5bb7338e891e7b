//! The one door to the interpreter for threads that come from Rust.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

use super::{ffi, runtime};
use crate::error::{Error, Kind};

/// Runs `work` with the GIL held; `None` when there is no interpreter left to run it.
///
/// Every native thread enters Python here. On the way out of the process, and in a forked
/// child, the door is shut: what would have been done is dropped, and Python objects inside it
/// are leaked rather than freed without an interpreter.
pub(crate) fn with_python<T>(work: impl for<'py> FnOnce(Python<'py>) -> T) -> Option<T> {
    if !runtime::is_open() {
        std::mem::forget(work);
        return None;
    }
    // Most ask while they hold the GIL already: a handler inside `publish`.
    match ffi::attached() {
        Some(py) => Some(work(py)),
        None => Python::try_attach(|py| ffi::kept_inside(|| work(py))),
    }
}

/// Runs `work` and turns a panic into an `InternalError` with what it said.
pub(crate) fn guarded<T>(
    operation: &'static str,
    work: impl FnOnce() -> PyResult<T>,
) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let error = Error::new(Kind::Internal, operation, panic_message(&*panic));
        Err(error.into())
    })
}

/// What a panic said, for a message.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("the core panicked: {said}; this is a bug in tiebeam")
}
