//! Where what happens is told.

mod active;
pub mod format;
mod layer;
pub mod levels;
pub mod logs;
mod output;
pub mod rotate;
mod sink;
pub mod timestamp;
