//! Where what happens is told.
