//! Turns of a loop whose requests are answered at once: whoever asks again and again never waits
//! by itself. So now and then a reply is to be handed on only after the loop has had its turn.
//!
//! A *row* is what is served between two turns of the loop. Everybody who asks has a share of it,
//! and pauses after that; a row that takes long is cut short.

/// The most requests in a row by one who asks.
const SHARE: u32 = 64;

/// The most in a row by all of them, if each gets at least one.
const ROW: u32 = 1024;

/// How long a row may take before everybody pauses, in milliseconds.
const LONG: i64 = 2;

/// After this time it was another row: nobody paused, and the loop had its turns unseen.
const STALE: i64 = 50;

/// What was served since the loop had its turn.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// The number of the row.
    row: u64,
    /// When its first request was made, in Unix milliseconds.
    began: Option<i64>,
    /// How many requests the one who asks just now has made.
    asked: u32,
    /// How many requests all of them have made.
    total: u32,
    /// How many pause.
    pausing: u32,
    /// Whether it took too long.
    cut: bool,
    /// How many requests each may make.
    share: u32,
}

impl Default for Rows {
    fn default() -> Self {
        Rows { row: 0, began: None, asked: 0, total: 0, pausing: 0, cut: false, share: SHARE }
    }
}

impl Rows {
    /// One more was served, at `now`; whether whoever asked is to pause, and in which row.
    pub fn served(&mut self, now: i64) -> Option<u64> {
        let mut lasts = now.saturating_sub(*self.began.get_or_insert(now));
        if lasts > STALE {
            *self = Rows { row: self.row + 1, began: Some(now), ..Rows::default() };
            lasts = 0;
        }
        self.asked += 1;
        self.total = self.total.saturating_add(1);
        self.cut |= lasts >= LONG;
        if self.asked < self.share && !self.cut {
            return None;
        }
        self.asked = 0;
        self.pausing += 1;
        Some(self.row)
    }

    /// The loop has had its turn after `row`: the next one begins, and all get their share of it.
    pub fn over(&mut self, row: u64) {
        if row == self.row {
            let pausing = self.pausing.max(1);
            // What was too much for some is divided among all; what was not may be twice as much.
            let share = if self.cut { self.total / pausing } else { self.share * 2 };
            let share = share.clamp(1, (ROW / pausing).clamp(1, SHARE));
            *self = Rows { row: row + 1, share, ..Rows::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many requests each of `clients` makes in each of `rounds` rows, of those that always
    /// ask again.
    fn shares(clients: usize, rounds: usize, millis_per_request: f64) -> Vec<Vec<u32>> {
        let (mut rows, mut time) = (Rows::default(), 0.0);
        let mut round = || -> Vec<(u32, u64)> {
            let ask = |_| {
                let mut made = 0;
                loop {
                    made += 1;
                    time += millis_per_request;
                    if let Some(row) = rows.served(time as i64) {
                        return (made, row);
                    }
                }
            };
            let made: Vec<_> = (0..clients).map(ask).collect();
            made.iter().for_each(|(_, row)| rows.over(*row));
            made
        };
        (0..rounds).map(|_| round().into_iter().map(|(made, _)| made).collect()).collect()
    }

    #[test]
    fn one_who_asks_pauses_after_its_share() {
        assert_eq!(shares(1, 3, 0.0), [[64], [64], [64]]);
    }

    #[test]
    fn many_share_a_row_evenly() {
        let rows = shares(128, 3, 0.0);
        assert!(rows[0].iter().all(|made| *made == 64));
        assert!(rows[1..].iter().flatten().all(|made| *made == 8), "{rows:?}");
        let crowd = shares(5_000, 2, 0.0);
        assert!(crowd[1].iter().all(|made| *made == 1));
    }

    #[test]
    fn a_row_that_takes_long_is_cut_short_for_all_alike() {
        let rows = shares(10, 6, 0.1);
        for row in &rows {
            // Milliseconds are whole ones: up to three pass, and then everybody asks once more.
            assert!(row.iter().sum::<u32>() <= 30 + 10, "{row:?}");
            assert!(row.iter().all(|made| *made >= 1));
        }
        for row in &rows[1..] {
            let (least, most) = (row.iter().min().expect("ten"), row.iter().max().expect("ten"));
            assert!(most - least <= 3, "{rows:?}");
        }
        // What is quick again gets its whole share again.
        let mut rows = Rows::default();
        for n in 0..200 {
            let slow = i64::from(n < 50) * n;
            if let Some(row) = rows.served(slow) {
                rows.over(row);
            }
        }
        assert!(rows.share == SHARE, "{rows:?}");
    }

    #[test]
    fn who_asks_now_and_then_never_pauses() {
        let mut rows = Rows::default();
        assert!((0..1_000).all(|n| rows.served(n * 1_000).is_none()));
    }
}
