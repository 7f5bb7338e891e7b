//! How often one wakes that asks for the GIL: ours does nothing else, while it is not to be had.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::Clock;
use crate::health::{Pace, ThreadSample};
use crate::python::bridge::native_thread;

/// Whoever of ours asks for the GIL, to look into suspects.
#[derive(Default)]
pub(super) struct Asker {
    /// Whether it was had, and all of them were looked at.
    answered: AtomicBool,
    /// Its thread, and how that was when it began to ask; none where the system does not say.
    began: OnceLock<Option<(u32, ThreadSample)>>,
}

/// What is known of that.
pub(super) enum Asking {
    /// Too little: it has not asked for long enough.
    NotYet,
    /// Nothing: the system does not say.
    Unknown,
    Known(Pace),
}

impl Asker {
    /// The calling thread is about to ask.
    pub fn begins(&self, clock: &Clock) {
        self.began.get_or_init(|| {
            let native = native_thread()?;
            Some((native, ThreadSample::of(Some(native), clock)?))
        });
    }

    /// It has had the GIL, and has done what it wanted it for.
    pub fn ends(&self) {
        self.answered.store(true, Ordering::Release);
    }

    pub fn has_ended(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// Its thread, as the system knows it.
    pub fn thread(&self) -> Option<u32> {
        self.began.get().copied().flatten().map(|(native, _)| native)
    }

    /// How often it has woken since.
    pub fn pace(&self, clock: &Clock) -> Asking {
        let Some(began) = self.began.get() else { return Asking::NotYet };
        let Some((native, before)) = began else { return Asking::Unknown };
        let Some(now) = ThreadSample::of(Some(*native), clock) else { return Asking::Unknown };
        Pace::between(before, &now).map_or(Asking::NotYet, Asking::Known)
    }
}
