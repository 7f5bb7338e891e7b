//! The Python extension: thin, frozen classes over the core.

mod args;
mod blocking;
mod bridge;
mod broker;
mod bus;
mod checks;
mod clock;
mod component;
mod config;
mod dead_letters;
mod declaring;
mod dedup;
mod destinations;
mod errors;
mod event;
mod everywhere;
mod framework;
mod handler;
mod health;
mod inline;
mod limits;
mod payload;
mod policies;
mod pool;
mod pump;
mod receipt;
mod reply;
mod resilience;
mod said;
mod shared;
mod stage;
mod subscribing;
mod subscription;
mod typed;
mod waiting;
mod watchdog;
mod watching;
mod workers;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pymodule]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::bus::PyBus;
    #[pymodule_export]
    use super::clock::{
        _begin_activity, _busy, _end_activity, _join_activity, _matches, _seconds, _watch_activity,
        PyClock, PyTimer,
    };
    #[pymodule_export]
    use super::config::{PyConfigProposal, PyConfigStore};
    #[pymodule_export]
    use super::dead_letters::{PyDeadLetter, PyDeadLetters};
    #[pymodule_export]
    use super::declaring::_check_options;
    #[pymodule_export]
    use super::errors::_panic;
    #[pymodule_export]
    use super::event::PyEvent;
    #[pymodule_export]
    use super::everywhere::PyEverywhere;
    #[pymodule_export]
    use super::framework::{_log, PyFramework};
    #[pymodule_export]
    use super::health::{_aggregate, _http_status, _verdict, PySlo};
    #[pymodule_export]
    use super::receipt::Receipt;
    #[pymodule_export]
    use super::reply::PyPendingReply;
    #[pymodule_export]
    use super::resilience::{
        _left_behind, _process_clock, _resilience_active, _set_resilience, _stand_in, _time_is_up,
        Bounded, Opened, PyApart, PyBackoff, PyBreaker, PyBudgetedCall, PyBulkhead, PyHandover,
        PyLimiter, PyReservation, PyRetry, PyRetryBudget, PyRetryRun, PyTicket, PyTimeLimit,
    };
    #[pymodule_export]
    use super::subscription::{PyPeriodic, PySubscription};
    #[pymodule_export]
    use super::waiting::{PyPendingEvent, PyStream};
    #[pymodule_export]
    use super::watchdog::PyHookWatch;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        if !bridge::ffi::is_main_interpreter(module.py()) {
            // Threads from Rust can enter only the main interpreter, and meet its objects there.
            return Err(PyImportError::new_err(
                "tiebeam works in the main interpreter only, not in a sub-interpreter; use \
                 threads or processes",
            ));
        }
        let py = module.py();
        let pending = py.get_type::<reply::PyPendingReply>();
        bridge::ffi::make_quick::<receipt::Receipt>(&py.get_type::<receipt::Receipt>())?;
        bridge::ffi::make_quick::<reply::PyPendingReply>(&pending)?;
        bridge::ffi::make_steps_quick::<reply::PyPendingReply>(&pending);
        bridge::ffi::make_steps_quick::<reply::Answer>(&py.get_type::<reply::Answer>());
        let bounded = py.get_type::<resilience::Bounded>();
        bridge::ffi::make_quick::<resilience::Bounded>(&bounded)?;
        bridge::ffi::make_steps_quick::<resilience::Bounded>(&bounded);
        module.add("_TIME_IS_UP", resilience::TIME_IS_UP)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
