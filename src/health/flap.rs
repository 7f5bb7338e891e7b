//! Checks that cannot make up their mind.
//!
//! A verdict that changes again and again is held at `warn`: whoever waits for it would be sent
//! to and fro otherwise. Each change is a penalty, which is forgotten exponentially.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Instant;

/// So many changes hold it,
const MOST: usize = 5;

/// if they come within so many periods of the check.
const PERIODS: u32 = 10;

/// After so many periods without a change a penalty is half.
const HALF: f64 = 5.0;

/// Below this it is held no more.
const FORGIVEN: f64 = 1.0;

/// How often a verdict changed lately.
#[derive(Clone, Debug)]
pub struct Flap {
    period: Duration,
    /// The last changes, as many as matter.
    changes: VecDeque<Instant>,
    penalty: f64,
    at: Instant,
    held: bool,
}

impl Flap {
    /// Of a check that runs once in `period`.
    pub fn new(period: Duration) -> Flap {
        let changes = VecDeque::with_capacity(MOST);
        Flap { period, changes, penalty: 0.0, at: Instant::ZERO, held: false }
    }

    /// Takes what a run at `now` did: whether the verdict changed. Returns whether it is held.
    pub fn feed(&mut self, now: Instant, changed: bool) -> bool {
        let periods = now.saturating_since(self.at).as_secs_f64() / self.period.as_secs_f64();
        self.penalty *= (-periods / HALF).exp2();
        self.at = now;
        if changed {
            self.penalty += 1.0;
            if self.changes.len() == MOST {
                self.changes.pop_front();
            }
            self.changes.push_back(now);
        }
        let window = self.period.saturating_mul(PERIODS);
        let many = self.changes.len() == MOST
            && self.changes.front().is_some_and(|first| now.saturating_since(*first) <= window);
        if changed && many && !self.held {
            self.held = true;
            // They weigh in full, however far apart they were.
            self.penalty = MOST as f64;
        } else if self.held && self.penalty < FORGIVEN {
            self.held = false;
            self.changes.clear();
        }
        self.held
    }

    /// Whether the verdict is held.
    pub fn is_held(&self) -> bool {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs once a second, with a change where there is a `x`; what is held after each.
    fn held(runs: &str) -> String {
        let mut flap = Flap::new(Duration::from_secs(1));
        let run = |(second, run): (usize, char)| {
            let now = Instant::from_nanos(second as u64 * 1_000_000_000);
            if flap.feed(now, run == 'x') { 'h' } else { '.' }
        };
        runs.chars().enumerate().map(run).collect()
    }

    #[test]
    fn five_changes_in_ten_periods_are_too_many() {
        assert_eq!(held("x.x.x.x.x"), "........h");
        assert_eq!(held("xxxxx"), "....h");
        assert_eq!(held("x..x..x..x..x"), ".............");
        assert_eq!(held("xxxx.......x"), "............");
    }

    #[test]
    fn who_makes_up_his_mind_is_believed_again() {
        let quiet = format!("xxxxx{}", ".".repeat(20));
        let seen = held(&quiet);
        assert!(seen.starts_with("....hhhhhhhhhhhh") && seen.ends_with("......"), "{seen}");
        // Whoever goes on is held on.
        assert!(held(&"x".repeat(100)).ends_with("hhhhh"));
        // And it takes as many again.
        assert!(held(&format!("{quiet}xxxx")).ends_with("...."));
    }
}
