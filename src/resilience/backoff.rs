//! How long to wait before the next attempt: a curve, a cap, a jitter.
//!
//! The order is fixed: raw -> cap -> jitter -> floor -> server's hint. Everything is computed in
//! seconds as `f64` and rounded once, to nanoseconds; a truncation at each step would add up.

use std::time::Duration;

use crate::error::{Error, Kind, Result};

/// The growth of the wait; `n` is 1 for the wait after the first failure, `b` the base.
#[derive(Clone, Debug, PartialEq)]
pub enum Curve {
    /// `b`
    Constant,
    /// `b + increment * (n-1)`, never below zero.
    Linear {
        /// Seconds added per attempt; may be negative.
        increment: f64,
    },
    /// `b * factor^(n-1)`
    Exponential {
        /// Growth per attempt.
        factor: f64,
    },
    /// `b * F(n)` with F = 1, 1, 2, 3, 5, ...
    Fibonacci,
    /// The n-th of the list, then its last.
    List(Vec<Duration>),
    /// AWS: `min(cap, b + R * (3 * previous - b))`; random in itself.
    Decorrelated,
    /// Polly V2: differences of `2^t * tanh(sqrt(4t))` at `t = n-1+R`, times `b / 1.4`; random in
    /// itself, with a smooth distribution.
    Smooth,
    /// systemd: from `b` to the cap in `steps` equal ratios.
    Geometric {
        /// Attempts until the cap.
        steps: u32,
    },
}

/// How the wait is spread so that many clients do not return together. `c` is the capped wait,
/// `R` uniform in [0, 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// `c`
    None,
    /// `R * c`
    Full,
    /// `c/2 + R * c/2`
    Equal,
    /// `c * (1 - amount + 2 * amount * R)`.
    Factor {
        /// Share of the wait, 0 to 1.
        amount: f64,
        /// Never above the cap. A wait that is at the cap is then spread below it, since a plain
        /// `min` would bring half of the clients together again.
        hard_cap: bool,
    },
    /// `c * (1 - amount * R)`: only ever shorter.
    Down {
        /// Share of the wait, 0 to 1.
        amount: f64,
    },
}

#[derive(Clone, Debug)]
enum Source {
    Seeded(fastrand::Rng),
    Fixed(f64),
}

/// The random numbers and the memory of one run of attempts.
///
/// Two curves depend on the wait before; every run therefore has its own `Draws`.
#[derive(Clone, Debug)]
pub struct Draws {
    source: Source,
    previous: Option<f64>,
}

impl Draws {
    /// The same seed gives the same waits.
    pub fn seeded(seed: u64) -> Self {
        Draws::from_rng(fastrand::Rng::with_seed(seed))
    }

    /// Draws from `rng`.
    pub fn from_rng(rng: fastrand::Rng) -> Self {
        Draws { source: Source::Seeded(rng), previous: None }
    }

    /// Every draw is `value`: 0 is the lower edge of a jitter, 1 the upper. For tests of bounds.
    pub fn fixed(value: f64) -> Self {
        Draws { source: Source::Fixed(value), previous: None }
    }

    fn uniform(&mut self) -> f64 {
        match &mut self.source {
            Source::Seeded(rng) => rng.f64(),
            Source::Fixed(value) => *value,
        }
    }
}

/// A schedule of waits. Build one with a constructor and the `with_` methods, then [`validate`]
/// it; [`super::RetryPolicy`] does so by itself.
///
/// [`validate`]: Backoff::validate
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    curve: Curve,
    base: Duration,
    cap: Option<Duration>,
    floor: Duration,
    jitter: Jitter,
    max_server_delay: Duration,
}

impl Default for Backoff {
    /// The requirement's: 100 ms, doubling, at most 10 s, full jitter.
    fn default() -> Self {
        Backoff::exponential(Duration::from_millis(100), 2.0).with_cap(Duration::from_secs(10))
    }
}

impl Backoff {
    fn new(curve: Curve, base: Duration) -> Self {
        // Two curves are random in themselves; a second jitter would only halve them.
        let jitter = match curve {
            Curve::Decorrelated | Curve::Smooth => Jitter::None,
            _ => Jitter::Full,
        };
        let max_server_delay = Duration::from_secs(300);
        Backoff { curve, base, cap: None, floor: Duration::ZERO, jitter, max_server_delay }
    }

