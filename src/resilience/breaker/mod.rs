//! The circuit breaker: it stops calling what keeps failing, and finds out when to start again.
//!
//! `machine` decides and knows neither locks nor clocks; `shell` owns the lock and the clock
//! and calls the observers; `window` counts; `settings` says what a user may choose.

mod machine;
mod settings;
mod shell;
mod signal;
mod state;
mod window;

pub use settings::{BreakerSettings, HalfOpenRule, Mode, OnTimeout, Window};
pub use shell::{CircuitBreaker, Permit, Rejected, Ticket};
pub use signal::{Observer, Signal};
pub use state::{Metrics, State};
