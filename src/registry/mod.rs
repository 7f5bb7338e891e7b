//! Which components there are, in what order they start and stop, and who restarts them.

pub mod graph;
pub mod supervision;
