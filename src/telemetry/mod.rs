//! Where what happens is told.

pub mod format;
// mod layer;
pub mod levels;
// pub mod logs;
pub mod rotate;
// mod sink;