    /// Always `base`.
    pub fn constant(base: Duration) -> Self {
        Backoff::new(Curve::Constant, base)
    }

    /// `increment` seconds more each time; a negative one shrinks to zero.
    pub fn linear(base: Duration, increment: f64) -> Self {
        Backoff::new(Curve::Linear { increment }, base)
    }

    /// `factor` times longer each time.
    pub fn exponential(base: Duration, factor: f64) -> Self {
        Backoff::new(Curve::Exponential { factor }, base)
    }

    /// Grows as 1, 1, 2, 3, 5, ... times `base`.
    pub fn fibonacci(base: Duration) -> Self {
        Backoff::new(Curve::Fibonacci, base)
    }

    /// These waits in turn, the last one for ever.
    pub fn list(waits: Vec<Duration>) -> Self {
        Backoff::new(Curve::List(waits), Duration::ZERO)
    }

    /// Between `base` and three times the wait before (AWS).
    pub fn decorrelated(base: Duration) -> Self {
        Backoff::new(Curve::Decorrelated, base)
    }

    /// Doubling in the middle, smoothly spread (Polly V2).
    pub fn smooth(base: Duration) -> Self {
        Backoff::new(Curve::Smooth, base)
    }

    /// From `base` to `cap` in `steps` equal ratios (systemd).
    pub fn geometric(base: Duration, steps: u32, cap: Duration) -> Self {
        Backoff::new(Curve::Geometric { steps }, base).with_cap(cap)
    }

    /// No wait is longer, except one that a server asked for.
    #[must_use]
    pub fn with_cap(mut self, cap: Duration) -> Self {
        self.cap = Some(cap);
        self
    }

    /// No wait is shorter, except one that a server asked for.
    #[must_use]
    pub fn with_floor(mut self, floor: Duration) -> Self {
        self.floor = floor;
        self
    }

    /// Replaces the default full jitter.
    #[must_use]
    pub fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The longest wait a server's hint may ask for; 5 minutes unless set.
    #[must_use]
    pub fn with_max_server_delay(mut self, limit: Duration) -> Self {
        self.max_server_delay = limit;
        self
    }

    /// The longest wait, where there is one.
    pub fn cap(&self) -> Option<Duration> {
        self.cap
    }

    /// Checks the figures against each other.
    ///
    /// # Errors
    /// [`Kind::Configuration`], naming the field.
    pub fn validate(&self) -> Result<()> {
        let numbers = match &self.curve {
            Curve::Linear { increment } if !increment.is_finite() => Some("increment"),
            Curve::Exponential { factor } if !(factor.is_finite() && *factor > 0.0) => {
                Some("multiplier")
            }
            Curve::List(waits) if waits.is_empty() => Some("delays"),
            Curve::Geometric { .. } if self.base.is_zero() => Some("initial_delay"),
            Curve::Geometric { steps: 0 } => Some("steps"),
            Curve::Geometric { .. } if self.cap.is_none() => Some("max_delay"),
            _ => None,
        };
        if let Some(field) = numbers {
            let message = format!("backoff `{field}` must be given, finite and above zero");
            return Err(invalid(field, message));
        }
        if let Jitter::Factor { amount, .. } | Jitter::Down { amount } = self.jitter
            && !(0.0..=1.0).contains(&amount)
        {
            let message = format!("jitter amount {amount} is outside 0 to 1");
            return Err(invalid("jitter", message));
        }
        let random = matches!(self.curve, Curve::Decorrelated | Curve::Smooth);
        if random && self.jitter != Jitter::None {
            let message = "this curve is random in itself; leave the jitter `none`";
            return Err(invalid("jitter", message.into()));
        }
        if let Some(cap) = self.cap.filter(|cap| *cap < self.floor) {
            let message = format!("`min_delay` {:?} is above `max_delay` {cap:?}", self.floor);
            return Err(invalid("min_delay", message));
        }
        Ok(())
    }

