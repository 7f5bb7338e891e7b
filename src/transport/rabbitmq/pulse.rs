//! Whether the broker still reads from the connection that we publish over.
//!
//! It may live, send signs of that, and never read again: a channel that waits for the credit of a
//! queue which somebody deleted meanwhile holds its whole connection back for good (seen with
//! RabbitMQ 3.10, in state `flow`). Where nothing is confirmed for a while, something else is asked
//! over the same connection; where there is no answer to that either, it is ended, and made again.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::link::Wire;
use crate::clock::Instant;

/// How long nothing is confirmed before it is asked whether anybody is there; after each time that
/// nobody was, twice as long.
const QUIET: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// How long an answer to that may take.
const ANSWER: Duration = Duration::from_millis(500);

/// How long it has been quiet.
#[derive(Debug)]
pub(super) struct Pulse {
    since: Option<Instant>,
    quiet: Duration,
}

impl Pulse {
    pub fn new() -> Pulse {
        Pulse { since: None, quiet: QUIET }
    }

    /// Something was confirmed.
    pub fn beats(&mut self) {
        *self = Pulse::new();
    }

    /// Nothing is waited for.
    pub fn rests(&mut self) {
        self.since = None;
    }

    /// Whether it has been quiet for too long at `now`: it is to be asked, and counts anew.
    pub fn is_missed(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let missed = now.saturating_since(since) >= self.quiet;
        if missed {
            self.since = None;
            self.quiet = (self.quiet * 2).min(LONGEST);
        }
        missed
    }
}

/// Asks the broker something over a connection, which is ended where it does not answer.
pub(super) async fn ask(inner: Arc<Inner>, wire: Arc<Wire>) {
    let answered = inner.clock.timeout(ANSWER, wire.is_answered()).await;
    // A full broker says so, and reads again when it has room.
    if answered.is_err() && !wire.is_blocked() {
        tracing::warn!(
            target: "tiebeam::transport",
            "the broker confirms nothing and does not answer: the connection is made again"
        );
        wire.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_after_a_while_and_then_less_and_less_often() {
        let at = |ms: u64| Instant::ZERO.saturating_add(Duration::from_millis(ms));
        let mut pulse = Pulse::new();
        let mut missed = Vec::new();
        for ms in (0..8_000).step_by(100) {
            if pulse.is_missed(at(ms)) {
                missed.push(ms);
            }
        }
        assert_eq!(missed, [1_000, 3_100, 7_200]);
        pulse.beats();
        assert!(!pulse.is_missed(at(8_000)));
        pulse.rests();
        assert!(!pulse.is_missed(at(9_500)), "nothing was waited for");
        assert!(pulse.is_missed(at(10_500)));
    }
}
