//! An `__await__` that costs a look where there is nothing to wait for.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pyo3::{Py, PyClass};

/// A class of which most objects have nothing to wait for when they are awaited.
pub(crate) trait OftenReady:
    PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync
{
    /// Whether there is nothing to wait for; `__await__` is called where there is.
    fn is_ready(&self) -> bool;

    /// Where [`make_quick`] keeps what the class had before.
    fn before() -> &'static Before;
}

/// The `__await__` that a class was made with.
pub(crate) struct Before(AtomicPtr<()>);

impl Before {
    pub(crate) const fn new() -> Before {
        Before(AtomicPtr::new(null_mut()))
    }
}

/// The iterator of an await that has nothing to wait for: exhausted, and thus the same for all.
static EXHAUSTED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// One more reference to it.
pub(crate) fn nothing_to_wait_for(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let iterator = EXHAUSTED
        .get_or_try_init(py, || PyResult::Ok(PyTuple::empty(py).try_iter()?.into_any().unbind()))?;
    Ok(iterator.clone_ref(py))
}

/// Has `await` of an object of this class look first whether it is ready, before the way that
/// calls into Rust take: counting who holds the GIL, sweeping up what others dropped.
pub(crate) fn make_quick<T: OftenReady>(class: &Bound<'_, PyType>) -> PyResult<()> {
    nothing_to_wait_for(class.py())?;
    // SAFETY: the class is one of ours, just made and used by nobody yet; a class made from a
    // specification has its slots in a structure of its own, which may be written to.
    unsafe {
        let class = class.as_type_ptr();
        let slots = (*class).tp_as_async;
        if slots.is_null() {
            return Ok(());
        }
        let Some(before) = (*slots).am_await else { return Ok(()) };
        T::before().0.store(before as *mut (), Ordering::Release);
        (*slots).am_await = Some(quick_await::<T>);
        ffi::PyType_Modified(class);
    }
    Ok(())
}

unsafe extern "C" fn quick_await<T: OftenReady>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls a slot with the GIL held and an object of the class, which
    // its caller keeps alive. What `before` holds is the slot's former content, stored before
    // this function took its place.
    unsafe {
        let py = Python::assume_attached();
        let ready = Borrowed::from_ptr(py, object).cast_unchecked::<T>().get().is_ready();
        if ready && let Some(exhausted) = EXHAUSTED.get(py) {
            let exhausted = exhausted.as_ptr();
            ffi::Py_INCREF(exhausted);
            return exhausted;
        }
        let before = T::before().0.load(Ordering::Acquire);
        std::mem::transmute::<*mut (), ffi::unaryfunc>(before)(object)
    }
}
