//! What is said about a handler where it is declared, before there is a bus.

use pyo3::prelude::*;

use super::args::Seconds;
use super::subscribing::{self, How};
use crate::bus::Role;

/// Refuses options that no bus would take, with the reason that a bus would give.
#[pyfunction]
#[pyo3(signature = (
    role, is_async, /, *, name=None, r#where=None, key=None, concurrency=None, capacity=None,
    overflow=None, sample_interval=None, group=None, broadcast=None, start=None, ack=None,
    retry=None, fallback=None, run_in=None, timeout=None
))]
#[allow(clippy::too_many_arguments)] // keyword arguments with defaults
pub(super) fn _check_options(
    role: &str,
    is_async: bool,
    name: Option<&str>,
    r#where: Option<&Bound<'_, PyAny>>,
    key: Option<&str>,
    concurrency: Option<usize>,
    capacity: Option<usize>,
    overflow: Option<&str>,
    sample_interval: Option<Seconds>,
    group: Option<&str>,
    broadcast: Option<bool>,
    start: Option<&Bound<'_, PyAny>>,
    ack: Option<&str>,
    retry: Option<&Bound<'_, PyAny>>,
    fallback: Option<&Bound<'_, PyAny>>,
    run_in: Option<&str>,
    timeout: Option<Seconds>,
) -> PyResult<()> {
    let role = match role {
        "respond" => Role::Responder,
        "handle" => Role::CommandHandler,
        _ => Role::Subscriber,
    };
    let how = How {
        name,
        conditions: r#where,
        key,
        concurrency,
        capacity,
        overflow,
        sample_interval,
        group,
        broadcast,
        start,
        ack,
        retry,
        fallback,
        run_in,
        timeout,
        ..How::default()
    };
    subscribing::check(role, is_async, &how)
}
