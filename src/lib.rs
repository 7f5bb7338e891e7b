//! tiebeam: an integration framework for systems of Python agents.

pub mod clock;
pub mod error;
pub mod health;
pub mod lifecycle;
pub mod resilience;
