//! Locks and atomics with a point before each use, at which another thread may go first.
//!
//! Outside of [`schedules`] a point costs a look at a flag, and the rest is the real thing. Inside,
//! threads are coroutines on one thread of the system, of which one runs at a time: whoever finds
//! a lock taken lets the others go on until it is free.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

/// How many orders of a test are tried, each way; more by the environment variable of this name.
const SCHEDULES: usize = 300;

/// How many times the threads of a PCT schedule are interrupted by a less urgent one.
const DEPTH: usize = 4;

/// After so many points a test is taken to hang: somebody waits for what never comes.
const STEPS: usize = 20_000;

thread_local! {
    /// Whether the threads here are those of a schedule.
    static SCHEDULED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `test` again and again, its threads (those of `shuttle::thread`) each time in another
/// order: half of them by chance, half with few changes between threads at places chosen by
/// chance. Threads that all wait for each other are a failure. A failure says which order it was,
/// for `shuttle::replay`.
pub(crate) fn schedules(test: impl Fn() + Send + Sync + 'static) {
    let asked = std::env::var("TIEBEAM_SCHEDULES").ok();
    let count = asked.map_or(SCHEDULES, |text| text.parse().expect("TIEBEAM_SCHEDULES: a number"));
    let test = Arc::new(test);
    run(RandomScheduler::new(count), test.clone());
    run(PctScheduler::new(DEPTH, count), test);
}

fn run(scheduler: impl Scheduler + 'static, test: Arc<impl Fn() + Send + Sync + 'static>) {
    struct Scheduled;
    impl Drop for Scheduled {
        fn drop(&mut self) {
            SCHEDULED.set(false);
        }
    }
    SCHEDULED.set(true);
    let _scheduled = Scheduled;
    let mut config = Config::new();
    config.max_steps = MaxSteps::FailAfter(STEPS);
    Runner::new(scheduler, config).run(move || test());
}

fn is_scheduled() -> bool {
    SCHEDULED.get() && !std::thread::panicking()
}

/// Another thread may go first.
fn point() {
    if is_scheduled() {
        // Any use of one of shuttle's own atomics is such a point.
        shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

/// What `attempt` comes to when it succeeds; the others go on until then.
fn insist<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    point();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        shuttle::thread::yield_now();
    }
}

/// `parking_lot::Mutex`.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

pub(crate) use parking_lot::MutexGuard;

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(parking_lot::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        if is_scheduled() { insist(|| self.0.try_lock()) } else { self.0.lock() }
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// `parking_lot::RwLock`.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(parking_lot::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> parking_lot::RwLockReadGuard<'_, T> {
        if is_scheduled() { insist(|| self.0.try_read()) } else { self.0.read() }
    }

    pub(crate) fn write(&self) -> parking_lot::RwLockWriteGuard<'_, T> {
        if is_scheduled() { insist(|| self.0.try_write()) } else { self.0.write() }
    }
}

/// An atomic of the standard library: `$name` holds a `$value`, and has `$op` beside the rest.
macro_rules! atomic {
    ($name:ident, $value:ty, [$($op:ident),*]) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(std::sync::atomic::$name);

        #[allow(dead_code, reason = "each has what all have")]
        impl $name {
            pub(crate) const fn new(value: $value) -> Self {
                $name(std::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                point();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                point();
                self.0.store(value, order);
            }

            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                point();
                self.0.swap(value, order)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                point();
                self.0.compare_exchange(current, new, success, failure)
            }

            $(pub(crate) fn $op(&self, value: $value, order: Ordering) -> $value {
                point();
                self.0.$op(value, order)
            })*
        }
    };
}

atomic!(AtomicBool, bool, []);
atomic!(AtomicU8, u8, []);
atomic!(AtomicU64, u64, [fetch_add, fetch_sub, fetch_or]);
atomic!(AtomicUsize, usize, [fetch_add, fetch_sub, fetch_or]);

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads that read, and then write what they read plus one: in some order one of the
    /// two additions is lost. This fails if points are not where another thread goes first.
    #[test]
    fn an_order_that_loses_an_update_is_found() {
        let found = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let lost = found.clone();
        schedules(move || {
            let number = Arc::new(AtomicU64::new(0));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let number = number.clone();
                    shuttle::thread::spawn(move || {
                        let read = number.load(Ordering::SeqCst);
                        number.store(read + 1, Ordering::SeqCst);
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            lost.fetch_or(number.load(Ordering::SeqCst) == 1, Ordering::SeqCst);
        });
        assert!(found.load(Ordering::SeqCst));
    }

    #[test]
    fn a_lock_lets_one_in_at_a_time() {
        schedules(|| {
            let number = Arc::new(Mutex::new(0));
            let inside = Arc::new(AtomicU64::new(0));
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let (number, inside) = (number.clone(), inside.clone());
                    shuttle::thread::spawn(move || {
                        let mut number = number.lock();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        *number += 1;
                        inside.fetch_sub(1, Ordering::SeqCst);
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            assert_eq!(*number.lock(), 3);
        });
    }
}
