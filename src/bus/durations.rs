//! How long handlers took: a histogram that is counted without a lock.
//!
//! At most one event of each batch is measured, its first, for looking at the clock twice costs
//! half of what calling a handler does. Where batches follow each other at once it is one of
//! [`EVERY`], which then stands for those that were passed over before it: the histogram is that
//! of all batches, but for chance. A handler that had to wait is never passed over, and stands for
//! itself alone.

use std::sync::OnceLock;
use std::time::Duration;

use crate::sync::{AtomicU8, AtomicU64, Ordering};

/// One of so many batches is measured where none has to wait for the next.
const EVERY: u8 = 32;

/// Durations below this many nanoseconds, 2 to this power, are one cell.
const LEAST: u32 = 10;

/// The last octave, which has all that is longer, too: from 37 to 73 minutes.
const LAST: u32 = 41;

/// Cells of one octave.
const PARTS: usize = 4;

const CELLS: usize = 1 + (LAST - LEAST + 1) as usize * PARTS;

/// Which batches of one subscription are measured: how many were passed over since the last that
/// was, [`NEVER`] before the first. One byte, which every event touches; several threads may lose a
/// few of each other's.
#[derive(Debug)]
pub(super) struct Sampling(AtomicU8);

/// Nothing was measured yet.
const NEVER: u8 = u8::MAX;

/// How long the handler of one subscription took.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// Made when the first is needed: there may be thousands of subscriptions.
    cells: OnceLock<Box<Cells>>,
}

#[derive(Debug)]
struct Cells {
    counts: [AtomicU64; CELLS],
    nanos: AtomicU64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling(AtomicU8::new(NEVER))
    }
}

impl Sampling {
    /// Whether the next one is to be measured: the first ever, and one of [`EVERY`].
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= EVERY - 1
    }

    /// One was not measured, and had not to wait.
    #[inline]
    pub(super) fn pass_over(&self) {
        let passed_over = self.0.load(Ordering::Relaxed);
        self.0.store(passed_over.wrapping_add(1), Ordering::Relaxed);
    }

    /// One was measured: so many it stands for, with those that were passed over.
    pub(super) fn measured(&self) -> u64 {
        let passed_over = self.0.swap(0, Ordering::Relaxed);
        u64::from(passed_over.wrapping_add(1).max(1))
    }
}

impl Durations {
    /// So many took so long.
    pub(super) fn add(&self, took: Duration, times: u64) {
        let cells = self.cells.get_or_init(|| {
            Box::new(Cells {
                counts: std::array::from_fn(|_| AtomicU64::new(0)),
                nanos: AtomicU64::new(0),
            })
        });
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        cells.counts[cell_of(nanos)].fetch_add(times, Ordering::Relaxed);
        cells.nanos.fetch_add(nanos.saturating_mul(times), Ordering::Relaxed);
    }

    pub(super) fn spread(&self) -> Spread {
        let mut spread = Spread::default();
        if let Some(cells) = self.cells.get() {
            spread.counts = cells.counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
            spread.nanos = cells.nanos.load(Ordering::Relaxed);
        }
        spread
    }
}

fn cell_of(nanos: u64) -> usize {
    let octave = nanos.checked_ilog2().unwrap_or(0);
    if octave < LEAST {
        return 0;
    }
    if octave > LAST {
        return CELLS - 1;
    }
    let part = (nanos >> (octave - 2)) as usize % PARTS;
    1 + (octave - LEAST) as usize * PARTS + part
}

/// The first duration that is too long for a cell, in nanoseconds.
fn end_of(cell: usize) -> u64 {
    if cell == 0 {
        return 1 << LEAST;
    }
    let (octave, part) = ((cell - 1) / PARTS, (cell - 1) % PARTS);
    (PARTS + part + 1) as u64 * (1 << (octave + LEAST as usize - 2))
}

/// How durations are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// By cell; empty for none at all.
    counts: Vec<u64>,
    nanos: u64,
}

