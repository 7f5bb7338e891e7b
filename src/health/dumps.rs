//! How often this process may be copied for a dump.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Instant;

/// So many times in a minute at most: it takes memory, and time of those who write to theirs
/// meanwhile.
const MOST: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);

/// When the last ones were made.
#[derive(Debug, Default)]
pub struct Dumps(VecDeque<Instant>);

impl Dumps {
    /// Whether one more may be made now; it is, then.
    pub fn may_make(&mut self, now: Instant) -> bool {
        self.0.retain(|made| now.saturating_since(*made) < MINUTE);
        let may = self.0.len() < MOST;
        if may {
            self.0.push_back(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_in_each_minute() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let mut dumps = Dumps::default();
        let made: Vec<u64> = (0..200).filter(|second| dumps.may_make(at(*second))).collect();
        assert_eq!(made[..7], [0, 1, 2, 3, 4, 5, 60]);
        for minute in 0..=140 {
            let within = made.iter().filter(|made| (minute..minute + 60).contains(*made)).count();
            assert!(within <= MOST);
        }
    }
}
