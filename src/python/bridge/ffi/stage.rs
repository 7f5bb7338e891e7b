//! A context with an object in it, used again as long as nobody kept either.
//!
//! Each call of a handler gets a context of its own, with its event in it. Making one costs more
//! than most handlers do; but nearly all of them leave it as they found it. So the next call
//! gets the same context, with another content in the same object, if and only if nobody can
//! tell. A context keeps its values in a tree that copies share; what leads to our object in it
//! is found by the interpreter's own means (`tp_traverse`), and as long as each part of that way
//! is referred to by the part before it and by us alone, no copy of the context, no task, token
//! or callback has any of it. A self-test at first use tries that on contexts of its own: where
//! an interpreter keeps them otherwise, every call gets a new one.

use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;

use super::cell::{Vessel, exchange, is_sole, references};
use super::context::{Context, ContextVar};

/// Our own reference, and that of the part before.
const OURS_AND_ITS: isize = 2;

/// More parts than any way through such a tree has.
const LONGEST: usize = 16;

/// A context in which a variable holds an object.
#[derive(Debug)]
pub(crate) struct Stage<T> {
    context: Context,
    object: Py<T>,
    /// What leads from the context to the object, both left out; none where it is not known.
    way: Vec<Py<PyAny>>,
}

impl<T> Stage<T> {
    /// A copy of `base` in which `variable` holds `object`.
    pub(crate) fn set(
        base: &Context,
        variable: &ContextVar,
        object: Bound<'_, T>,
    ) -> PyResult<Stage<T>> {
        let py = object.py();
        let way = if ways_are_known(py)? { WAYS } else { NO_WAYS };
        Stage::build(base, variable, object, way)
    }

    fn build(
        base: &Context,
        variable: &ContextVar,
        object: Bound<'_, T>,
        find: fn(&Bound<'_, PyAny>, &Bound<'_, PyAny>) -> Vec<Py<PyAny>>,
    ) -> PyResult<Stage<T>> {
        let py = object.py();
        let context = base.copy(py)?;
        context.run(py, || variable.set(py, object.as_any()))?;
        let way = find(context.object().bind(py), object.as_any());
        Ok(Stage { context, object: object.unbind(), way })
    }

    /// The context, to be run in.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// The object in it.
    pub(crate) fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, T> {
        self.object.bind(py)
    }

    /// Whether nobody else has any part of it.
    pub(crate) fn is_ours(&self, py: Python<'_>) -> bool {
        self.way_is_ours(py) && is_sole(self.object.bind(py).as_any(), OURS_AND_ITS)
    }

    /// Whether nobody else has any part of it, and the context holds the values that it had.
    /// Asked after code has run in it; as long as none has, `is_ours` says as much.
    pub(crate) fn is_untouched(&self, py: Python<'_>) -> bool {
        let context = self.context.object().bind(py);
        self.way.first().is_some_and(|first| referents(context).is(first)) && self.is_ours(py)
    }

    fn way_is_ours(&self, py: Python<'_>) -> bool {
        is_sole(self.context.object().bind(py), 1)
            && !self.way.is_empty()
            && self.way.iter().all(|part| references(part.bind(py)) == OURS_AND_ITS)
    }
}

impl<T: Vessel> Stage<T> {
    /// Exchanges what the object holds, if nobody has any part of the stage; otherwise the value
    /// comes back.
    pub(crate) fn recast(&self, py: Python<'_>, value: T::Held) -> Result<T::Held, T::Held> {
        if !self.way_is_ours(py) {
            return Err(value);
        }
        exchange(self.object.bind(py), OURS_AND_ITS, value)
    }
}

const WAYS: fn(&Bound<'_, PyAny>, &Bound<'_, PyAny>) -> Vec<Py<PyAny>> = find_way;
const NO_WAYS: fn(&Bound<'_, PyAny>, &Bound<'_, PyAny>) -> Vec<Py<PyAny>> = |_, _| Vec::new();

/// The first few objects that another one refers to, as its type shows them to the collector.
struct Referents {
    found: [*mut ffi::PyObject; 4],
    count: usize,
}

impl Referents {
    /// Whether `wanted` is the only one. An entered context also shows the one before it.
    fn is(&self, wanted: &Py<PyAny>) -> bool {
        self.count == 1 && self.found[0] == wanted.as_ptr()
    }
}

fn referents(object: &Bound<'_, PyAny>) -> Referents {
    extern "C" fn visit(object: *mut ffi::PyObject, seen: *mut c_void) -> c_int {
        // SAFETY: `seen` is the record below, for as long as the traversal takes.
        let seen = unsafe { &mut *seen.cast::<Referents>() };
        if let Some(free) = seen.found.get_mut(seen.count) {
            *free = object;
        }
        seen.count += 1;
        0
    }
    let mut seen = Referents { found: [std::ptr::null_mut(); 4], count: 0 };
    // SAFETY: the object is alive and the GIL is held; a type's `tp_traverse` calls the function
    // with what the object refers to, and does nothing else.
    unsafe {
        if let Some(traverse) = (*ffi::Py_TYPE(object.as_ptr())).tp_traverse {
            traverse(object.as_ptr(), visit, (&raw mut seen).cast());
        }
    }
    seen
}

