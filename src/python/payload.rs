//! From Python objects to encoded payloads and back.
//!
//! | file | idea |
//! | --- | --- |
//! | `encode` | exact builtin types, written straight into the encoder |
//! | `convert` | the documented encodings of everything else |
//! | `fields` | those of dataclasses, kept as long as their class |
//! | `problem` | what is refused, and where it stands |
//! | `decode` | back to Python objects |

mod convert;
mod decode;
mod encode;
mod fields;
mod problem;

use pyo3::prelude::*;

pub(super) use decode::decode;
pub(super) use encode::encode;

/// A `serde_json` value as Python objects, for what the core serializes anyway.
pub(super) fn to_python<'py>(
    py: Python<'py>,
    value: &impl serde::Serialize,
) -> PyResult<Bound<'py, PyAny>> {
    pythonize::pythonize(py, value).map_err(PyErr::from)
}

/// Python objects as a JSON value, by the rules of payloads.
pub(super) fn from_python(value: &Bound<'_, PyAny>, root: &str) -> PyResult<serde_json::Value> {
    Ok(encode(value, usize::MAX >> 1, root)?.to_json_value())
}
