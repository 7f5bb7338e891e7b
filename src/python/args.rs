//! Arguments as users write them, checked at the door.

use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyList, PyString, PyTuple};

use crate::error::did_you_mean;
use crate::event::Priority;
use crate::filter::{Filter, Literal};

/// A duration given in seconds (int, float) or as a `timedelta`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds(pub Duration);

impl<'a, 'py> FromPyObject<'a, 'py> for Seconds {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(span) = value.extract::<Duration>() {
            return Ok(Seconds(span));
        }
        let is_number = !value.is_instance_of::<PyBool>();
        match value.extract::<f64>() {
            Ok(seconds) if is_number => {
                Duration::try_from_secs_f64(seconds).map(Seconds).map_err(|_| {
                    // Not all of its three hundred digits.
                    let said = match seconds.abs() {
                        1e16.. => format!("{seconds:e}"),
                        _ => seconds.to_string(),
                    };
                    PyValueError::new_err(format!("a duration cannot be {said} s"))
                })
            }
            _ => Err(PyTypeError::new_err(format!(
                "a duration is a number of seconds or a timedelta, got {}",
                value.get_type().name()?
            ))),
        }
    }
}

/// How long an end may take, where something is ended.
pub(super) struct Grace(pub Duration);

impl<'a, 'py> FromPyObject<'a, 'py> for Grace {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let value: &Bound<'_, PyAny> = &value;
        Ok(Grace(seconds("grace", Some(value))?.unwrap_or_default()))
    }
}

/// An argument as it was given; `None` where it was left out.
pub(super) type Given<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

/// The text that was given as `name`.
pub(super) fn text<'a>(name: &str, given: Given<'a, '_>) -> PyResult<Option<&'a str>> {
    let Some(given) = given else { return Ok(None) };
    let Ok(text) = given.cast::<PyString>() else { return Err(is_no(name, "text", given)) };
    let surrogate = |_| {
        PyValueError::new_err(format!(
            "{name} is text with a lone surrogate, which is not valid Unicode: {}",
            shown(given)
        ))
    };
    text.to_str().map(Some).map_err(surrogate)
}

/// The whole number that was given as `name`.
#[inline]
pub(super) fn whole<'a, 'py, T: FromPyObject<'a, 'py>>(
    name: &str,
    given: Given<'a, 'py>,
) -> PyResult<Option<T>> {
    // Asked with each event, and hardly ever given.
    given.map(|given| a_whole(name, given)).transpose()
}

#[cold]
fn a_whole<'a, 'py, T: FromPyObject<'a, 'py>>(
    name: &str,
    given: &'a Bound<'py, PyAny>,
) -> PyResult<T> {
    match given.extract::<T>() {
        Ok(number) if !given.is_instance_of::<PyBool>() => Ok(number),
        Err(_) if given.is_instance_of::<PyInt>() => {
            Err(PyValueError::new_err(format!("{name} is out of range, got {}", shown(given))))
        }
        _ => Err(is_no(name, "a whole number", given)),
    }
}

/// The duration that was given as `name`.
#[inline]
pub(super) fn seconds(name: &str, given: Given<'_, '_>) -> PyResult<Option<Duration>> {
    given.map(|given| a_duration(name, given)).transpose()
}

#[cold]
fn a_duration(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let told = |error: PyErr| {
        let said = format!("{name}: {}", error.value(given.py()));
        if error.is_instance_of::<PyTypeError>(given.py()) {
            PyTypeError::new_err(said)
        } else {
            PyValueError::new_err(said)
        }
    };
    given.extract().map(|Seconds(span)| span).map_err(told)
}

/// The text that was given under `key` of the dict `name`.
pub(super) fn text_in<'a>(name: &str, key: &str, given: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    text(&format!("{name}[{key:?}]"), Some(given)).map(Option::unwrap_or_default)
}

/// The count that was given under `key` of the dict `name`.
pub(super) fn whole_in(name: &str, key: &str, given: &Bound<'_, PyAny>) -> PyResult<u32> {
    whole(&format!("{name}[{key:?}]"), Some(given)).map(Option::unwrap_or_default)
}

/// The number that was given under `key` of the dict `name`.
pub(super) fn number_in(name: &str, key: &str, given: &Bound<'_, PyAny>) -> PyResult<f64> {
    number(&format!("{name}[{key:?}]"), Some(given)).map(Option::unwrap_or_default)
}

/// The number that was given as `name`.
pub(super) fn number(name: &str, given: Given<'_, '_>) -> PyResult<Option<f64>> {
    let number = |given: &Bound<'_, PyAny>| match given.extract() {
        Ok(number) if !given.is_instance_of::<PyBool>() => Ok(number),
        _ => Err(is_no(name, "a number", given)),
    };
    given.map(number).transpose()
}

