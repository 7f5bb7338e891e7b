//! `watchdog=False` or `watchdog={"step_limit": 0.5}`.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};

use super::args::{one_of, seconds_in};
use crate::bus::Patience;

/// How patient the watchdog of a bus is; none where nobody watches.
pub(super) fn watchdog(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Patience>> {
    let Some(given) = given else { return Ok(Some(Patience::default())) };
    if let Ok(flag) = given.cast::<PyBool>() {
        return Ok(flag.is_true().then(Patience::default));
    }
    let Ok(options) = given.cast::<PyDict>() else {
        return Err(PyTypeError::new_err(format!(
            "watchdog is True, False or a dict such as {{\"step_limit\": 0.5}}, got {}",
            given.get_type().name()?
        )));
    };
    let mut patience = Patience::default();
    for (name, value) in options.iter() {
        let name = name.extract::<String>()?;
        let limit = match name.as_str() {
            "step_limit" => &mut patience.step,
            "call_limit" => &mut patience.call,
            "await_limit" => &mut patience.suspension,
            other => {
                let known = ["step_limit", "call_limit", "await_limit"];
                return Err(one_of("a key of `watchdog`", other, &known));
            }
        };
        *limit = seconds_in("watchdog", &name, &value)?;
        if limit.is_zero() {
            return Err(PyValueError::new_err(format!(
                "watchdog[{name:?}] must be above zero; to watch nothing, give watchdog=False"
            )));
        }
    }
    Ok(Some(patience))
}
