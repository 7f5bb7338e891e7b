//! An `__await__` that costs a look, and steps of an iterator that need no exception made for
//! them, for classes whose objects are awaited again and again.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::{PyBaseException, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pyo3::{Py, PyClass};

/// A class whose objects most often know at once what their await is.
pub(crate) trait OftenReady:
    PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync
{
    /// The iterator of the await, where it is known; `__await__` is called where it is not.
    /// Nothing may be dropped on the way.
    fn ready(this: &Bound<'_, Self>) -> Option<Py<PyAny>>;

    /// Where [`make_quick`] keeps what the class had before.
    fn before() -> &'static Before;
}

/// The `__await__` that a class was made with.
pub(crate) struct Before(AtomicPtr<()>);

impl Before {
    pub(crate) const fn new() -> Before {
        Before(AtomicPtr::new(null_mut()))
    }

    /// Keeps it, the first time: a module that is imported anew has the same classes.
    fn keep(&self, before: *mut ()) -> bool {
        self.0.compare_exchange(null_mut(), before, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The iterator of an await that has nothing to wait for: exhausted, and thus the same for all.
static EXHAUSTED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// One more reference to it, if somebody has asked for it before.
pub(crate) fn exhausted(py: Python<'_>) -> Option<Py<PyAny>> {
    EXHAUSTED.get(py).map(|iterator| iterator.clone_ref(py))
}

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
        if T::before().keep(before as *mut ()) {
            (*slots).am_await = Some(quick_await::<T>);
            ffi::PyType_Modified(class);
        }
    }
    Ok(())
}

unsafe extern "C" fn quick_await<T: OftenReady>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls a slot with the GIL held and an object of the class, which
    // its caller keeps alive. What `before` holds is the slot's former content, stored before
    // this function took its place.
    unsafe {
        let py = Python::assume_attached();
        let awaited = Borrowed::from_ptr(py, object).cast_unchecked::<T>();
        if let Some(iterator) = T::ready(&awaited) {
            return iterator.into_ptr();
        }
        let before = T::before().0.load(Ordering::Acquire);
        std::mem::transmute::<*mut (), ffi::unaryfunc>(before)(object)
    }
}

/// A class of iterators most of whose steps are plain ones.
pub(crate) trait OftenPlain:
    PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync
{
    /// The next step, if it is a plain one; `__next__` is called where it is not. It must not
    /// panic.
    fn step(&self, py: Python<'_>) -> PlainStep;

    /// Takes back what a step ended with: `__next__` is called for that.
    fn take_back(&self, py: Python<'_>, last: Py<PyAny>);

    /// Where [`make_steps_quick`] keeps what the class had before.
    fn before() -> &'static Before;
}

/// A step of an iterator.
pub(crate) enum PlainStep {
    Yields(Py<PyAny>),
    Ends(Py<PyAny>),
    /// It is for `__next__` to take it.
    NotPlain,
}

/// What an iterator raises that ends with `value`.
pub(crate) fn ended_with(value: Bound<'_, PyAny>) -> PyErr {
    if is_taken_as_it_is(&value) {
        PyErr::new::<PyStopIteration, _>(value.unbind())
    } else {
        PyStopIteration::new_err((value.unbind(),))
    }
}

/// Whether the interpreter needs no tuple around `value`, the argument of an exception: these two
/// would be taken for something else. Often it then makes no exception at all.
fn is_taken_as_it_is(value: &Bound<'_, PyAny>) -> bool {
    !value.is_instance_of::<PyTuple>() && !value.is_instance_of::<PyBaseException>()
}

/// Has plain steps of iterators of this class skip the way that calls into Rust take.
pub(crate) fn make_steps_quick<T: OftenPlain>(class: &Bound<'_, PyType>) {
    // SAFETY: as in `make_quick`.
    unsafe {
        let class = class.as_type_ptr();
        let Some(before) = (*class).tp_iternext else { return };
        if T::before().keep(before as *mut ()) {
            (*class).tp_iternext = Some(quick_step::<T>);
            ffi::PyType_Modified(class);
        }
    }
}

unsafe extern "C" fn quick_step<T: OftenPlain>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as in `quick_await`. What is yielded, or ends it, is a reference of its own, which
    // the interpreter or the exception takes over; an object that is dropped here is dropped
    // late, which is no harm.
    unsafe {
        let py = Python::assume_attached();
        let iterator = Borrowed::from_ptr(py, object).cast_unchecked::<T>();
        match iterator.get().step(py) {
            PlainStep::Yields(object) => return object.into_ptr(),
            PlainStep::Ends(last) if is_taken_as_it_is(last.bind(py)) => {
                let last = last.into_ptr();
                ffi::PyErr_SetObject(ffi::PyExc_StopIteration, last);
                ffi::Py_DECREF(last);
                return null_mut();
            }
            PlainStep::Ends(last) => iterator.get().take_back(py, last),
            PlainStep::NotPlain => {}
        }
        let before = T::before().0.load(Ordering::Acquire);
        std::mem::transmute::<*mut (), ffi::iternextfunc>(before)(object)
    }
}
