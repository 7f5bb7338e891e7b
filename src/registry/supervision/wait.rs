//! How long to wait before a restart.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::{Jitter, RestartBackoff};

/// The wait before the n-th restart within the period, n from 1.
pub type Backoff = Box<dyn Fn(u32) -> Duration + Send + Sync>;

/// The figures of such waits: none before the first restart, then growing to a limit.
#[derive(Clone, PartialEq)]
pub struct Wait {
    /// Before the second restart.
    pub initial: Duration,
    /// Growth per restart.
    pub multiplier: f64,
    /// The longest.
    pub max: Duration,
    /// Whether each is drawn evenly between zero and the computed one, so that many do not come
    /// back at once.
    pub jitter: bool,
}

/// 1 s, 2 s, ... at most 30 s, with jitter.
impl Default for Wait {
    fn default() -> Self {
        let (initial, max) = (Duration::from_secs(1), Duration::from_secs(30));
        Wait { initial, multiplier: 2.0, max, jitter: true }
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let jitter = if self.jitter { " with jitter" } else { "" };
        write!(f, "{:?} x{} to {:?}{jitter}", self.initial, self.multiplier, self.max)
    }
}

impl From<&RestartBackoff> for Wait {
    fn from(said: &RestartBackoff) -> Self {
        Wait {
            initial: said.initial_delay,
            multiplier: said.multiplier,
            max: said.max_delay,
            jitter: said.jitter == Jitter::Full,
        }
    }
}

impl Wait {
    /// The most that is waited before the n-th restart.
    pub fn ceiling(&self, restart: u32) -> Duration {
        if restart <= 1 {
            return Duration::ZERO;
        }
        let power = i32::try_from(restart - 2).unwrap_or(i32::MAX);
        let seconds = self.initial.as_secs_f64() * self.multiplier.powi(power);
        // Zero times infinity is no number, and a wait of zero stays one.
        let seconds = if seconds.is_nan() { 0.0 } else { seconds.min(self.max.as_secs_f64()) };
        Duration::from_secs_f64(seconds)
    }

    /// The waits, drawn from a generator that starts at `seed`.
    pub fn backoff(&self, seed: u64) -> Backoff {
        let (wait, random) = (self.clone(), Mutex::new(fastrand::Rng::with_seed(seed)));
        Box::new(move |restart| {
            let most = wait.ceiling(restart);
            if wait.jitter { most.mul_f64(random.lock().f64()) } else { most }
        })
    }
}
