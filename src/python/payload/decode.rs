//! From encoded values to Python objects.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyList, PyString};

use crate::event::Node;
use crate::python::bridge::ffi::{GilCell, text};

/// A Python object from an encoded value.
pub(in crate::python) fn decode<'py>(
    py: Python<'py>,
    node: Node<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut keys = Keys::borrow(py);
    let decoded = value(py, node, &mut keys);
    keys.give_back(py);
    decoded
}

fn value<'py>(py: Python<'py>, node: Node<'_>, keys: &mut Keys) -> PyResult<Bound<'py, PyAny>> {
    Ok(match node {
        Node::Null => py.None().into_bound(py),
        Node::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
        Node::Int(value) => value.into_pyobject(py)?.into_any(),
        Node::Uint(value) => value.into_pyobject(py)?.into_any(),
        Node::Float(value) => PyFloat::new(py, value).into_any(),
        Node::Str(value) => text(py, value).into_any(),
        Node::List(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(value(py, item, keys)?)?;
            }
            list.into_any()
        }
        Node::Map(mut entries) => {
            let dict = PyDict::new(py);
            while let Some((key, node)) = entries.next_raw() {
                let item = value(py, node, keys)?;
                dict.set_item(keys.get(py, key)?, item)?;
            }
            dict.into_any()
        }
    })
}

/// The keys met last, as Python strings: they repeat from event to event, and a string that is
/// there already has its hash, and is compared by its address.
struct Keys(Vec<Option<Key>>);

struct Key {
    bytes: Box<[u8]>,
    string: Py<PyString>,
}

/// How many keys are kept; those with the same hash share a place.
const KEPT: usize = 1024;

/// Longer ones are made anew each time.
const LONGEST: usize = 64;

static KEYS: GilCell<Keys> = GilCell::empty();

impl Keys {
    /// The keys, for as long as one payload is decoded; another thread that decodes meanwhile
    /// starts with none.
    fn borrow(py: Python<'_>) -> Keys {
        KEYS.take(py).unwrap_or(Keys(Vec::new()))
    }

    fn give_back(self, py: Python<'_>) {
        drop(KEYS.put(py, self));
    }

    fn get<'py>(&mut self, py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
        if bytes.len() > LONGEST {
            return Ok(text(py, utf8(bytes)?));
        }
        if self.0.is_empty() {
            self.0.resize_with(KEPT, || None);
        }
        let place = FixedState::default().hash_one(bytes) as usize % KEPT;
        if let Some(Some(key)) = self.0.get(place)
            && *key.bytes == *bytes
        {
            return Ok(key.string.bind(py).clone());
        }
        let string = PyString::intern(py, utf8(bytes)?);
        let key = Key { bytes: bytes.into(), string: string.clone().unbind() };
        if let Some(kept) = self.0.get_mut(place) {
            *kept = Some(key);
        }
        Ok(string)
    }
}

fn utf8(bytes: &[u8]) -> PyResult<&str> {
    std::str::from_utf8(bytes).map_err(|error| PyValueError::new_err(error.to_string()))
}
