//! What a loop is at, as others see it: whether it comes when it is woken, whose handler is at
//! work there, and for how long.
//!
//! The loop's own thread leaves traces by plain stores: a beat for each step of a handler, and
//! whose it is. The watchdog looks at them (see `stall`). As long as the loop owes somebody a turn,
//! one timer does, too, without the GIL: the loop may have been closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::Duration;

use parking_lot::Mutex;

use super::Pump;
use super::stall::Stood;
use crate::bus::{Lag, Subscription};
use crate::clock::Instant;
use crate::python::bridge::with_python;

/// How often a loop is looked at while its handlers are at work.
pub(super) const GLANCE: Duration = Duration::from_millis(250);

/// How often one that owes somebody a turn is looked at otherwise: it may have been closed.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The traces of one loop.
#[derive(Default)]
pub(super) struct Watch {
    /// Rises with each step of a handler, and each turn of a driver: how we see that a loop lives.
    beats: AtomicU64,
    /// Whose handler is at work: the address of its subscription, which whoever is at work holds;
    /// 0 is nobody's.
    at: AtomicUsize,
    /// Whether a timer is set.
    set: AtomicBool,
    lag: Lateness,
    /// The step at which the watchdog has seen it stand.
    pub stood: Stood,
}

/// How late the loop came, by samples: of the wake-ups between two looks, one is timed.
#[derive(Default)]
struct Lateness {
    /// Whether the next wake-up is to be timed.
    asked: AtomicBool,
    /// When the one that is being timed took place, in nanoseconds; 0 if none is.
    woken: AtomicU64,
    seen: Mutex<Option<Lag>>,
}

/// What was seen at a look, and since when it has been so.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub beats: u64,
    /// Whose handler was at work.
    pub at: usize,
    pub since: Instant,
    /// Whether somebody was told that the loop does not come.
    pub told: bool,
}

/// As long as this exists, the loop's thread is at work for us.
pub(super) struct AtWork<'a> {
    pump: &'a Pump,
    before: usize,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.pump.watch.at.store(self.before, Ordering::Relaxed);
        self.pump.beat();
    }
}

impl Watch {
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Acquire)
    }

    pub(super) fn at(&self) -> usize {
        self.at.load(Ordering::Acquire)
    }
}

/// On the loop's thread.
impl Pump {
    /// A driver has its turn.
    #[inline]
    pub(super) fn turn(&self) {
        if self.watch.lag.woken.load(Ordering::Relaxed) != 0 {
            self.came();
        }
        self.beat();
    }

    /// The handler of `subscription` is about to take a step.
    #[inline]
    pub(super) fn begins(&self, subscription: &Arc<Subscription>) {
        self.watch.at.store(Arc::as_ptr(subscription) as usize, Ordering::Relaxed);
        self.beat();
    }

    /// Begins a step, inside that of somebody else perhaps.
    #[inline]
    pub(super) fn at_work(&self) -> AtWork<'_> {
        AtWork { pump: self, before: self.watch.at.load(Ordering::Relaxed) }
    }

    #[inline]
    fn beat(&self) {
        // Nobody else writes it: a store will do.
        let beats = self.watch.beats.load(Ordering::Relaxed);
        self.watch.beats.store(beats.wrapping_add(1), Ordering::Release);
        if self.watch.stood.is_due() {
            self.came_back();
        }
    }

    #[cold]
    fn came(&self) {
        let woken = self.watch.lag.woken.swap(0, Ordering::AcqRel);
        if woken != 0 {
            let now = self.runtime.clock().now();
            self.was_late(now.saturating_since(Instant::from_nanos(woken)), true);
        }
    }
}

/// From any thread.
impl Pump {
    /// The loop is about to be woken.
    #[inline]
    pub(super) fn wakes(&self) {
        if self.watch.lag.asked.load(Ordering::Relaxed) {
            self.time_wake();
        }
    }

    #[cold]
    fn time_wake(&self) {
        self.watch.lag.asked.store(false, Ordering::Relaxed);
        let now = self.runtime.clock().now().as_nanos().max(1);
        self.watch.lag.woken.store(now, Ordering::Release);
    }

    /// The loop came so late; `woken` says that it had been woken.
    pub(super) fn was_late(&self, by: Duration, woken: bool) {
        let mut seen = self.watch.lag.seen.lock();
        let lag = seen.get_or_insert_default();
        if woken {
            lag.last = by;
        }
        lag.longest = lag.longest.max(by);
    }

    /// How late the loop comes when it is woken; one that is awaited at this moment counts.
    pub(super) fn lag(&self) -> Option<Lag> {
        let seen = *self.watch.lag.seen.lock();
        let woken = self.watch.lag.woken.load(Ordering::Acquire);
        if woken == 0 {
            return seen;
        }
        let late = self.runtime.clock().now().saturating_since(Instant::from_nanos(woken));
        let Lag { last, longest } = seen.unwrap_or_default();
        Some(Lag { last: last.max(late), longest: longest.max(late) })
    }

    /// A closed loop swallows wake-ups without a word, and forgets the handlers that wait in it;
    /// another one may be blocked by a handler: as long as it owes somebody a turn, it is looked
    /// at now and then.
    #[inline]
    pub(super) fn watch_loop(self: &Arc<Self>) {
        if !self.watch.set.load(Ordering::SeqCst) {
            self.begin_to_watch();
        }
    }

    #[cold]
    fn begin_to_watch(self: &Arc<Self>) {
        if !self.watch.set.swap(true, Ordering::AcqRel) {
            self.watch.lag.asked.store(true, Ordering::Relaxed);
            self.look_later(self.see(), GLANCE);
        }
    }

    fn see(&self) -> Seen {
        let (beats, since) = (self.watch.beats(), self.runtime.clock().now());
        Seen { beats, at: self.watch.at(), since, told: false }
    }

    fn look_later(self: &Arc<Self>, seen: Seen, after: Duration) {
        let pump = Arc::downgrade(self);
        let look = move || {
            if let Some(pump) = pump.upgrade() {
                pump.glance(seen);
            }
        };
        self.runtime.clock().schedule(after, look).detach();
    }

    fn glance(self: &Arc<Self>, seen: Seen) {
        if self.watch.beats() != seen.beats {
            // It is alive.
            self.watch.lag.asked.store(true, Ordering::Relaxed);
            return self.look_again(self.see(), GLANCE);
        }
        if seen.at != 0 {
            return self.look_later(seen, GLANCE); // the watchdog sees to it
        }
        if self.runtime.clock().now().saturating_since(seen.since) < PATIENCE {
            return self.look_again(seen, PATIENCE - GLANCE);
        }
        // Off the clock's thread: looking takes the GIL.
        let pump = self.clone();
        self.runtime.handle().spawn_blocking(move || {
            let told = with_python(|py| {
                let gone = pump.event_loop.is_gone(py);
                if gone {
                    pump.orphan_all(py);
                }
                (!gone).then(|| seen.told || pump.tell_of_others(py, &seen))
            });
            // Not gone: busy, or not running just now; it may still be closed later on.
            if let Some(Some(told)) = told {
                pump.look_again(Seen { told, ..seen }, PATIENCE);
            }
        });
    }

    fn look_again(self: &Arc<Self>, seen: Seen, after: Duration) {
        if self.owes_a_turn() {
            return self.look_later(seen, after);
        }
        self.watch.set.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.owes_a_turn() {
            self.watch_loop(); // since a moment ago
        }
    }

    fn owes_a_turn(&self) -> bool {
        self.ready.is_led() || self.watch.at() != 0 || !self.drivers.lock().is_empty()
    }
}
