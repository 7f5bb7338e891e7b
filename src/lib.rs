//! tiebeam: an integration framework for systems of Python agents.

pub mod clock;
pub mod config;
pub mod error;
