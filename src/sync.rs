//! The locks and atomics of the bus, from one place, so that its tests can run them in any order.
//!
//! Everywhere but in the tests of this crate these are parking_lot's locks and the atomics of the
//! standard library, under their own names. In those tests they are the same with a point before
//! each use, at which `schedules` lets another thread go first.

#[cfg(test)]
mod scheduled;

#[cfg(not(test))]
pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
pub(crate) use std::sync::atomic::Ordering;
#[cfg(not(test))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};

#[cfg(test)]
pub(crate) use scheduled::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Mutex, MutexGuard, RwLock, schedules,
};
