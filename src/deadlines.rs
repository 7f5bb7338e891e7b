//! Many deadlines behind one timer.
//!
//! Handlers get a deadline each, and hardly ever meet it. Setting and clearing one is two
//! operations on an ordered map; the clock is asked only for the earliest, and once per
//! expiry rather than once per handler.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::{Clock, Instant};

/// Names one deadline that was set.
pub type Key = (Instant, u64);

struct State<T> {
    waiting: BTreeMap<Key, T>,
    sequence: u64,
    /// When the timer fires that was set last; a later one finds nothing due and sets the next.
    armed: Option<Instant>,
}

struct Inner<T> {
    clock: Clock,
    state: Mutex<State<T>>,
    expire: Box<dyn Fn(T) + Send + Sync>,
}

/// A set of deadlines, each with what is handed to the callback when it passes.
pub struct Deadlines<T>(Arc<Inner<T>>);

impl<T> Clone for Deadlines<T> {
    fn clone(&self) -> Self {
        Deadlines(self.0.clone())
    }
}

impl<T> fmt::Debug for Deadlines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deadlines({} waiting)", self.0.state.lock().waiting.len())
    }
}

impl<T: Send + 'static> Deadlines<T> {
    /// `expire` is called on the clock's thread, and must be as short as any timer callback.
    pub fn new(clock: Clock, expire: impl Fn(T) + Send + Sync + 'static) -> Self {
        let state = State { waiting: BTreeMap::new(), sequence: 0, armed: None };
        Deadlines(Arc::new(Inner { clock, state: Mutex::new(state), expire: Box::new(expire) }))
    }

    /// Sets a deadline; the returned key clears it.
    pub fn set(&self, at: Instant, subject: T) -> Key {
        let (key, arm) = {
            let mut state = self.0.state.lock();
            state.sequence += 1;
            let key = (at, state.sequence);
            state.waiting.insert(key, subject);
            let arm = state.armed.is_none_or(|armed| at < armed);
            if arm {
                state.armed = Some(at);
            }
            (key, arm)
        };
        if arm {
            self.arm(at);
        }
        key
    }

    /// Clears a deadline; `None` when it has passed.
    pub fn clear(&self, key: Key) -> Option<T> {
        self.0.state.lock().waiting.remove(&key)
    }

    fn arm(&self, at: Instant) {
        let inner = Arc::downgrade(&self.0);
        self.0
            .clock
            .schedule_at(at, move || {
                if let Some(inner) = inner.upgrade() {
                    Deadlines(inner).fire(at);
                }
            })
            .detach();
    }

    fn fire(&self, timer: Instant) {
        let now = self.0.clock.now();
        let (due, next) = {
            let mut state = self.0.state.lock();
            let later = state.waiting.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut state.waiting, later);
            // A timer that was overtaken by an earlier one is stale: the earlier one goes on.
            let next = if state.armed == Some(timer) {
                state.armed = state.waiting.first_key_value().map(|((at, _), _)| *at);
                state.armed
            } else {
                None
            };
            (due, next)
        };
        if let Some(next) = next {
            self.arm(next);
        }
        due.into_values().for_each(|subject| (self.0.expire)(subject));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_cleared_in_time_never_expires() {
        let clock = Clock::simulated(0);
        let expired = Arc::new(Mutex::new(Vec::new()));
        let log = expired.clone();
        let deadlines = Deadlines::new(clock.clone(), move |name| log.lock().push(name));
        let at = |seconds| Instant::ZERO.saturating_add(Duration::from_secs(seconds));
        let cleared = deadlines.set(at(2), "cleared");
        deadlines.set(at(3), "late");
        deadlines.set(at(1), "early");
        assert_eq!(deadlines.clear(cleared), Some("cleared"));
        clock.advance(Duration::from_secs(2));
        assert_eq!(*expired.lock(), ["early"]);
        clock.advance(Duration::from_secs(2));
        assert_eq!(*expired.lock(), ["early", "late"]);
        assert_eq!(clock.pending(), 0);
        deadlines.set(at(5), "again");
        clock.advance(Duration::from_secs(2));
        assert_eq!(*expired.lock(), ["early", "late", "again"]);
    }

    #[test]
    fn earlier_deadlines_do_not_leave_timers_behind() {
        let clock = Clock::simulated(0);
        let deadlines = Deadlines::new(clock.clone(), |()| {});
        for round in 0..100 {
            let now = clock.now();
            deadlines.set(now.saturating_add(Duration::from_secs(30)), ());
            let short = deadlines.set(now.saturating_add(Duration::from_secs(1 + round % 5)), ());
            deadlines.clear(short);
            clock.advance(Duration::from_millis(700));
        }
        // One live timer, and stale ones no older than the longest deadline.
        assert!(clock.pending() <= 64, "{} timers", clock.pending());
        clock.advance(Duration::from_secs(60));
        assert_eq!(clock.pending(), 0);
    }
}
