//! Delayed events: they wait on the broker, in one queue after the other.
//!
//! The time that is left, in steps of 100 ms, is a number in binary. For each of its digits there
//! is an exchange; behind it a queue whose messages expire after as long as that digit is worth.
//! The routing key begins with the digits: where one is 1, the event waits in the queue of that
//! level and goes on to the next lower one when it expires; where it is 0, it goes on at once.
//! Behind the lowest level is the exchange of what is due. No process of ours takes part, so that
//! none has to be there; what expires is handed on at least once.

use std::time::Duration;

/// How many digits there are. One more, and the highest would last longer than the broker allows: 49
/// days. All of them together are 77 days.
pub(super) const LEVELS: u32 = 26;

/// The most steps there are.
pub(super) const MOST: u32 = (1 << LEVELS) - 1;

/// What the lowest is worth.
const STEP_MS: u64 = 100;

/// How many steps are waited for `left`: never too few.
pub(super) fn steps(left: Duration) -> Option<u32> {
    let steps = u64::try_from(left.as_millis()).ok()?.div_ceil(STEP_MS);
    u32::try_from(steps).ok().filter(|steps| *steps <= MOST)
}

/// For how long an event can be delayed.
pub(super) fn most() -> Duration {
    Duration::from_millis(STEP_MS * u64::from(MOST))
}

/// How long an event waits at `level`, in milliseconds.
pub(super) fn wait_ms(level: u32) -> u64 {
    STEP_MS << level
}

/// The highest level at which an event waits, which is where it is published to.
pub(super) fn highest(steps: u32) -> u32 {
    steps.max(1).ilog2()
}

/// The levels at which it waits.
pub(super) fn levels(steps: u32) -> impl Iterator<Item = u32> {
    (0..LEVELS).filter(move |level| steps & (1u32 << level) != 0)
}

/// How a key begins: one word for each level, the highest first.
pub(super) fn digits(steps: u32) -> String {
    let digit = |level: u32| if steps & (1u32 << level) != 0 { "1." } else { "0." };
    (0..LEVELS).rev().map(digit).collect()
}

/// The keys with `digit` at `level`.
pub(super) fn pattern(level: u32, digit: char) -> String {
    let before = "*.".repeat((LEVELS - 1 - level) as usize);
    format!("{before}{digit}.#")
}

/// How a pattern of keys begins that lets any time stand before the rest.
pub(super) fn any() -> String {
    "*.".repeat(LEVELS as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_too_early_and_little_too_late() {
        for ms in [1, 99, 100, 101, 1_500, 86_400_000] {
            let steps = steps(Duration::from_millis(ms)).expect("in range");
            let waits: u64 = levels(steps).map(wait_ms).sum();
            assert!((ms..ms + STEP_MS).contains(&waits), "{ms} ms: {waits}");
            assert_eq!(levels(steps).max(), Some(highest(steps)));
        }
        assert_eq!(steps(Duration::from_secs(100 * 366 * 86_400)), None);
    }

    #[test]
    fn at_each_level_one_way_leads_on() {
        let key = format!("{}topic.a.b", digits(0b101));
        let matches = |pattern: &str| {
            let words = pattern.split('.').zip(key.split('.'));
            words.take_while(|(word, _)| *word != "#").all(|(p, k)| p == "*" || p == k)
        };
        for level in 0..LEVELS {
            let goes = |digit| matches(&pattern(level, digit));
            assert_eq!(goes('1'), level == 0 || level == 2);
            assert_eq!(goes('0'), !goes('1'));
        }
        assert!(matches(&format!("{}topic.a.*", any())));
    }
}
