//! `contextvars`: contexts that handlers run in, and the variable that lineage comes from.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{Py, ffi};

use super::stage;

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

    /// What contexts with the very same values have in common, where there is such a thing; it
    /// stands for them as long as one of them lives.
    pub(crate) fn identity(&self, py: Python<'_>) -> Option<usize> {
        stage::values(self.0.bind(py))
    }

    /// The context itself.
    pub(super) fn object(&self) -> &Py<PyAny> {
        &self.0
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
