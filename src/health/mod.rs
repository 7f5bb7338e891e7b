//! Health without the loop that runs it: checks, their results, and what they add up to.
//!
//! A check's results pass through its [`Hysteresis`]; what that says is weighed by the check's
//! [`Criticality`] and aggregated, worst first, with the component's lifecycle.
//!
//! What a thread that does not come back is at, and where, is read here from what the system and
//! the interpreter write.

mod check;
mod dumps;
mod escalation;
mod flap;
mod history;
mod hysteresis;
mod process;
mod record;
mod report;
mod slo;
mod stacks;
mod status;
mod thread;

pub use check::{Check, CheckBuilder, CheckKind, Limits};
pub use dumps::Dumps;
pub use escalation::{Escalation, Remedy};
pub use flap::Flap;
pub use history::History;
pub use hysteresis::{Hysteresis, Step, Thresholds};
pub use process::{ProcessSample, sample};
pub use record::{CheckRecord, CheckState, Outcome};
pub use report::{Counters, HealthReport, Probe, verdict};
pub use slo::{BURN_RULES, BurnRule, Objective, Slo, Urgency};
pub use stacks::{Home, stack_of};
pub use status::{Criticality, Verdict, aggregate, aggregate_in, lifecycle, live, ready};
pub use thread::{Pace, StallKind, ThreadSample, threads};
