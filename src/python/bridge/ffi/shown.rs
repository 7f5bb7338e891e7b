//! What somebody has in hand, for whoever holds the GIL meanwhile to see.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::prelude::*;

/// A value that stays where it is: showing it takes two stores, and no reference.
pub(crate) struct Shown<T>(AtomicPtr<T>);

impl<T> Default for Shown<T> {
    fn default() -> Self {
        Shown(AtomicPtr::default())
    }
}

impl<T> fmt::Debug for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl<T> Shown<T> {
    /// Shows `value` while `act` runs, and nothing after that.
    #[inline(always)]
    pub(crate) fn during<R>(&self, _py: Python<'_>, value: &Arc<T>, act: impl FnOnce() -> R) -> R {
        self.0.store(Arc::as_ptr(value).cast_mut(), Ordering::Release);
        let _hidden = Hidden(&self.0);
        act()
    }

    /// What is shown at this moment.
    pub(crate) fn get(&self, _py: Python<'_>) -> Option<Arc<T>> {
        if cfg!(Py_GIL_DISABLED) {
            return None; // it may end while we look
        }
        let shown = self.0.load(Ordering::Acquire);
        if shown.is_null() {
            return None;
        }
        // SAFETY: the address is that of a value in an `Arc` that the caller of `during` borrows
        // to it, and each `during` ends with a null here, in whichever order they end. That takes
        // the GIL, which we hold: so it has not ended, and the value lives.
        unsafe {
            Arc::increment_strong_count(shown);
            Some(Arc::from_raw(shown))
        }
    }
}

/// Nothing is shown once this is dropped, which is with the GIL: `during` has its token.
struct Hidden<'a, T>(&'a AtomicPtr<T>);

impl<T> Drop for Hidden<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.store(std::ptr::null_mut(), Ordering::Release);
    }
}
