//! What is said about a handler where it is declared, before there is a bus.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::subscribing::{self, How};
use crate::bus::Role;

/// Refuses options that no bus would take, with the reason that a bus would give.
#[pyfunction]
#[pyo3(signature = (role, is_async, /, **how))]
pub(super) fn _check_options(
    role: &str,
    is_async: bool,
    how: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let role = match role {
        "respond" => Role::Responder,
        "handle" => Role::CommandHandler,
        _ => Role::Subscriber,
    };
    subscribing::check(role, is_async, &How::read(how)?)
}
