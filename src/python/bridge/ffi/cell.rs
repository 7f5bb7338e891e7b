//! What the GIL guards: cells, and objects whose content is exchanged.

use std::cell::UnsafeCell;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::{Py, PyClass, ffi};

/// A value that is only moved in and out, and only with the GIL held: a lock without its price.
#[derive(Debug)]
pub(crate) struct GilCell<T>(Guarded<T>);

#[cfg(not(Py_GIL_DISABLED))]
type Guarded<T> = UnsafeCell<Option<T>>;

/// Where there is no GIL, it is a lock.
#[cfg(Py_GIL_DISABLED)]
type Guarded<T> = parking_lot::Mutex<Option<T>>;

// SAFETY: every access takes a `Python` token, which one thread has at a time, and ends before
// anything could let go of the GIL: the methods move a value or count a reference, nothing else.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    /// A cell without a value.
    pub(crate) const fn empty() -> Self {
        GilCell(Guarded::new(None))
    }

    /// A cell with a value.
    pub(crate) const fn of(value: T) -> Self {
        GilCell(Guarded::new(Some(value)))
    }

    fn with<R>(&self, _py: Python<'_>, act: impl FnOnce(&mut Option<T>) -> R) -> R {
        // SAFETY: as above; the callers below let no reference out, and run nobody else's code.
        #[cfg(not(Py_GIL_DISABLED))]
        return act(unsafe { &mut *self.0.get() });
        #[cfg(Py_GIL_DISABLED)]
        return act(&mut self.0.lock());
    }

    /// Moves the value out.
    pub(crate) fn take(&self, py: Python<'_>) -> Option<T> {
        self.with(py, Option::take)
    }

    /// Moves a value in, and the one before out: dropping it is the caller's affair, because it
    /// may run anybody's code.
    #[must_use]
    pub(crate) fn put(&self, py: Python<'_>, value: T) -> Option<T> {
        self.with(py, |held| held.replace(value))
    }
}

impl<T> GilCell<Py<T>> {
    /// Shows the collector what is held.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the GIL held, and only looks: nothing moves meanwhile.
        #[cfg(not(Py_GIL_DISABLED))]
        let held = Some(unsafe { &*self.0.get() });
        // It has stopped all threads: one may be in the middle of a move.
        #[cfg(Py_GIL_DISABLED)]
        let held = self.0.try_lock();
        held.iter().flat_map(|held| held.iter()).try_for_each(|object| visit.call(object))
    }

    /// One more reference to the object.
    pub(crate) fn get(&self, py: Python<'_>) -> Option<Py<T>> {
        self.with(py, |held| held.as_ref().map(|object| object.clone_ref(py)))
    }
}

/// What an object holds, exchanged for something else when nobody can be looking.
#[derive(Debug)]
pub(crate) struct Content<T>(UnsafeCell<T>);

// SAFETY: it is shared as `T` would be; it changes only in `exchange`, when nobody shares it.
unsafe impl<T: Send + Sync> Sync for Content<T> {}

impl<T> Content<T> {
    pub(crate) fn new(value: T) -> Self {
        Content(UnsafeCell::new(value))
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    pub(crate) fn get(&self) -> &T {
        // SAFETY: whoever calls this holds a reference to the object around it for as long as
        // the result lives; `exchange` asks that there be none.
        unsafe { &*self.0.get() }
    }
}

/// An object whose content may be exchanged.
pub(crate) trait Vessel:
    PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync
{
    /// What it holds.
    type Held: Send + Sync;

    /// Where it holds it.
    fn content(&self) -> &Content<Self::Held>;
}

/// Exchanges what `vessel` holds, if `known` references to it are all there are; otherwise the
/// value comes back as the error.
pub(crate) fn exchange<T: Vessel>(
    vessel: &Bound<'_, T>,
    known: isize,
    value: T::Held,
) -> Result<T::Held, T::Held> {
    if !is_sole(vessel.as_any(), known) {
        return Err(value);
    }
    // SAFETY: the GIL is held, and nobody but those that the caller knows of refers to the
    // object, weakly or not: no method of it is under way, and no reference into it is alive.
    Ok(unsafe { std::mem::replace(&mut *vessel.get().content().0.get(), value) })
}

/// Whether `known` references are all there are to an object, and none of them is weak.
pub(super) fn is_sole(object: &Bound<'_, PyAny>, known: isize) -> bool {
    if references(object) != known {
        return false;
    }
    // SAFETY: the object is alive. A type with weak references says at which offset the head of
    // their list is; it is null as long as there are none.
    unsafe {
        let offset = (*ffi::Py_TYPE(object.as_ptr())).tp_weaklistoffset;
        // Below zero, the interpreter keeps them itself, where we cannot see them.
        if offset <= 0 {
            return offset == 0;
        }
        let head = object.as_ptr().cast::<u8>().offset(offset as isize);
        (*head.cast::<*mut ffi::PyObject>()).is_null()
    }
}

/// How many references to an object there are.
pub(crate) fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: the object is alive.
    let count = unsafe { ffi::Py_REFCNT(object.as_ptr()) };
    #[allow(clippy::unnecessary_cast)] // the type differs from one CPython to the next
    let count = count as isize;
    count
}
