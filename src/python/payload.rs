//! From Python objects to encoded payloads and back.
//!
//! Exact builtin types are written straight into the encoder; everything else takes the slow
//! way of [`convert`], which either finds a documented encoding or refuses with the path.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple, PyType};

use super::bridge::ffi::integer;
use crate::error::{Error, Kind};
use crate::event::{Encoder, MAX_DEPTH, Node, Payload};

/// The largest buffer that a thread keeps for its next payload.
const KEPT_BUFFER: usize = 256 * 1024;

thread_local! {
    /// One buffer per thread: encoding allocates once per event, for the exact size.
    static BUFFER: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

/// Encodes `value`; at most `limit` bytes.
///
/// # Errors
/// `PayloadError` with the path of the offending value.
pub(super) fn encode(value: &Bound<'_, PyAny>, limit: usize, root: &str) -> PyResult<Payload> {
    let mut walker =
        Walker { encoder: Encoder::reusing(BUFFER.take()), limit, converting: Vec::new() };
    let result = walker.write(value, None);
    let (payload, buffer) = walker.encoder.finish_reusing();
    // One large payload must not hold its memory for ever.
    if buffer.capacity() <= KEPT_BUFFER {
        BUFFER.set(buffer);
    }
    match result {
        Ok(()) => Ok(payload),
        Err(problem) => Err(problem.into_error(root)),
    }
}

/// A Python object from an encoded value.
pub(super) fn decode<'py>(py: Python<'py>, node: Node<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match node {
        Node::Null => py.None().into_bound(py),
        Node::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
        Node::Int(value) => value.into_pyobject(py)?.into_any(),
        Node::Uint(value) => value.into_pyobject(py)?.into_any(),
        Node::Float(value) => PyFloat::new(py, value).into_any(),
        Node::Str(value) => PyString::new(py, value).into_any(),
        Node::List(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(decode(py, item)?)?;
            }
            list.into_any()
        }
        Node::Map(entries) => {
            let dict = PyDict::new(py);
            for (key, value) in entries {
                // Keys repeat from event to event; interning makes their lookup a pointer
                // comparison, and keeps one copy of each.
                dict.set_item(PyString::intern(py, key), decode(py, value)?)?;
            }
            dict.into_any()
        }
    })
}

/// What is wrong, and the way there, innermost first.
///
/// Boxed, because every step of the walk returns one, or rather does not.
type Problem = Box<Found>;

struct Found {
    path: Vec<String>,
    reason: Reason,
}

enum Reason {
    Refused(String),
    /// A user's own code failed while it was asked for its value.
    Raised(PyErr),
}

impl Found {
    #[cold]
    fn refused(reason: impl Into<String>) -> Problem {
        Box::new(Found { path: Vec::new(), reason: Reason::Refused(reason.into()) })
    }

    #[cold]
    fn under(mut self: Box<Self>, segment: String) -> Problem {
        self.path.push(segment);
        self
    }

    fn into_error(self: Box<Self>, root: &str) -> PyErr {
        let mut path = root.to_owned();
        const SHOWN: usize = 8;
        for (index, segment) in self.path.iter().rev().enumerate() {
            if index == SHOWN {
                path.push_str("...");
                break;
            }
            path.push_str(segment);
        }
        let (message, cause) = match self.reason {
            Reason::Refused(reason) => (format!("{path}: {reason}"), None),
            Reason::Raised(error) => {
                // Ctrl-C and the like are no statement about the value.
                if Python::attach(|py| !error.is_instance_of::<PyException>(py)) {
                    return error;
                }
                (format!("{path}: the value could not be read: {error}"), Some(error))
            }
        };
        let error = PyErr::from(Error::new(Kind::Payload, "publish", message).with("path", path));
        if let Some(cause) = cause {
            Python::attach(|py| error.set_cause(py, Some(cause)));
        }
        error
    }
}

impl From<PyErr> for Problem {
    fn from(error: PyErr) -> Self {
        Box::new(Found { path: Vec::new(), reason: Reason::Raised(error) })
    }
}

