//! The Python extension: thin, frozen classes over the core.

mod args;
mod bridge;
mod bus;
mod clock;
mod dead_letters;
mod errors;
mod event;
mod handler;
mod payload;
mod pump;
mod receipt;
mod shared;
mod subscription;
mod workers;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::bus::PyBus;
    #[pymodule_export]
    use super::clock::{_busy, _seconds, _watch_activity, PyClock, PyTimer};
    #[pymodule_export]
    use super::dead_letters::{PyDeadLetter, PyDeadLetters};
    #[pymodule_export]
    use super::event::PyEvent;
    #[pymodule_export]
    use super::receipt::{Receipt, RequestReceipt};
    #[pymodule_export]
    use super::subscription::{PyPeriodic, PySubscription};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
