//! tiebeam: an integration framework for systems of Python agents.

pub mod bus;
pub mod clock;
pub mod config;
pub mod deadlines;
pub mod error;
pub mod event;
pub mod filter;
pub mod framework;
pub mod health;
pub mod lifecycle;
pub mod recovery;
pub mod registry;
pub mod resilience;
pub mod telemetry;
pub mod topic;

#[cfg(feature = "python")]
mod python;
