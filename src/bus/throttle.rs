//! Lines of a log about one thing: of a storm, the first of each second, and how many more there
//! were.

use std::time::Duration;

use crate::clock::Instant;
use crate::sync::Mutex;

/// So many lines are written in one [`WINDOW`].
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Write,
    /// It is counted. For the first of its window, when the count is to be told.
    Hold {
        until: Option<Instant>,
    },
}

/// How much was written of late.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the window ends.
    until: Option<Instant>,
    written: u32,
    held: u64,
}

impl Throttle {
    /// There is one more line, now.
    pub fn next(&self, now: Instant) -> Line {
        let mut state = self.state.lock();
        let until = match state.until {
            Some(until) if now < until => until,
            _ => {
                state.written = 0;
                *state.until.insert(now.saturating_add(WINDOW))
            }
        };
        if state.written < LINES {
            state.written += 1;
            return Line::Write;
        }
        state.held += 1;
        Line::Hold { until: (state.held == 1).then_some(until) }
    }

    /// How many lines were held since this was asked last.
    pub fn take_held(&self) -> u64 {
        std::mem::take(&mut self.state.lock().held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_storm_is_a_few_lines_and_a_count() {
        let (clock, throttle) = (Clock::simulated(0), Throttle::default());
        let (mut written, mut due) = (0, Vec::new());
        for _ in 0..1_000 {
            match throttle.next(clock.now()) {
                Line::Write => written += 1,
                Line::Hold { until } => due.extend(until),
            }
        }
        assert_eq!((written, due.len()), (10, 1));
        assert_eq!(due[0].saturating_since(clock.now()), WINDOW);
        clock.advance(WINDOW);
        assert_eq!(throttle.take_held(), 990);
        assert_eq!(throttle.next(clock.now()), Line::Write, "a window ends");
        assert_eq!(throttle.take_held(), 0);
    }

    #[test]
    fn what_is_held_is_told_once_though_windows_follow() {
        let (clock, throttle) = (Clock::simulated(0), Throttle::default());
        let mut told = 0;
        for _ in 0..3 {
            for _ in 0..12 {
                told += usize::from(matches!(
                    throttle.next(clock.now()),
                    Line::Hold { until: Some(_) }
                ));
            }
            clock.advance(WINDOW);
        }
        assert_eq!(told, 1, "nobody has asked for the count meanwhile");
        assert_eq!(throttle.take_held(), 6);
    }
}
