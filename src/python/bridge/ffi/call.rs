//! Calls into Python code, and what stands between it and our frames.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Stands between the interpreter and our frames while user code runs.
///
/// Up to 3.13, a thread that asks for the GIL while the interpreter ends is ended on the spot by
/// `pthread_exit`, which unwinds its stack; a handler that never returns is ended that way.
/// Rust frames must not be unwound by anything but a panic: the process aborts. The first thing
/// such an unwinding meets here is this, and the thread sleeps until the process is gone, as
/// it does in 3.14.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// Runs `work` between the door and whatever may run Python code without saying so, the end of
/// an object for one: a thread that is ended in there must not go out through the door and
/// release what it does not hold. A panic may; see [`Hang`] for the difference.
pub(in super::super) fn kept_inside<T>(work: impl FnOnce() -> T) -> T {
    struct Inside;

    impl Drop for Inside {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                drop(Hang);
            }
        }
    }

    let inside = Inside;
    let result = work();
    std::mem::forget(inside);
    result
}

type Vectorcall = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    usize,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

type Call = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

type Send = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut *mut ffi::PyObject,
) -> ffi::PySendResult;

/// A function that the optimizer does not recognise: it knows those of the C API as functions
/// that never unwind, and would remove [`Hang`].
fn opaque(function: *const ()) -> *const () {
    std::hint::black_box(function)
}

/// `callable(argument)`, where `callable` may be anybody's code; see [`Hang`].
pub(crate) fn call_one<'py>(
    callable: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [std::ptr::null_mut(), argument.as_ptr()];
    // SAFETY: "C" and "C-unwind" are one calling convention; the second one says that the call
    // may unwind, which is the truth. All pointers come from live references, the GIL is held,
    // and the slot before the argument is free to be used, as the offset flag says. The result
    // is a new reference or null with an error set.
    unsafe {
        let call: Vectorcall = std::mem::transmute(opaque(ffi::PyObject_VectorcallDict as _));
        let hang = Hang;
        let result = call(
            callable.as_ptr(),
            arguments.as_ptr().add(1),
            1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        );
        std::mem::forget(hang);
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// `callable(*arguments, **keywords)`, where `callable` may be anybody's code; see [`Hang`].
pub(crate) fn call<'py>(
    callable: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let keywords = keywords.map_or(std::ptr::null_mut(), |keywords| keywords.as_ptr());
    // SAFETY: as in `call_one`; no keywords may be null.
    unsafe {
        let call: Call = std::mem::transmute(opaque(ffi::PyObject_Call as _));
        let hang = Hang;
        let result = call(callable.as_ptr(), arguments.as_ptr(), keywords);
        std::mem::forget(hang);
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// What one step of a coroutine came to.
#[derive(Debug)]
pub(crate) enum Step<'py> {
    /// It waits for this.
    Yielded(Bound<'py, PyAny>),
    /// It ended with this.
    Returned(Bound<'py, PyAny>),
}

/// Steps a coroutine: what `coroutine.send(value)` does, without raising `StopIteration`.
pub(crate) fn send<'py>(
    coroutine: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Step<'py>> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: as in `call_one`. PyIter_Send accepts any object and raises TypeError for those
    // that cannot be sent to. Where it does not fail, `result` is a new reference that we own.
    unsafe {
        let send: Send = std::mem::transmute(opaque(ffi::PyIter_Send as _));
        let hang = Hang;
        let came_to = send(coroutine.as_ptr(), value.as_ptr(), &mut result);
        std::mem::forget(hang);
        match came_to {
            ffi::PySendResult::PYGEN_RETURN => {
                Ok(Step::Returned(Bound::from_owned_ptr_or_err(py, result)?))
            }
            ffi::PySendResult::PYGEN_NEXT => {
                Ok(Step::Yielded(Bound::from_owned_ptr_or_err(py, result)?))
            }
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}
