//! `dedup=True` or `dedup={"window": 600, "size": 100_000}`.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};

use super::args::{one_of, seconds_in};
use crate::bus::DedupSettings;

/// What a bus is to remember of ids.
pub(super) fn dedup(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<DedupSettings>> {
    let Some(given) = given else { return Ok(None) };
    if let Ok(flag) = given.cast::<PyBool>() {
        return Ok(flag.is_true().then(DedupSettings::default));
    }
    let Ok(options) = given.cast::<PyDict>() else {
        return Err(PyTypeError::new_err(format!(
            "dedup is True, False or a dict such as {{\"window\": 600, \"size\": 100_000}}, got {}",
            given.get_type().name()?
        )));
    };
    let mut settings = DedupSettings::default();
    for (name, value) in options.iter() {
        match name.extract::<String>()?.as_str() {
            "window" => settings.window = seconds_in("dedup", "window", &value)?,
            "size" => {
                settings.size = value.extract().map_err(|_| {
                    PyValueError::new_err(format!("dedup: size is a number of ids, got {value}"))
                })?;
            }
            other => return Err(one_of("a key of `dedup`", other, &["window", "size"])),
        }
    }
    if settings.window.is_zero() || settings.size == 0 {
        return Err(PyValueError::new_err(
            "dedup: window and size must be above zero; to remember nothing, leave `dedup` out",
        ));
    }
    Ok(Some(settings))
}
