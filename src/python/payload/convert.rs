//! The documented encodings of what JSON does not have.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple, PyType};

use super::fields;
use super::problem::{Problem, type_name};

/// What a value is written as.
pub(super) enum Converted<'py> {
    As(Bound<'py, PyAny>),
    Text(String),
    Builtin,
    No(String),
}

/// The documented encodings of what JSON does not have.
///
/// | Python | encoded as |
/// | --- | --- |
/// | datetime, date | ISO 8601 text |
/// | Decimal (finite), UUID | text |
/// | Enum | its value |
/// | dataclass, msgspec Struct | object of its fields |
/// | pydantic model | its `model_dump()` |
/// | NumPy scalar | its Python value |
/// | Mapping, tuple | object, array |
pub(super) fn convert<'py>(value: &Bound<'py, PyAny>) -> Result<Converted<'py>, Problem> {
    let py = value.py();
    let kind = value.get_type();
    if let Some(names) = fields::known(&kind) {
        return Ok(Converted::As(attributes(value, names.iter().map(Ok))?));
    }
    let known = Known::get(py)?;
    if value.is_instance(known.enumeration.bind(py))? {
        return Ok(Converted::As(value.getattr("value")?));
    }
    if value.is_instance(known.date.bind(py))? {
        let text: String = value.call_method0("isoformat")?.extract()?;
        return Ok(time_text(text)); // pandas' NaT is a datetime
    }
    if value.is_instance(known.decimal.bind(py))? {
        let text = value.str()?.to_str()?.to_owned();
        return Ok(if value.call_method0("is_finite")?.is_truthy()? {
            Converted::Text(text)
        } else {
            Converted::No(format!(
                "Decimal {text} is not a number; send None where there is no value"
            ))
        });
    }
    if value.is_instance(known.uuid.bind(py))? {
        return Ok(Converted::Text(value.str()?.to_str()?.to_owned()));
    }
    if kind.hasattr("model_dump")? {
        return Ok(Converted::As(value.call_method0("model_dump")?));
    }
    if kind.hasattr("__dataclass_fields__")? {
        return Ok(Converted::As(attributes(value, fields::ask(&kind)?.iter().map(Ok))?));
    }
    if kind.hasattr("__struct_fields__")? {
        return Ok(Converted::As(attributes(
            value,
            kind.getattr("__struct_fields__")?.try_iter()?,
        )?));
    }
    let is_builtin = value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyInt>()
        || value.is_instance_of::<PyDict>()
        || value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyTuple>()
        || value.is_instance_of::<PyFloat>();
    let module = kind.module()?.to_string();
    if !is_builtin && module == "numpy" {
        return numpy(value);
    }
    if is_builtin || value.cast::<PyMapping>().is_ok() {
        return Ok(Converted::Builtin);
    }
    let hint = match type_name(value).as_str() {
        "bytes" | "bytearray" | "memoryview" => "; encode it, for example with base64",
        "set" | "frozenset" => "; write sorted(value), so that its order is the same each time",
        "timedelta" => "; send seconds, value.total_seconds()",
        "complex" => "; send [value.real, value.imag]",
        _ if value.hasattr("__next__")? => "; write list(value)",
        _ => "; send its fields, or make it a dataclass",
    };
    Ok(Converted::No(format!("a value of type {} has no JSON form{hint}", type_name(value))))
}

/// The attributes of these names, by name.
fn attributes<'py>(
    value: &Bound<'py, PyAny>,
    names: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
) -> PyResult<Bound<'py, PyAny>> {
    let plain = PyDict::new(value.py());
    for name in names {
        let name = name?;
        plain.set_item(&name, value.getattr(name.cast::<PyString>()?)?)?;
    }
    Ok(plain.into_any())
}

/// A point in time as text; "not a time" is none.
fn time_text<'py>(text: String) -> Converted<'py> {
    if text == "NaT" {
        return Converted::No("NaT is no point in time; send None where there is no value".into());
    }
    Converted::Text(text)
}

/// Scalars have a plain value; arrays are refused, since their shape would be lost silently.
fn numpy<'py>(value: &Bound<'py, PyAny>) -> Result<Converted<'py>, Problem> {
    let kind = type_name(value);
    if kind == "ndarray" {
        return Ok(Converted::No("a NumPy array; write value.tolist()".into()));
    }
    if kind == "datetime64" {
        return Ok(time_text(value.str()?.to_str()?.to_owned()));
    }
    if value.hasattr("item")? {
        let plain = value.call_method0("item")?;
        // An extended-precision float returns itself.
        if !plain.get_type().is(value.get_type()) {
            return Ok(Converted::As(plain));
        }
    }
    Ok(Converted::No(format!("a NumPy value of type {kind} has no JSON form")))
}

/// The classes that are looked for, imported once.
struct Known {
    enumeration: Py<PyType>,
    date: Py<PyType>,
    decimal: Py<PyType>,
    uuid: Py<PyType>,
}

impl Known {
    fn get(py: Python<'_>) -> PyResult<&'static Known> {
        static KNOWN: PyOnceLock<Known> = PyOnceLock::new();
        KNOWN.get_or_try_init(py, || {
            let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
                Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?.unbind())
            };
            Ok(Known {
                enumeration: class("enum", "Enum")?,
                date: class("datetime", "date")?,
                decimal: class("decimal", "Decimal")?,
                uuid: class("uuid", "UUID")?,
            })
        })
    }
}
