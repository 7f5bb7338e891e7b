//! The cycle limiter: so many permits per period, refilled at the beginning of each.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

/// How many calls per period, and how long one may wait for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Permits per period.
    pub limit: u32,
    /// The period; cycles begin at multiples of it on the clock.
    pub period: Duration,
    /// The longest wait for a permit that is reserved ahead; zero never waits.
    pub max_wait: Duration,
}

struct Cycle {
    number: u64,
    /// Below zero when permits of later cycles are reserved.
    available: i64,
    /// Permits that were reserved and given back, of this cycle and later ones: each by its number,
    /// which is its cycle's times the limit and its own place in there.
    returned: BTreeSet<u64>,
}

/// Permits that were reserved.
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    /// How long to wait for them.
    pub wait: Duration,
    /// Their numbers: those that somebody had given back, and the next ones of all.
    returned: Vec<u64>,
    next: Range<u64>,
}

/// A shared rate limiter; clones share the permits.
#[derive(Clone)]
pub struct RateLimiter {
    rate: RateLimit,
    period: u64,
    clock: Clock,
    cycle: Arc<Mutex<Cycle>>,
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RateLimiter({} per {:?})", self.rate.limit, self.rate.period)
    }
}

/// No permit within the longest wait; nothing was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateExceeded {
    /// When there would be one.
    pub retry_after: Duration,
}

impl RateLimiter {
    /// A limiter with a full first cycle.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for a limit or period of zero.
    pub fn new(rate: RateLimit, clock: Clock) -> Result<Self> {
        let period = u64::try_from(rate.period.as_nanos()).unwrap_or(u64::MAX);
        if rate.limit == 0 || period == 0 {
            let message = "a rate limit needs a limit of at least 1 and a period above 0";
            return Err(Error::new(Kind::Configuration, "build rate limiter", message));
        }
        let number = clock.now().as_nanos() / period;
        let available = i64::from(rate.limit);
        let cycle = Cycle { number, available, returned: BTreeSet::new() };
        Ok(RateLimiter { rate, period, clock, cycle: Arc::new(Mutex::new(cycle)) })
    }

    /// Takes `permits` at once or reserves them: the call may begin after the returned wait.
    ///
    /// # Errors
    /// [`RateExceeded`] when the wait would be longer than allowed.
    pub fn acquire(&self, permits: u32) -> Result<Duration, RateExceeded> {
        self.reserve(permits).map(|reserved| reserved.wait)
    }

    /// The same, for one that may [give them back](RateLimiter::give_back).
    ///
    /// # Errors
    /// As [`RateLimiter::acquire`].
    pub fn reserve(&self, permits: u32) -> Result<Reservation, RateExceeded> {
        let mut cycle = self.cycle.lock();
        let reservation = self.next(&mut cycle, permits);
        if reservation.wait > self.rate.max_wait {
            return Err(RateExceeded { retry_after: reservation.wait });
        }
        for number in &reservation.returned {
            cycle.returned.remove(number);
        }
        let next = reservation.next.end - reservation.next.start;
        cycle.available -= i64::try_from(next).unwrap_or(i64::MAX);
        Ok(reservation)
    }

    /// Gives permits back that nobody has used: whoever comes next gets those whose cycle has not
    /// passed. Who has reserved others waits for those.
    pub fn give_back(&self, reservation: Reservation) {
        let mut cycle = self.cycle.lock();
        self.refill(&mut cycle);
        let first = self.first_of(cycle.number);
        let mut back: BTreeSet<u64> = reservation.returned.into_iter().collect();
        back.extend(reservation.next.filter(|number| *number >= first));
        cycle.returned.extend(back.into_iter().filter(|number| *number >= first));
        // What nobody has reserved anything behind is simply there again.
        while let Some(last) = cycle.returned.last().copied()
            && last + 1 == self.upcoming(&cycle)
        {
            cycle.returned.pop_last();
            cycle.available += 1;
        }
    }

    /// How long `permits` would have to wait now; takes nothing.
    pub fn wait_for(&self, permits: u32) -> Duration {
        self.next(&mut self.cycle.lock(), permits).wait
    }

    /// Permits left in this cycle; below zero when later ones are reserved.
    pub fn available(&self) -> i64 {
        let mut cycle = self.cycle.lock();
        self.refill(&mut cycle);
        let returned = i64::try_from(cycle.returned.len()).unwrap_or(i64::MAX);
        cycle.available.saturating_add(returned)
    }

    /// Brings a cycle up to the present.
    fn refill(&self, cycle: &mut Cycle) {
        let limit = i64::from(self.rate.limit);
        // Under the lock, so that no thread brings an earlier cycle back.
        let number = (self.clock.now().as_nanos() / self.period).max(cycle.number);
        if number == cycle.number {
            return;
        }
        let passed = i64::try_from(number - cycle.number).unwrap_or(i64::MAX);
        let refilled = cycle.available.saturating_add(passed.saturating_mul(limit));
        (cycle.number, cycle.available) = (number, refilled.min(limit));
        cycle.returned = cycle.returned.split_off(&self.first_of(number));
    }

