//! Waits between tries that failed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Instant};
use crate::error::{Error, Kind, Result};
use crate::resilience::{Backoff, Draws, Jitter};

/// Waits longer each time, up to two seconds, and never in step with others.
#[derive(Debug)]
pub struct Patience {
    backoff: Backoff,
    draws: Draws,
    tries: u32,
    clock: Clock,
    ending: CancellationToken,
}

impl Patience {
    /// Waits by `clock`, until `ending`.
    pub fn new(clock: &Clock, ending: &CancellationToken) -> Patience {
        let backoff = Backoff::exponential(Duration::from_millis(50), 2.0)
            .with_cap(Duration::from_secs(2))
            .with_jitter(Jitter::Equal);
        Patience {
            backoff,
            draws: Draws::from_rng(fastrand::Rng::new()),
            tries: 0,
            clock: clock.clone(),
            ending: ending.clone(),
        }
    }

    /// It worked: the next wait is a short one again.
    pub fn renew(&mut self) {
        self.tries = 0;
    }

    /// The next wait, longer each time.
    pub fn next_wait(&mut self) -> Duration {
        self.tries = self.tries.saturating_add(1);
        self.backoff.wait(self.tries, &mut self.draws, None).unwrap_or_default()
    }

    /// Waits, longer each time; false when everything ends.
    pub async fn wait(&mut self) -> bool {
        let wait = self.next_wait();
        tokio::select! {
            () = self.clock.sleep(wait) => true,
            () = self.ending.cancelled() => false,
        }
    }

    /// Tries again and again to reach `whom`, for at most `limit`; `secure` where that is by TLS.
    pub fn within(self, limit: Duration, whom: &'static str, secure: bool) -> Trying {
        let until = self.clock.now().saturating_add(limit);
        Trying { patience: self, until, limit, whom, secure, last: None }
    }
}

/// Tries to reach a broker, for a while.
#[derive(Debug)]
pub struct Trying {
    patience: Patience,
    until: Instant,
    limit: Duration,
    whom: &'static str,
    secure: bool,
    last: Option<Error>,
}

impl Trying {
    /// The next try, for as long as there is time.
    ///
    /// # Errors
    /// What went wrong last, or that there was no answer, once time is up.
    pub async fn once<T>(&mut self, tried: impl Future<Output = T>) -> Result<T> {
        let clock = self.patience.clock.clone();
        let left = self.until.saturating_since(clock.now());
        clock.timeout(left, tried).await.map_err(|_| {
            self.last.take().unwrap_or_else(|| {
                // Who does not know TLS may wait for more of what it does not understand.
                let hint = if self.secure { "; does it speak TLS there?" } else { "" };
                let said = format!("{} did not answer within {:?}{hint}", self.whom, self.limit);
                Error::new(Kind::Dependency, "connect", said)
            })
        })
    }

    /// It failed: waits before the next try.
    ///
    /// # Errors
    /// `error`, where another try is of no use, or there is no time for it.
    pub async fn failed(&mut self, error: Error, passes: bool) -> Result<()> {
        let clock = self.patience.clock.clone();
        let left = self.until.saturating_since(clock.now());
        if !passes || !clock.timeout(left, self.patience.wait()).await.unwrap_or(false) {
            return Err(error);
        }
        self.last = Some(error);
        Ok(())
    }
}
