//! A clock that tells the time of another one, which may be exchanged.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::{Clock, Instant};

/// In nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

/// Which clock is followed, and where the two lines meet.
struct Leader {
    clock: Clock,
    /// A point on our line, and the same on the leader's.
    meets: (Instant, Instant),
}

impl Leader {
    fn ours(&self) -> Instant {
        let (ours, leaders) = self.meets;
        ours.saturating_add(self.clock.now().saturating_since(leaders))
    }

    fn leaders(&self, ours: Instant) -> Instant {
        let (from, leaders) = self.meets;
        leaders.saturating_add(ours.saturating_since(from))
    }
}

/// What such a clock has beside its timers, which are its leader's.
pub(super) struct Following {
    first: Clock,
    /// Whether another one than the first was ever followed.
    moved: AtomicBool,
    leader: RwLock<Leader>,
}

impl Following {
    pub(super) fn new(first: Clock) -> Following {
        let leader = Leader { clock: first.clone(), meets: (Instant::ZERO, Instant::ZERO) };
        Following { first, moved: AtomicBool::new(false), leader: RwLock::new(leader) }
    }

    pub(super) fn now(&self) -> Instant {
        if self.moved.load(Ordering::Acquire) {
            self.leader.read().ours()
        } else {
            self.first.now()
        }
    }

    pub(super) fn leader(&self) -> Clock {
        self.leader.read().clock.clone()
    }

    /// The clock that is followed, and when `at` is on its line.
    pub(super) fn translate(&self, at: Instant) -> (Clock, Instant) {
        let leader = self.leader.read();
        (leader.clock.clone(), leader.leaders(at))
    }

    /// When the leader's `at` is on our line.
    pub(super) fn translate_back(&self, at: Instant) -> Instant {
        let leader = self.leader.read();
        let (ours, leaders) = leader.meets;
        ours.saturating_add(at.saturating_since(leaders))
    }

    /// Follows `clock` from now on, or the first one again; returns whom it followed. Time goes
    /// on from where it is, but for a virtual clock from the next whole hour: what looks at whole
    /// seconds or minutes does the same then in each run of a test.
    pub(super) fn follow(&self, clock: Option<Clock>) -> Clock {
        let clock = clock.unwrap_or_else(|| self.first.clone());
        let mut leader = self.leader.write();
        let mut ours = leader.ours();
        if clock.is_virtual() {
            ours = Instant::from_nanos(ours.as_nanos().div_ceil(HOUR) * HOUR);
        }
        let meets = (ours, clock.now());
        self.moved.store(true, Ordering::Release);
        std::mem::replace(&mut *leader, Leader { clock, meets }).clock
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_goes_on_where_it_was_when_the_leader_changes() {
        let (first, second) = (Clock::simulated(1_000), Clock::simulated(50_000));
        let clock = Clock::following(first.clone());
        first.advance(SECOND * 10);
        assert_eq!(clock.now().as_secs_f64(), 10.0);
        second.advance(SECOND * 3);
        clock.follow(Some(second.clone()));
        assert_eq!(clock.now().as_secs_f64(), 3_600.0, "the next whole hour");
        second.advance(SECOND);
        first.advance(SECOND * 100);
        assert_eq!((clock.now().as_secs_f64(), clock.unix_ms()), (3_601.0, 54_000));
        let real = Clock::real();
        clock.follow(Some(real));
        assert!(clock.now().as_secs_f64() < 3_602.0, "a real one goes on from there");
        clock.follow(None);
        first.advance(SECOND);
        assert_eq!(clock.now().as_secs_f64(), 7_201.0);
    }

    #[test]
    fn timers_are_the_leaders_and_fire_at_its_time() {
        let (first, second) = (Clock::simulated(0), Clock::simulated(0));
        let clock = Clock::following(first.clone());
        first.advance(SECOND * 10);
        clock.follow(Some(second.clone()));
        let fired = Arc::new(AtomicUsize::new(0));
        let count = fired.clone();
        clock
            .schedule(SECOND * 2, move || {
                count.fetch_add(1, Ordering::Relaxed);
            })
            .detach();
        drop(clock.schedule(SECOND, || panic!("it was dropped")));
        assert_eq!(clock.next_due().map(Instant::as_secs_f64), Some(3_602.0));
        second.advance(SECOND);
        assert_eq!(fired.load(Ordering::Relaxed), 0);
        clock.advance(SECOND);
        assert_eq!((fired.load(Ordering::Relaxed), clock.pending()), (1, 0));
        assert_eq!(second.now(), Instant::from_nanos(2_000_000_000));
    }
}
