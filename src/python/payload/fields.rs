//! The fields of dataclasses: asked for once per class, and kept no longer than that.

use std::collections::HashMap;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference};

/// The names of the fields by the address of their class, which is that of another one once the
/// class is gone.
#[derive(Default)]
struct Kept {
    names: HashMap<usize, (Py<PyWeakrefReference>, Py<PyTuple>)>,
    /// How many there are before those of classes that are gone are looked for.
    sweep_at: usize,
}

static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

/// The names that [`ask`] has found for `kind` before.
pub(super) fn known<'py>(kind: &Bound<'py, PyType>) -> Option<Bound<'py, PyTuple>> {
    let py = kind.py();
    let kept = KEPT.lock();
    let (class, names) = kept.as_ref()?.names.get(&address(kind))?;
    let (class, names) = (class.bind(py).clone(), names.bind(py).clone());
    drop(kept);
    class.upgrade().is_some_and(|class| class.is(kind)).then_some(names)
}

/// The names of the fields of `kind`, a dataclass. Its `ClassVar`s and `InitVar`s are none.
pub(super) fn ask<'py>(kind: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyTuple>> {
    static FIELDS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = kind.py();
    let fields = FIELDS.import(py, "dataclasses", "fields")?.call1((kind,))?;
    let names = fields.try_iter()?.map(|field| field?.getattr("name"));
    let names = PyTuple::new(py, names.collect::<PyResult<Vec<_>>>()?)?;
    let class = PyWeakrefReference::new(kind)?.unbind();
    keep(py, address(kind), (class, names.clone().unbind()));
    Ok(names)
}

fn keep(py: Python<'_>, address: usize, found: (Py<PyWeakrefReference>, Py<PyTuple>)) {
    let mut gone = Vec::new(); // let go of after the lock
    let mut kept = KEPT.lock();
    let kept = kept.get_or_insert_default();
    gone.extend(kept.names.insert(address, found));
    if kept.names.len() > kept.sweep_at {
        let is_gone = |class: &Py<PyWeakrefReference>| class.bind(py).upgrade().is_none();
        gone.extend(kept.names.extract_if(|_, (class, _)| is_gone(class)).map(|(_, old)| old));
        kept.sweep_at = (2 * kept.names.len()).max(64);
    }
}

fn address(kind: &Bound<'_, PyType>) -> usize {
    kind.as_ptr().addr()
}
