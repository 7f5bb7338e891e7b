//! The one mapping from the core's errors to Python's exceptions, and back from an exception
//! to what the core needs to know about a failure.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyTuple, PyType};

use super::bridge::ffi;
use crate::bus::Failure;
use crate::error::{Category, Error, Kind};

/// The class in `tiebeam.exceptions` for each kind.
fn class_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Payload => "PayloadError",
        Kind::Topic => "TopicError",
        Kind::MailboxFull => "MailboxFull",
        Kind::RequestTimeout => "RequestTimeout",
        Kind::RequestFault => "RequestFault",
        Kind::NoResponder => "NoResponder",
        Kind::NoHandler => "NoHandler",
        Kind::Unroutable => "Unroutable",
        Kind::OutcomeUnknown => "OutcomeUnknown",
        Kind::BrokerBlocked => "BrokerBlocked",
        Kind::DuplicateHandler => "DuplicateHandler",
        Kind::WouldDeadlock => "WouldDeadlock",
        Kind::ForkedProcess => "ForkedProcessError",
        Kind::Lifecycle => "LifecycleError",
        Kind::DependencyCycle => "DependencyCycle",
        Kind::NotReady => "NotReady",
        Kind::Configuration => "ConfigurationError",
        Kind::Transient => "TransientError",
        Kind::Permanent => "PermanentError",
        Kind::Dependency => "DependencyError",
        Kind::Internal => "InternalError",
        Kind::CircuitOpen => "CircuitOpen",
        Kind::BulkheadFull => "BulkheadFull",
        Kind::RateLimited => "RateLimited",
        Kind::Closed => "ClosedError",
        Kind::Timeout => "TimeoutExceeded",
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        Python::attach(|py| make(py, &error).unwrap_or_else(|failed| failed))
    }
}

fn make(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let class = py.import("tiebeam.exceptions")?.getattr(class_name(error.kind()))?;
    let context = PyDict::new(py);
    let (notes, facts): (Vec<_>, Vec<_>) =
        error.context().iter().partition(|(key, _)| *key == "note");
    for (key, value) in facts {
        context.set_item(*key, value)?;
    }
    // The caller may be a thread that the end of the interpreter overtakes.
    let arguments = PyTuple::new(py, [error.message()])?;
    let exception = ffi::call(&class, &arguments, Some(&context))?;
    if error.category() != error.kind().category() {
        exception.setattr("category", error.category().as_str())?;
    }
    if !notes.is_empty() {
        // What `add_note` does, which Python 3.10 does not have.
        exception.setattr("__notes__", notes.iter().map(|(_, note)| note).collect::<Vec<_>>())?;
    }
    Ok(PyErr::from_value(exception))
}

/// Panics as a bug in the core would, so that tests see what becomes of that.
#[pyfunction]
pub(super) fn _panic(message: &str) {
    panic!("{message}");
}

/// The most text of a traceback that an event or a dead letter keeps, in bytes.
const MAX_TRACEBACK: usize = 16 * 1024;

/// What the core keeps of an exception: its words, and not its frames.
pub(super) fn failure_from(py: Python<'_>, error: &PyErr) -> Failure {
    let kind = error.get_type(py);
    let error_type = kind.name().map_or_else(|_| "Exception".into(), |name| name.to_string());
    let value = error.value(py);
    let message = value.str().map_or_else(
        |_| "(its message could not be formatted)".into(),
        |text| text.to_string_lossy().into_owned(),
    );
    let traceback = format_traceback(py, error);
    Failure {
        traceback,
        retry_after: retry_after_of(py, error),
        refused_by: refused_by(py, error),
        ..Failure::new(category_of(py, error), error_type, message)
    }
}

/// The circuit breaker that raised it, by its name.
fn refused_by(py: Python<'_>, error: &PyErr) -> Option<Arc<str>> {
    static CIRCUIT_OPEN: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CIRCUIT_OPEN.import(py, "tiebeam.exceptions", "CircuitOpen").ok()?;
    if !error.is_instance(py, class) {
        return None;
    }
    // Somebody else may have raised one of its kind, without a name.
    let name = error.value(py).getattr_opt("name").ok().flatten();
    Some(name.and_then(|name| name.extract::<String>().ok()).unwrap_or_default().into())
}

