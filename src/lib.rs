//! tiebeam: an integration framework for systems of Python agents.

pub mod bus;
pub mod clock;
pub mod error;
pub mod event;
pub mod filter;
pub mod lifecycle;
pub mod resilience;
pub mod topic;