/// A container that is being written, and those around it: to tell a cycle from mere depth.
struct Inside<'a> {
    container: *mut pyo3::ffi::PyObject,
    depth: usize,
    around: Outside<'a>,
}

type Outside<'a> = Option<&'a Inside<'a>>;

struct Walker {
    encoder: Encoder,
    limit: usize,
    /// The objects that are being written by way of another one.
    converting: Vec<*mut pyo3::ffi::PyObject>,
}

impl Walker {
    /// Refuses to go on once more than the limit is written.
    fn check_size(&self) -> Result<(), Problem> {
        if self.encoder.len() <= self.limit {
            return Ok(());
        }
        Err(Found::refused(format!(
            "the payload has more than {} bytes; store large data elsewhere and send a \
             reference, or raise `event_bus.max_payload`",
            self.limit
        )))
    }

    fn write(&mut self, value: &Bound<'_, PyAny>, around: Outside<'_>) -> Result<(), Problem> {
        if let Ok(text) = value.cast_exact::<PyString>() {
            return self.text(text);
        }
        if let Ok(number) = value.cast_exact::<PyFloat>() {
            return self.float(number.value());
        }
        if let Ok(number) = value.cast_exact::<PyInt>() {
            return self.int(number);
        }
        if let Ok(dict) = value.cast_exact::<PyDict>() {
            return self.dict(dict, around);
        }
        if value.is_none() {
            self.encoder.null();
            return self.check_size();
        }
        if let Ok(flag) = value.cast_exact::<PyBool>() {
            self.encoder.bool(flag.is_true());
            return self.check_size();
        }
        if let Ok(list) = value.cast_exact::<PyList>() {
            return self.items(value, list.len(), list.iter(), around);
        }
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            return self.items(value, tuple.len(), tuple.iter(), around);
        }
        self.other(value, around)
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> Result<(), Problem> {
        self.encoder.str(utf8(text)?);
        self.check_size()
    }

    fn int(&mut self, number: &Bound<'_, PyInt>) -> Result<(), Problem> {
        match integer(number) {
            Some(value) => self.encoder.int(value),
            None => {
                let value = number.extract::<u64>().map_err(|_| {
                    Found::refused("an integer beyond 64 bits; send it as a string or a Decimal")
                })?;
                self.encoder.uint(value);
            }
        }
        self.check_size()
    }

    fn float(&mut self, value: f64) -> Result<(), Problem> {
        if !value.is_finite() {
            return Err(Found::refused(format!(
                "{value} is not a JSON number; send None where there is no value"
            )));
        }
        self.encoder.float(value);
        self.check_size()
    }