    /// The number of the first permit of a cycle.
    fn first_of(&self, cycle: u64) -> u64 {
        cycle.saturating_mul(u64::from(self.rate.limit))
    }

    /// The number of the first permit behind all that were reserved.
    fn upcoming(&self, cycle: &Cycle) -> u64 {
        let reserved = i64::from(self.rate.limit).saturating_sub(cycle.available);
        self.first_of(cycle.number).saturating_add(u64::try_from(reserved).unwrap_or(0))
    }

    /// What `permits` would get now: first what others have given back.
    fn next(&self, cycle: &mut Cycle, permits: u32) -> Reservation {
        self.refill(cycle);
        let most = usize::try_from(permits).unwrap_or(usize::MAX);
        let returned: Vec<u64> = cycle.returned.iter().copied().take(most).collect();
        let more = u64::from(permits) - returned.len() as u64;
        let upcoming = self.upcoming(cycle);
        let next = upcoming..upcoming.saturating_add(more);
        let last = if more > 0 { Some(next.end - 1) } else { returned.last().copied() };
        let begins = last.map_or(0, |last| last / u64::from(self.rate.limit));
        let begins = begins.max(cycle.number);
        let wait = if begins == cycle.number {
            Duration::ZERO
        } else {
            let now = self.clock.now().as_nanos();
            Duration::from_nanos(begins.saturating_mul(self.period).saturating_sub(now))
        };
        Reservation { wait, returned, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn limiter(limit: u32, period: u64, max_wait: u64) -> (RateLimiter, Clock) {
        let clock = Clock::simulated(0);
        let rate = RateLimit { limit, period: ms(period), max_wait: ms(max_wait) };
        (RateLimiter::new(rate, clock.clone()).unwrap(), clock)
    }

    #[test]
    fn rl_001_one_grant_per_cycle_and_the_hint_is_the_next_cycle() {
        let (limiter, clock) = limiter(1, 250, 0);
        for (step, granted) in [(250, true), (0, false), (250, true), (0, false)] {
            clock.advance(ms(step));
            assert_eq!(limiter.acquire(1).is_ok(), granted);
            assert_eq!(limiter.wait_for(1), ms(250));
        }
        clock.advance(ms(100));
        assert_eq!(limiter.acquire(1), Err(RateExceeded { retry_after: ms(150) }));
    }

    #[test]
    fn rl_002_reservations_wait_for_the_cycles_they_use_up() {
        let (limiter, clock) = limiter(5, 1_000, 60_000);
        let mut now = 0;
        for (at, permits, wait, after) in
            [(300, 3, 0, 2), (1_550, 10, 450, -5), (2_210, 2, 790, -2)]
        {
            clock.advance(ms(at - now));
            now = at;
            assert_eq!(limiter.acquire(permits), Ok(ms(wait)), "at {at}");
            assert_eq!(limiter.available(), after, "at {at}");
        }
    }

    #[test]
    fn a_refused_call_reserves_nothing_and_idle_cycles_do_not_add_up() {
        let (limiter, clock) = limiter(2, 100, 50);
        assert!(limiter.acquire(9).is_err());
        assert_eq!(limiter.available(), 2);
        clock.advance(ms(10_000));
        assert_eq!(limiter.available(), 2);
        assert!(RateLimiter::new(RateLimit { limit: 0, ..limiter.rate }, clock).is_err());
    }

    #[test]
    fn what_is_given_back_is_there_for_the_next_one_and_no_cycle_has_more_than_its_own() {
        let (limiter, clock) = limiter(1, 100, 10_000);
        let waits = |limiter: &RateLimiter| limiter.reserve(1).unwrap();
        assert_eq!(waits(&limiter).wait, ms(0));
        let (first, second, third) = (waits(&limiter), waits(&limiter), waits(&limiter));
        assert_eq!((first.wait, second.wait, third.wait), (ms(100), ms(200), ms(300)));
        assert_eq!(limiter.available(), -3);
        limiter.give_back(first);
        assert_eq!((limiter.available(), limiter.wait_for(1)), (-2, ms(100)));
        assert_eq!(limiter.wait_for(2), ms(400), "the others have theirs");
        limiter.give_back(third);
        assert_eq!((limiter.available(), limiter.wait_for(2)), (-1, ms(300)));
        let both = limiter.reserve(2).unwrap();
        assert_eq!(both.wait, ms(300));
        limiter.give_back(both);
        assert_eq!(waits(&limiter).wait, ms(100));
        clock.advance(ms(250));
        limiter.give_back(second); // too late: its cycle is this one, and nearly over
        assert_eq!((limiter.available(), limiter.wait_for(1)), (1, ms(0)));
        assert_eq!((waits(&limiter).wait, limiter.available()), (ms(0), 0));
        assert_eq!(limiter.wait_for(1), ms(50));
    }
}