    /// The wait after the `n`-th failure (from 1), or `None` when it outgrew all bounds and
    /// there is no cap to fall back to.
    ///
    /// A server's `hint` replaces the computed wait, bounded by the greatest server delay.
    pub fn wait(&self, n: u32, draws: &mut Draws, hint: Option<Duration>) -> Option<Duration> {
        let cap = self.cap.map(|cap| cap.as_secs_f64());
        // Drawn even under a hint, so that one hint does not shift the rest of a seeded run.
        let raw = self.raw(n.max(1), draws);
        let usable = raw.is_finite() && raw >= 0.0;
        let capped = match cap {
            Some(cap) if !usable => Some(cap),
            Some(cap) => Some(raw.min(cap)),
            None => usable.then_some(raw),
        };
        if let (Curve::Decorrelated, Some(wait)) = (&self.curve, capped) {
            draws.previous = Some(wait);
        }
        let jittered = capped.map(|wait| self.jitter(wait, cap, draws));
        if let Some(hint) = hint {
            return Some(hint.min(self.max_server_delay));
        }
        let wait = rounded(jittered?)?.max(self.floor);
        // Rounding may lead above the cap, and so may a jitter that is allowed to.
        let capped = !matches!(self.jitter, Jitter::Factor { hard_cap: false, .. });
        Some(self.cap.filter(|_| capped).map_or(wait, |cap| wait.min(cap)))
    }

    fn raw(&self, n: u32, draws: &mut Draws) -> f64 {
        let base = self.base.as_secs_f64();
        let grown = f64::from(n - 1);
        match &self.curve {
            Curve::Constant => base,
            Curve::Linear { increment } => (base + increment * grown).max(0.0),
            Curve::Exponential { factor } => base * factor.powf(grown),
            Curve::Fibonacci => base * fibonacci(n),
            Curve::List(waits) => {
                let index = (n as usize).min(waits.len());
                index.checked_sub(1).map_or(f64::NAN, |index| waits[index].as_secs_f64())
            }
            Curve::Decorrelated => {
                let previous = draws.previous.unwrap_or(base);
                base + draws.uniform() * (3.0 * previous - base)
            }
            Curve::Smooth => {
                let t = grown + draws.uniform();
                let x = t.exp2() * (4.0 * t).sqrt().tanh();
                let previous = draws.previous.replace(x).unwrap_or(0.0);
                (x - previous) * base / 1.4
            }
            Curve::Geometric { steps } => {
                let cap = self.cap.map_or(f64::NAN, |cap| cap.as_secs_f64());
                match n {
                    1 => base,
                    n if n > *steps => cap,
                    _ => base * (cap / base).powf(grown / f64::from(*steps)),
                }
            }
        }
    }

    fn jitter(&self, wait: f64, cap: Option<f64>, draws: &mut Draws) -> f64 {
        match self.jitter {
            Jitter::None => wait,
            Jitter::Full => draws.uniform() * wait,
            Jitter::Equal => wait / 2.0 + draws.uniform() * wait / 2.0,
            Jitter::Factor { amount, hard_cap } => {
                let random = draws.uniform();
                match cap.filter(|_| hard_cap) {
                    Some(cap) if wait >= cap => wait * (1.0 - amount + amount * random),
                    Some(cap) => (wait * (1.0 - amount + 2.0 * amount * random)).min(cap),
                    None => wait * (1.0 - amount + 2.0 * amount * random),
                }
            }
            Jitter::Down { amount } => wait * (1.0 - amount * draws.uniform()),
        }
    }
}

/// 1, 1, 2, 3, 5, ... as a float, which grows into infinity instead of wrapping.
fn fibonacci(n: u32) -> f64 {
    let (mut a, mut b) = (0.0_f64, 1.0_f64);
    for _ in 0..n {
        (a, b) = (b, a + b);
        if a.is_infinite() {
            break;
        }
    }
    a
}

/// Whole nanoseconds, or `None` beyond the clock's range of some 584 years.
fn rounded(seconds: f64) -> Option<Duration> {
    let nanos = (seconds * 1e9).round();
    (0.0..u64::MAX as f64).contains(&nanos).then(|| Duration::from_nanos(nanos as u64))
}

fn invalid(field: &'static str, message: String) -> Error {
    Error::new(Kind::Configuration, "build backoff", message).with("field", field)
}

#[cfg(test)]
mod tests;
