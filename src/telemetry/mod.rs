//! Where what happens is told.

mod active;
pub mod endpoint;
pub mod exposition;
pub mod format;
pub mod health_json;
mod layer;
pub mod levels;
pub mod logs;
pub mod metrics;
mod output;
mod policies;
pub mod probes;
pub mod rotate;
mod sink;
pub mod timestamp;