impl Spread {
    /// Adds what is in another one.
    pub fn add(&mut self, other: &Spread) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }

    /// What came since `earlier`, which is of the same handlers.
    #[must_use]
    pub fn since(&self, earlier: &Spread) -> Spread {
        let before = |at: usize| earlier.counts.get(at).copied().unwrap_or(0);
        let counts =
            self.counts.iter().enumerate().map(|(at, count)| count.saturating_sub(before(at)));
        Spread { counts: counts.collect(), nanos: self.nanos.wrapping_sub(earlier.nanos) }
    }

    /// How many batches it tells of.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// The duration that a share of `quantile` stays below, an eighth more or less; none without
    /// any.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let total = self.count();
        let rank = (quantile * total as f64).ceil().max(1.0) as u64;
        let mut before = 0;
        for (cell, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            if before + count >= rank {
                let from = if cell == 0 { 0 } else { end_of(cell - 1) };
                let share = (rank - before) as f64 / *count as f64;
                let nanos = from as f64 + (end_of(cell) - from) as f64 * share;
                return Some(Duration::from_nanos(nanos as u64));
            }
            before += count;
        }
        None
    }

    /// How many took at most `limit`, an eighth of that more or less.
    pub fn within(&self, limit: Duration) -> u64 {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let cell = cell_of(limit);
        let from = if cell == 0 { 0 } else { end_of(cell - 1) };
        // The cell that it falls into counts as its middle says.
        let whole = limit >= from + (end_of(cell) - from) / 2;
        self.counts.iter().take(cell + usize::from(whole)).sum()
    }

    /// For a histogram of few steps: its bounds in seconds, and how many are within each and
    /// above the one before; the last count is of those above all.
    pub fn by_bound(&self) -> (Vec<f64>, Vec<u64>) {
        let (mut bounds, mut counts, mut from) = (Vec::new(), Vec::new(), 0);
        // Powers of 2, where cells end: from 4 microseconds to 18 minutes.
        for power in (LEAST + 2..=LAST).step_by(2) {
            let to = 1 + (power - LEAST) as usize * PARTS;
            bounds.push((1_u64 << power) as f64 / 1e9);
            counts.push(self.counts.iter().take(to).skip(from).sum());
            from = to;
        }
        counts.push(self.counts.iter().skip(from).sum());
        (bounds, counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nanos: &[u64]) -> Spread {
        let durations = Durations::default();
        nanos.iter().for_each(|nanos| durations.add(Duration::from_nanos(*nanos), 1));
        durations.spread()
    }

    #[test]
    fn every_duration_is_in_its_cell() {
        for nanos in (0..64).map(|bit| 1_u64 << bit).flat_map(|n| [n - 1, n, n + n / 3]) {
            let cell = cell_of(nanos);
            assert!(cell == CELLS - 1 || nanos < end_of(cell), "{nanos}");
            assert!(cell == 0 || nanos >= end_of(cell - 1), "{nanos}");
        }
        assert_eq!(end_of(CELLS - 1), 1 << (LAST + 1));
    }

    #[test]
    fn what_is_measured_stands_for_what_was_passed_over() {
        let (sampling, durations) = (Sampling::default(), Durations::default());
        let every = u64::from(EVERY);
        let fast = Duration::from_micros(1);
        let mut measured = 0;
        for _ in 0..=10 * every {
            if sampling.is_due() {
                measured += 1;
                durations.add(fast, sampling.measured());
            } else {
                sampling.pass_over();
            }
        }
        assert_eq!((measured, durations.spread().count()), (11, 10 * every + 1));
        assert_eq!(durations.spread().sum(), fast * (10 * u32::from(EVERY) + 1));

        sampling.pass_over();
        durations.add(Duration::from_secs(1), 1);
        assert_eq!(durations.spread().count(), 10 * every + 2, "it stands for itself");
        durations.add(fast, sampling.measured());
        assert_eq!(durations.spread().count(), 10 * every + 4);
    }

    #[test]
    fn quantiles_are_near() {
        let spread = of(&(1..=1_000).map(|n| n * 1_000_000).collect::<Vec<_>>());
        for (quantile, millis) in [(0.5, 500.0), (0.99, 990.0), (0.001, 1.0), (1.0, 1_000.0)] {
            let found = spread.quantile(quantile).unwrap().as_secs_f64() * 1e3;
            assert!((found / millis - 1.0).abs() < 0.25, "{quantile}: {found}");
        }
        assert_eq!(of(&[]).quantile(0.5), None);
        for millis in [1, 100, 500, 1_000] {
            let within = spread.within(Duration::from_millis(millis)) as f64;
            assert!((within / millis as f64 - 1.0).abs() < 0.15, "{millis}: {within}");
        }
        assert_eq!(spread.within(Duration::MAX), 1_000);
        assert_eq!(spread.sum(), Duration::from_millis(500_500));
    }

    #[test]
    fn few_steps_have_everything() {
        let spread = of(&[1, 4_095, 4_096, 16_383, 1 << 40]);
        let (bounds, counts) = spread.by_bound();
        assert_eq!(bounds.len() + 1, counts.len());
        assert_eq!((&counts[..3], counts.last()), (&[2, 2, 0][..], Some(&1)));
        assert_eq!(bounds[0], 4.096e-6);
        assert_eq!(of(&[]).by_bound().1.iter().sum::<u64>(), 0);
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let (before, after) = (of(&[5_000]), of(&[5_000, 80_000, 80_000]));
        let since = after.since(&before);
        assert_eq!((since.count(), since.sum()), (2, Duration::from_nanos(160_000)));
        let mut both = before.clone();
        both.add(&since);
        assert_eq!(both, after);
    }
}