/// The object that a context keeps its values in, by its address.
pub(super) fn values(context: &Bound<'_, PyAny>) -> Option<usize> {
    let seen = referents(context);
    (seen.count == 1).then(|| seen.found[0].addr())
}

/// Everything that an object refers to.
fn all_referents<'py>(object: &Bound<'py, PyAny>) -> Vec<Bound<'py, PyAny>> {
    extern "C" fn visit(object: *mut ffi::PyObject, seen: *mut c_void) -> c_int {
        // SAFETY: `seen` is the list below, for as long as the traversal takes.
        unsafe { &mut *seen.cast::<Vec<*mut ffi::PyObject>>() }.push(object);
        0
    }
    let mut seen: Vec<*mut ffi::PyObject> = Vec::new();
    // SAFETY: as in `referents`. What was shown is alive as long as the object is, and becomes
    // a reference of its own at once.
    unsafe {
        if let Some(traverse) = (*ffi::Py_TYPE(object.as_ptr())).tp_traverse {
            traverse(object.as_ptr(), visit, (&raw mut seen).cast());
        }
        let py = object.py();
        seen.into_iter().map(|found| Bound::from_borrowed_ptr(py, found)).collect()
    }
}

/// What leads from `context` to `wanted`, through nothing but the tree that holds its values.
fn find_way(context: &Bound<'_, PyAny>, wanted: &Bound<'_, PyAny>) -> Vec<Py<PyAny>> {
    fn search<'py>(
        from: &Bound<'py, PyAny>,
        wanted: &Bound<'py, PyAny>,
        way: &mut Vec<Py<PyAny>>,
    ) -> bool {
        for next in all_referents(from) {
            if next.is(wanted) {
                return true;
            }
            let part_of_tree =
                next.get_type().name().is_ok_and(|name| name.to_string().starts_with("hamt"));
            if part_of_tree && way.len() < LONGEST {
                way.push(next.clone().unbind());
                if search(&next, wanted, way) {
                    return true;
                }
                way.pop();
            }
        }
        false
    }
    let mut way = Vec::new();
    if search(context, wanted, &mut way) { way } else { Vec::new() }
}

/// Whether this interpreter's contexts behave as the checks above take it.
fn ways_are_known(py: Python<'_>) -> PyResult<bool> {
    static KNOWN: PyOnceLock<bool> = PyOnceLock::new();
    // Without a GIL, nothing can be said of who refers to what at this moment.
    KNOWN.get_or_try_init(py, || Ok(cfg!(not(Py_GIL_DISABLED)) && self_test(py)?)).copied()
}

/// Does on contexts of its own what handlers may do on theirs.
fn self_test(py: Python<'_>) -> PyResult<bool> {
    let ours = ContextVar::new(c"tiebeam_self_test", py)?;
    let others: Vec<ContextVar> = (0..40)
        .map(|_| ContextVar::new(c"tiebeam_self_test_other", py))
        .collect::<PyResult<_>>()?;
    // Few and many variables beside ours: the tree has one level, or several.
    for count in [0, 1, 8, 40] {
        let base = Context::current(py)?.copy(py)?;
        base.run(py, || {
            others[..count].iter().try_for_each(|other| other.set(py, &py.None().into_bound(py)))
        })?;
        let make = || {
            let object = PyList::empty(py);
            Stage::build(&base, &ours, object, WAYS)
        };
        let stage = make()?;
        let (context, object) = (&stage.context, stage.object(py));
        if !stage.is_untouched(py) {
            return Ok(false);
        }
        // Running in it, and reading our variable there, leaves it as it is.
        context.run(py, || ours.get(py).map(drop))?;
        if !stage.is_untouched(py) {
            return Ok(false);
        }
        // A copy, as a task has it, and whatever is set in the copy.
        let copy = context.copy(py)?;
        let shared = stage.is_untouched(py);
        copy.run(py, || others[39].set(py, object.as_any()))?;
        let set_elsewhere = stage.is_untouched(py);
        drop(copy);
        let alone_again = stage.is_untouched(py);
        if shared || set_elsewhere || !alone_again {
            return Ok(false);
        }
        // One more reference to the object.
        let kept = object.clone();
        let object_kept = stage.is_untouched(py);
        drop(kept);
        // Values that the handler sets, of another variable or of ours.
        for variable in [&others[39], &ours] {
            let touched = make()?;
            touched.context.run(py, || variable.set(py, object.as_any()))?;
            if touched.is_untouched(py) {
                return Ok(false);
            }
        }
        if object_kept || !stage.is_untouched(py) {
            return Ok(false);
        }
    }
    Ok(true)
}
