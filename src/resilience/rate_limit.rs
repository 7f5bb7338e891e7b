//! The cycle limiter: so many permits per period, refilled at the beginning of each.

use std::fmt;
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
        let cycle = Arc::new(Mutex::new(Cycle { number, available: i64::from(rate.limit) }));
        Ok(RateLimiter { rate, period, clock, cycle })
    }

    /// Takes `permits` at once or reserves them: the call may begin after the returned wait.
    ///
    /// # Errors
    /// [`RateExceeded`] when the wait would be longer than allowed.
    pub fn acquire(&self, permits: u32) -> Result<Duration, RateExceeded> {
        let mut cycle = self.cycle.lock();
        let wait = self.wait(&mut cycle, permits);
        if wait > self.rate.max_wait {
            return Err(RateExceeded { retry_after: wait });
        }
        cycle.available -= i64::from(permits);
        Ok(wait)
    }

    /// How long `permits` would have to wait now; takes nothing.
    pub fn wait_for(&self, permits: u32) -> Duration {
        self.wait(&mut self.cycle.lock(), permits)
    }

    /// Permits left in this cycle; below zero when later ones are reserved.
    pub fn available(&self) -> i64 {
        let mut cycle = self.cycle.lock();
        self.wait(&mut cycle, 0);
        cycle.available
    }

    fn wait(&self, cycle: &mut Cycle, permits: u32) -> Duration {
        let limit = i64::from(self.rate.limit);
        // Under the lock, so that no thread brings an earlier cycle back.
        let now = self.clock.now().as_nanos();
        let number = (now / self.period).max(cycle.number);
        let passed = i64::try_from(number - cycle.number).unwrap_or(i64::MAX);
        let refilled = cycle.available.saturating_add(passed.saturating_mul(limit));
        *cycle = Cycle { number, available: refilled.min(limit) };
        let missing = i64::from(permits) - cycle.available;
        if missing <= 0 {
            return Duration::ZERO;
        }
        let end = (number + 1).saturating_mul(self.period);
        // The next cycle brings one limit; each further one that is needed takes a period.
        let further = (missing - 1) / limit;
        let further = u64::try_from(further).unwrap_or(0).saturating_mul(self.period);
        Duration::from_nanos((end - now).saturating_add(further))
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
}