/// The duration that was given under `key` of the dict `name`.
pub(super) fn seconds_in(name: &str, key: &str, given: &Bound<'_, PyAny>) -> PyResult<Duration> {
    seconds(&format!("{name}[{key:?}]"), Some(given)).map(Option::unwrap_or_default)
}

/// What was given as `name`, where that is one thing or the other.
pub(super) fn flag(name: &str, given: Given<'_, '_>) -> PyResult<Option<bool>> {
    let Some(given) = given else { return Ok(None) };
    let flag = given.cast::<PyBool>().map_err(|_| is_no(name, "True or False", given))?;
    Ok(Some(flag.is_true()))
}

/// The dict that was given as `name`.
pub(super) fn dict<'a, 'py>(
    name: &str,
    given: Given<'a, 'py>,
) -> PyResult<Option<&'a Bound<'py, PyDict>>> {
    let Some(given) = given else { return Ok(None) };
    given.cast().map(Some).map_err(|_| is_no(name, "a dict", given))
}

fn is_no(name: &str, what: &str, given: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{name} is {what}, got {}", shown(given)))
}

/// A value in a message: its type, and what it is where that is short.
fn shown(given: &Bound<'_, PyAny>) -> String {
    let class = given.get_type();
    let class = class.name().map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    match given.repr().map(|repr| repr.to_string_lossy().into_owned()) {
        Ok(repr) if repr.len() <= 60 => format!("{class} {repr}"),
        _ => class,
    }
}

/// A priority by its name.
pub(super) fn priority(name: Option<&str>) -> PyResult<Priority> {
    let Some(name) = name else { return Ok(Priority::Normal) };
    Priority::parse(name)
        .ok_or_else(|| one_of("priority", name, &["low", "normal", "high", "critical"]))
}

/// The error for a name that is none of `allowed`.
pub(super) fn one_of(what: &str, given: &str, allowed: &[&str]) -> PyErr {
    let hint = did_you_mean(given, allowed.iter().copied())
        .map(|near| format!("; did you mean {near:?}?"))
        .unwrap_or_default();
    PyValueError::new_err(format!(
        "{what} must be one of {}, got {given:?}{hint}",
        allowed.join(", ")
    ))
}

/// A filter from `where={"payload.symbol": "BTCUSDT"}` or `where="payload.price > 100"`.
pub(super) fn filter(conditions: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Filter>> {
    let Some(conditions) = conditions else { return Ok(None) };
    if let Ok(expression) = conditions.cast::<PyString>() {
        return Ok(Some(Filter::parse(expression.to_str()?)?));
    }
    let Ok(conditions) = conditions.cast::<PyDict>() else {
        let hint = if conditions.is_callable() {
            "; what only Python can decide belongs into the handler"
        } else {
            ""
        };
        return Err(PyTypeError::new_err(format!(
            "`where` is a dict such as {{\"payload.symbol\": \"BTCUSDT\"}} or an expression such as \
             \"payload.price > 100\", got {}{hint}",
            conditions.get_type().name()?
        )));
    };
    let mut filter = Filter::default();
    for (path, value) in conditions.iter() {
        let path = path.extract::<String>().map_err(|_| {
            PyTypeError::new_err("the paths in `where` are strings such as \"payload.symbol\"")
        })?;
        filter = filter.and_equals(&path, literal(&path, &value)?)?;
    }
    Ok((!filter.is_empty()).then_some(filter))
}

fn literal(path: &str, value: &Bound<'_, PyAny>) -> PyResult<Literal> {
    if value.is_none() {
        return Ok(Literal::Null);
    }
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Literal::Bool(flag.is_true()));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Literal::Str(text.to_str()?.to_owned()));
    }
    if let Ok(number) = value.extract::<i64>() {
        return Ok(Literal::Int(number));
    }
    if let Ok(number) = value.extract::<u64>() {
        return Ok(Literal::Uint(number));
    }
    if value.is_instance_of::<PyInt>() {
        // As a float it would be rounded, and match what it is not.
        return Err(PyValueError::new_err(format!(
            "where[{path:?}] is beyond what an event can hold: integers go from -2**63 to 2**64 - 1"
        )));
    }
    if let Ok(number) = value.extract::<f64>() {
        return Ok(Literal::Number(number));
    }
    let hint = if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        format!("; for one of several, write where=\"{path} in [..]\"")
    } else {
        String::new()
    };
    Err(PyTypeError::new_err(format!(
        "where[{path:?}] must be a string, number, boolean or None, got {}{hint}",
        value.get_type().name()?
    )))
}
