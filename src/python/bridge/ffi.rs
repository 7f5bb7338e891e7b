//! Every unsafe line of the crate: calls into the C API that have no safe wrapper.
#![allow(unsafe_code)]

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{Py, ffi};

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

/// Whether this is the main interpreter of the process.
pub(crate) fn is_main_interpreter(_py: Python<'_>) -> bool {
    // SAFETY: the GIL is held, so that there is a current interpreter.
    unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) == 0 }
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

/// A `contextvars.Context`.
#[derive(Debug)]
pub(crate) struct Context(Py<PyAny>);

impl Context {
    /// A copy of the context that is current on this thread.
    pub(crate) fn current(py: Python<'_>) -> PyResult<Context> {
        // SAFETY: the GIL is held; the result is a new reference or null with an error set.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
        Ok(Context(context.unbind()))
    }

    /// A copy of this one; it shares all values until one of the two changes.
    pub(crate) fn copy(&self, py: Python<'_>) -> PyResult<Context> {
        // SAFETY: `self.0` is a Context, made by one of the two constructors.
        let context =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(self.0.as_ptr()))? };
        Ok(Context(context.unbind()))
    }

    /// Runs `work` inside this context.
    pub(crate) fn run<'py, T>(
        &self,
        py: Python<'py>,
        work: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<T> {
        /// Leaves the context on every way out, a panic included.
        struct Leave<'a>(&'a Py<PyAny>);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                // SAFETY: entered by `run` on this thread, whose GIL is still held. It fails
                // only for a context that is not current, and then there is nothing to leave.
                unsafe {
                    if ffi::PyContext_Exit(self.0.as_ptr()) != 0 {
                        ffi::PyErr_Clear();
                    }
                }
            }
        }
        // SAFETY: `self.0` is a Context and the GIL is held.
        if unsafe { ffi::PyContext_Enter(self.0.as_ptr()) } != 0 {
            return Err(PyErr::take(py)
                .unwrap_or_else(|| PyRuntimeError::new_err("the context is already entered")));
        }
        let leave = Leave(&self.0);
        let result = work();
        drop(leave);
        result
    }
}

/// A `contextvars.ContextVar`.
#[derive(Debug)]
pub(crate) struct ContextVar(Py<PyAny>);

impl ContextVar {
    pub(crate) fn new(name: &'static std::ffi::CStr, py: Python<'_>) -> PyResult<ContextVar> {
        // SAFETY: the name is a C string, a null default means that there is none; the result
        // is a new reference or null with an error set.
        let var = unsafe {
            let var = ffi::PyContextVar_New(name.as_ptr(), std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, var)?
        };
        Ok(ContextVar(var.unbind()))
    }

    /// Its value in the current context.
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut value = std::ptr::null_mut();
        // SAFETY: `self.0` is a ContextVar; `value` becomes a new reference, or stays null where
        // the variable has no value.
        unsafe {
            let found = ffi::PyContextVar_Get(self.0.as_ptr(), std::ptr::null_mut(), &mut value);
            if found != 0 {
                return Err(PyErr::fetch(py));
            }
            Ok(Bound::from_owned_ptr_or_opt(py, value))
        }
    }

    /// Sets it in the current context.
    pub(crate) fn set(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        // SAFETY: `self.0` is a ContextVar; the token is a new reference or null with an error.
        unsafe {
            let token = ffi::PyContextVar_Set(self.0.as_ptr(), value.as_ptr());
            Bound::from_owned_ptr_or_err(py, token)?;
        }
        Ok(())
    }
}
