//! Counting outcomes over the last calls, over the last seconds, or since the beginning.

use std::collections::VecDeque;
use std::time::Duration;

use super::settings::Window;
use crate::buckets::Buckets;
use crate::clock::Instant;

/// One recorded outcome; slowness is a fact of its own beside failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub failed: bool,
    pub slow: bool,
}

/// How many calls a window holds and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub calls: u64,
    pub failed: u64,
    pub slow: u64,
}

impl Counts {
    fn add(&mut self, mark: Mark) {
        self.calls += 1;
        self.failed += u64::from(mark.failed);
        self.slow += u64::from(mark.slow);
    }

    fn take(&mut self, old: Counts) {
        self.calls -= old.calls;
        self.failed -= old.failed;
        self.slow -= old.slow;
    }

    /// `part` of the calls in percent.
    pub fn percent(&self, part: u64) -> f64 {
        if self.calls == 0 { 0.0 } else { part as f64 * 100.0 / self.calls as f64 }
    }
}

/// Outcomes with their sum kept up to date, so that a verdict costs no walk over the window.
#[derive(Debug)]
pub(super) struct Tally {
    sum: Counts,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// Nothing is forgotten.
    All,
    Last {
        size: usize,
        marks: VecDeque<Mark>,
    },
    Recent(Buckets<Counts>),
}

impl Tally {
    pub fn endless() -> Self {
        Tally { sum: Counts::default(), kept: Kept::All }
    }

    pub fn new(window: Window) -> Self {
        let kept = match window {
            Window::Calls(size) => Kept::Last { size: size as usize, marks: VecDeque::new() },
            Window::Time(span) => {
                let (count, width) = split(span);
                Kept::Recent(Buckets::new(count, width))
            }
        };
        Tally { sum: Counts::default(), kept }
    }

    pub fn record(&mut self, now: Instant, mark: Mark) {
        match &mut self.kept {
            Kept::All => {}
            Kept::Last { size, marks } => {
                if marks.len() == *size
                    && let Some(old) = marks.pop_front()
                {
                    let mut oldest = Counts::default();
                    oldest.add(old);
                    self.sum.take(oldest);
                }
                marks.push_back(mark);
            }
            Kept::Recent(buckets) => {
                let sum = &mut self.sum;
                buckets.at(now, |old| sum.take(old)).add(mark);
            }
        }
        self.sum.add(mark);
    }

    pub fn counts(&mut self, now: Instant) -> Counts {
        if let Kept::Recent(buckets) = &mut self.kept {
            let sum = &mut self.sum;
            buckets.at(now, |old| sum.take(old));
        }
        self.sum
    }
}

/// Buckets of a second, or ten of them in a window under ten seconds.
fn split(span: Duration) -> (usize, Duration) {
    const SECOND: Duration = Duration::from_secs(1);
    if span < SECOND * 10 {
        return (10, (span / 10).max(Duration::from_nanos(1)));
    }
    (span.as_secs() as usize + usize::from(span.subsec_nanos() > 0), SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Mark = Mark { failed: false, slow: false };
    const BAD: Mark = Mark { failed: true, slow: false };

    #[test]
    fn a_time_window_forgets_as_cb_049_says() {
        let mut tally = Tally::new(Window::Time(Duration::from_secs(10)));
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let steps: [(&[Mark], u64, u64); 6] = [
            (&[BAD, OK], 2, 1),
            (&[BAD, OK], 4, 2),
            (&[OK, OK], 6, 2),
            (&[OK, OK], 8, 2),
            (&[OK, OK], 8, 1),
            (&[], 6, 0),
        ];
        for (index, (marks, calls, failed)) in steps.into_iter().enumerate() {
            let now = at(index as u64 * 2);
            marks.iter().for_each(|mark| tally.record(now, *mark));
            let counts = tally.counts(at(index as u64 * 2 + 2));
            assert_eq!((counts.calls, counts.failed), (calls, failed), "step {index}");
        }
    }

    #[test]
    fn a_count_window_forgets_the_oldest_call() {
        let mut tally = Tally::new(Window::Calls(3));
        for mark in [BAD, BAD, OK, OK] {
            tally.record(Instant::ZERO, mark);
        }
        let counts = tally.counts(Instant::ZERO);
        assert_eq!((counts.calls, counts.failed), (3, 1));
    }
}