    fn enter<'a>(
        &self,
        container: &Bound<'_, PyAny>,
        around: Outside<'a>,
    ) -> Result<Inside<'a>, Problem> {
        let container = container.as_ptr();
        let depth = around.map_or(0, |inside| inside.depth) + 1;
        if depth > MAX_DEPTH {
            return Err(self.too_deep(container, around));
        }
        self.check_size()?;
        Ok(Inside { container, depth, around })
    }

    /// Says whether it was a cycle or mere depth: either way we are inside of too much.
    #[cold]
    fn too_deep(&self, pointer: *mut pyo3::ffi::PyObject, around: Outside<'_>) -> Problem {
        let converting = &self.converting;
        let repeated =
            (1..converting.len()).any(|end| converting[..end].contains(&converting[end]));
        let mut open = std::iter::successors(around, |inside| inside.around);
        Found::refused(if repeated || open.any(|inside| inside.container == pointer) {
            "a container that contains itself".to_owned()
        } else {
            format!("more than {MAX_DEPTH} nested containers")
        })
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>, around: Outside<'_>) -> Result<(), Problem> {
        let inside = self.enter(dict, around)?;
        let open = self.encoder.begin_map();
        // Converting a value runs Python code, which may change the dict: looked for before each
        // step, because the iterator itself can only panic.
        let length = dict.len();
        let mut entries = dict.iter();
        let mut count = 0;
        while count < length {
            if dict.len() != length {
                return Err(Found::refused("a dict that changed while it was encoded"));
            }
            let Some((key, value)) = entries.next() else { break };
            let Ok(name) = key.cast::<PyString>() else {
                let kind = type_name(&key);
                return Err(Found::refused(format!(
                    "a key of type {kind}; JSON keys are strings, write {{str(key): ...}}"
                ))
                .under(format!("[{}]", short_repr(&key))));
            };
            let name =
                utf8(name).map_err(|problem| problem.under(format!("[{}]", short_repr(&key))))?;
            self.encoder.key(name);
            self.write(&value, Some(&inside))
                .map_err(|problem| problem.under(format!(".{name}")))?;
            count += 1;
        }
        self.encoder.end(open, count);
        Ok(())
    }

    fn items<'py>(
        &mut self,
        container: &Bound<'py, PyAny>,
        length: usize,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        around: Outside<'_>,
    ) -> Result<(), Problem> {
        let inside = self.enter(container, around)?;
        let open = self.encoder.begin_list();
        let mut count = 0;
        for (index, item) in items.take(length).enumerate() {
            self.write(&item, Some(&inside))
                .map_err(|problem| problem.under(format!("[{index}]")))?;
            count = index + 1;
        }
        self.encoder.end(open, count);
        Ok(())
    }

    /// Everything that is not exactly a builtin: first the documented encodings, then
    /// subclasses of builtins, by their builtin's value.
    fn other(&mut self, value: &Bound<'_, PyAny>, around: Outside<'_>) -> Result<(), Problem> {
        // A conversion can hand out ever new objects (an Enum whose value is another one): the
        // walk ends here where no container ends it.
        if self.converting.len() >= 2 * MAX_DEPTH {
            return Err(self.too_deep(value.as_ptr(), around));
        }
        self.converting.push(value.as_ptr());
        match convert(value)? {
            Converted::As(plain) => self.write(&plain, around)?,
            Converted::Text(text) => {
                self.encoder.str(&text);
                self.check_size()?;
            }
            Converted::Builtin => self.subclass(value, around)?,
            Converted::No(reason) => return Err(Found::refused(reason)),
        }
        self.converting.pop();
        Ok(())
    }

    fn subclass(&mut self, value: &Bound<'_, PyAny>, around: Outside<'_>) -> Result<(), Problem> {
        if let Ok(text) = value.cast::<PyString>() {
            return self.text(text);
        }
        if let Ok(number) = value.cast::<PyFloat>() {
            return self.float(number.value());
        }
        if let Ok(number) = value.cast::<PyInt>() {
            return self.int(number);
        }
        if let Ok(dict) = value.cast::<PyDict>() {
            return self.dict(dict, around);
        }
        if let Ok(list) = value.cast::<PyList>() {
            return self.items(value, list.len(), list.iter(), around);
        }
        if let Ok(tuple) = value.cast::<PyTuple>() {
            return self.items(value, tuple.len(), tuple.iter(), around);
        }
        let plain = PyDict::new(value.py());
        plain.update(value.cast::<PyMapping>().map_err(PyErr::from)?)?;
        self.dict(&plain, around)
    }
}

fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Result<&'a str, Problem> {
    text.to_str()
        .map_err(|_| Found::refused("text with a lone surrogate, which is not valid Unicode"))
}

enum Converted<'py> {
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
fn convert<'py>(value: &Bound<'py, PyAny>) -> Result<Converted<'py>, Problem> {
    let py = value.py();
    let known = Known::get(py)?;
    let kind = value.get_type();
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
    for fields in ["__dataclass_fields__", "__struct_fields__"] {
        if kind.hasattr(fields)? {
            let plain = PyDict::new(py);
            for name in kind.getattr(fields)?.try_iter()? {
                let name = name?;
                plain.set_item(
                    &name,
                    value.getattr(name.cast::<PyString>().map_err(PyErr::from)?)?,
                )?;
            }
            return Ok(Converted::As(plain.into_any()));
        }
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

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string())
}

fn short_repr(value: &Bound<'_, PyAny>) -> String {
    let text = value.repr().map_or_else(|_| type_name(value), |text| text.to_string_lossy().into());
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

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
