//! A ring of time buckets: what happened lately, forgotten a bucket at a time.

use std::time::Duration;

use crate::clock::Instant;

/// `count` buckets of `width` each. A bucket counts while `its id > present id - count`, so that
/// all entries of one bucket vanish together.
#[derive(Clone, Debug)]
pub(crate) struct Buckets<T> {
    width: u64,
    cells: Box<[T]>,
    newest: u64,
}

impl<T: Default + Clone> Buckets<T> {
    /// `count` and `width` are at least 1 (bucket, nanosecond).
    pub fn new(count: usize, width: Duration) -> Self {
        let width = u64::try_from(width.as_nanos()).unwrap_or(u64::MAX).max(1);
        Buckets { width, cells: vec![T::default(); count.max(1)].into(), newest: 0 }
    }

    /// The bucket of `now`. What fell out of the window is given to `expired` before.
    ///
    /// A `now` before the newest bucket lands in the newest: time does not run backwards here.
    pub fn at(&mut self, now: Instant, mut expired: impl FnMut(T)) -> &mut T {
        let id = (now.as_nanos() / self.width).max(self.newest);
        let count = self.cells.len() as u64;
        let steps = (id - self.newest).min(count);
        for step in 0..steps {
            let index = ((id - step) % count) as usize;
            expired(std::mem::take(&mut self.cells[index]));
        }
        self.newest = id;
        &mut self.cells[(id % count) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_counts_while_its_id_is_inside_the_window() {
        let mut sum = 0;
        let mut buckets = Buckets::<i32>::new(3, Duration::from_nanos(10));
        for (at, expected) in [(0, 1), (9, 2), (10, 3), (29, 4), (30, 3), (39, 4), (500, 1)] {
            *buckets.at(Instant::from_nanos(at), |old| sum -= old) += 1;
            sum += 1;
            assert_eq!(sum, expected, "at {at}");
        }
    }
}
