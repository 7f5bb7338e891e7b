//! Waits between tries that failed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
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
}