/// How long an exception says that there is no use in trying again, in seconds. What a stranger's
/// exception has under the name may be anything.
fn retry_after_of(py: Python<'_>, error: &PyErr) -> Option<Duration> {
    let said = error.value(py).getattr_opt("retry_after").ok()??;
    let is_number = !said.is_instance_of::<PyBool>();
    let seconds = said.extract::<f64>().ok().filter(|_| is_number)?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn format_traceback(py: Python<'_>, error: &PyErr) -> Option<String> {
    let lines = py
        .import("traceback")
        .and_then(|traceback| {
            // All three: before 3.12 the value does not know its traceback yet.
            let parts = (error.get_type(py), error.value(py), error.traceback(py));
            let format = traceback.getattr("format_exception")?;
            ffi::call(&format, &parts.into_pyobject(py)?, None)
        })
        .and_then(|lines| lines.extract::<Vec<String>>())
        .ok()?;
    let mut text = lines.concat();
    if text.len() > MAX_TRACEBACK {
        // The end says most: the innermost frame and the message.
        let mut cut = text.len() - MAX_TRACEBACK;
        while !text.is_char_boundary(cut) {
            cut += 1;
        }
        text = format!("...\n{}", &text[cut..]);
    }
    Some(text)
}

/// The category of an exception: what it says itself, else by its type.
pub(super) fn category_of(py: Python<'_>, error: &PyErr) -> Category {
    let said = error
        .value(py)
        .getattr_opt("category")
        .ok()
        .flatten()
        .and_then(|category| category.extract::<String>().ok())
        .and_then(|category| Category::parse(&category));
    said.unwrap_or_else(|| {
        builtin_categories(py)
            .iter()
            .find(|(class, _)| error.matches(py, class.bind(py)).unwrap_or(false))
            .map_or_else(
                || {
                    if error.is_instance_of::<PyException>(py) {
                        Category::Transient
                    } else {
                        // SystemExit, KeyboardInterrupt: nothing that another attempt would cure.
                        Category::Internal
                    }
                },
                |(_, category)| *category,
            )
    })
}

/// Checked in this order: a class comes before those it derives from.
const BUILTIN: [(&str, &str, Category); 18] = [
    ("builtins", "ConnectionRefusedError", Category::Dependency),
    ("socket", "gaierror", Category::Dependency),
    ("builtins", "OSError", Category::Transient), // TimeoutError and ConnectionError are OSErrors
    ("asyncio", "TimeoutError", Category::Transient), // its own class before 3.11
    ("builtins", "ValueError", Category::Permanent), // pydantic's ValidationError is one
    ("builtins", "TypeError", Category::Permanent),
    ("builtins", "LookupError", Category::Permanent),
    ("builtins", "ArithmeticError", Category::Permanent),
    ("builtins", "AttributeError", Category::Internal),
    ("builtins", "NameError", Category::Internal),
    ("builtins", "AssertionError", Category::Internal),
    ("builtins", "NotImplementedError", Category::Internal),
    ("builtins", "RecursionError", Category::Internal),
    ("builtins", "ImportError", Category::Internal),
    ("builtins", "SyntaxError", Category::Internal),
    ("asyncio", "CancelledError", Category::Internal),
    ("builtins", "StopIteration", Category::Internal), // it steers, and is no failure
    ("builtins", "StopAsyncIteration", Category::Internal),
];

fn builtin_categories(py: Python<'_>) -> &'static [(Py<PyType>, Category)] {
    static CLASSES: PyOnceLock<Vec<(Py<PyType>, Category)>> = PyOnceLock::new();
    CLASSES.get_or_init(py, || {
        BUILTIN
            .iter()
            .filter_map(|(module, name, category)| {
                let class = py.import(*module).ok()?.getattr(*name).ok()?;
                Some((class.cast_into::<PyType>().ok()?.unbind(), *category))
            })
            .collect()
    })
}
