//! Resilience for Python callables: the core's machines, with a plain method for each way in and
//! out of a call. The wrappers around the callables are Python's (`tiebeam.resilience`), so that
//! context variables, cancellation and tracebacks are as without them.
//!
//! | file | idea |
//! | --- | --- |
//! | `backoff` | schedules of waits |
//! | `breaker` | the circuit breaker |
//! | `budget` | how many retries in total |
//! | `bulkhead` | so many calls at once |
//! | `calls` | calls through breakers on threads that a time limit may leave behind |
//! | `handover` | a thread waits for another one, for a while |
//! | `limiter` | so many calls per period |
//! | `options` | what users give, by name |
//! | `retry` | whether to try again, and when |
//! | `switch` | on or off, for tests; the clock of what lives as long as the process |
//! | `time_limit` | a coroutine that must not take longer |

mod backoff;
mod breaker;
mod budget;
mod bulkhead;
mod calls;
mod handover;
mod limiter;
mod options;
mod retry;
mod switch;
mod time_limit;

pub(super) use backoff::PyBackoff;
pub(super) use breaker::{PyBreaker, PyTicket};
pub(super) use budget::{PyBudgetedCall, PyRetryBudget};
pub(super) use bulkhead::PyBulkhead;
pub(super) use calls::{_left_behind, PyApart};
pub(super) use handover::PyHandover;
pub(super) use limiter::{PyLimiter, PyReservation};
pub(super) use retry::{PyRetry, PyRetryRun};
pub(super) use switch::{
    _process_clock, _resilience_active, _set_resilience, _stand_in, clock_or_process,
};
pub(super) use time_limit::{_time_is_up, Bounded, Opened, PyTimeLimit, TIME_IS_UP};
