//! From single results to a verdict that does not flicker.

use super::status::Verdict;
use crate::error::{Error, Kind, Result};

/// How many results in a row it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Good results until `pass`.
    pub success: u32,
    /// Failed results until `warn`.
    pub warn: u32,
    /// Failed results until `fail`.
    pub fail: u32,
}

impl Default for Thresholds {
    /// One success; the requirement's three failures, of which the first two change nothing.
    fn default() -> Self {
        Thresholds { success: 1, warn: 3, fail: 3 }
    }
}

impl Thresholds {
    /// Checks the figures against each other.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for a zero and for a warning that would come after the failure.
    pub fn validate(&self) -> Result<()> {
        if self.success == 0 || self.warn == 0 || self.warn > self.fail {
            let message = format!(
                "thresholds must be at least 1 and `warn` at most `fail`: \
                 success {}, warn {}, fail {}",
                self.success, self.warn, self.fail
            );
            return Err(Error::new(Kind::Configuration, "build check", message));
        }
        Ok(())
    }
}

/// What one result did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The verdict now.
    pub verdict: Verdict,
    /// Whether a threshold was reached, even if the verdict stayed.
    pub applied: bool,
    /// Whether the verdict is another than before.
    pub changed: bool,
}

/// Consecutive results against thresholds. The very first result applies at once.
#[derive(Clone, Debug)]
pub struct Hysteresis {
    thresholds: Thresholds,
    verdict: Verdict,
    fresh: bool,
    good: u32,
    unfailed: u32,
    failed: u32,
    check_errors: u64,
}

impl Hysteresis {
    /// Nothing known yet.
    pub fn new(thresholds: Thresholds) -> Self {
        Hysteresis {
            thresholds,
            verdict: Verdict::Unknown,
            fresh: true,
            good: 0,
            unfailed: 0,
            failed: 0,
            check_errors: 0,
        }
    }

    /// Begins with `verdict`, which the first result must move like any other.
    pub fn starting_at(thresholds: Thresholds, verdict: Verdict) -> Self {
        Hysteresis { verdict, fresh: false, ..Hysteresis::new(thresholds) }
    }

    /// Forgets everything but how often the check said nothing.
    pub fn begin_anew(&mut self) {
        let anew = Hysteresis::new(self.thresholds);
        *self = Hysteresis { check_errors: self.check_errors, ..anew };
    }

    /// Counts on where `before` has come to: how often the check said nothing.
    pub fn follow(&mut self, before: &Hysteresis) {
        self.check_errors += before.check_errors;
    }

    /// The verdict now.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Failed results in a row.
    pub fn consecutive_failures(&self) -> u32 {
        self.failed
    }

    /// Results that were no result: the check itself crashed or was aborted.
    pub fn check_errors(&self) -> u64 {
        self.check_errors
    }

    /// Takes one result. `Unknown` and `OutOfService` are neutral: the check said nothing.
    pub fn feed(&mut self, result: Verdict) -> Step {
        let Thresholds { success, warn, fail } = self.thresholds;
        let verdict = match result {
            Verdict::Pass => {
                self.good = self.good.saturating_add(1);
                self.unfailed = self.unfailed.saturating_add(1);
                self.failed = 0;
                (self.good >= success).then_some(Verdict::Pass)
            }
            Verdict::Warn => {
                (self.good, self.failed) = (0, 0);
                self.unfailed = self.unfailed.saturating_add(1);
                // A warning is the check's own word, not a suspicion: it shows at once, except
                // where it is the way back from a failure.
                let shows = self.verdict != Verdict::Fail || self.unfailed >= success;
                shows.then_some(Verdict::Warn)
            }
            Verdict::Fail => {
                (self.good, self.unfailed) = (0, 0);
                self.failed = self.failed.saturating_add(1);
                if self.failed >= fail {
                    Some(Verdict::Fail)
                } else {
                    // A failure is never good news, even the first after a lone success.
                    let suspect = self.verdict != Verdict::Fail && self.failed >= warn;
                    suspect.then_some(Verdict::Warn)
                }
            }
            Verdict::Unknown | Verdict::OutOfService => {
                self.check_errors += 1;
                return Step { verdict: self.verdict, applied: false, changed: false };
            }
        };
        let verdict = if std::mem::take(&mut self.fresh) { Some(result) } else { verdict };
        let before = self.verdict;
        self.verdict = verdict.unwrap_or(before);
        Step { verdict: self.verdict, applied: verdict.is_some(), changed: self.verdict != before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut hysteresis: Hysteresis, feed: &str) -> (String, usize) {
        let mut updates = 0;
        let letters = feed.chars().map(|result| {
            let step = hysteresis.feed(match result {
                'P' => Verdict::Pass,
                'W' => Verdict::Warn,
                'F' => Verdict::Fail,
                _ => Verdict::Unknown,
            });
            updates += usize::from(step.applied);
            match step.verdict {
                Verdict::Pass => 'p',
                Verdict::Warn => 'w',
                Verdict::Fail => 'f',
                _ => '?',
            }
        });
        (letters.collect(), updates)
    }

    fn thresholds(success: u32, warn: u32, fail: u32) -> Hysteresis {
        Hysteresis::new(Thresholds { success, warn, fail })
    }

    #[test]
    fn he_012_to_he_015_only_results_in_a_row_count() {
        for (case, hysteresis, feed, expected, updates) in [
            ("he-012", thresholds(2, 2, 3), "PFFFPP", "ppwffp", 4),
            ("he-013", thresholds(2, 2, 3), "PFPFPFFFPFPP", "ppppppwffffp", 4),
            ("he-015", thresholds(3, 3, 5), "PFFFPFFFPFFFPFFFFF", "pppwwwwwwwwwwwwwwf", 7),
        ] {
            assert_eq!(run(hysteresis, feed), (expected.to_string(), updates), "{case}");
        }
    }

    #[test]
    fn he_016_and_he_017_an_initial_failure_must_be_overcome() {
        for (case, success, fail, feed, expected) in [
            ("he-016", 1, 3, "PPPFFFFFPPPFFFFF", "pppppfffpppppfff"),
            ("he-017", 3, 1, "PPPPPFPPPPPF", "ffpppfffpppf"),
        ] {
            let thresholds = Thresholds { success, warn: fail, fail };
            let hysteresis = Hysteresis::starting_at(thresholds, Verdict::Fail);
            assert_eq!(run(hysteresis, feed).0, expected, "{case}");
        }
    }

    #[test]
    fn the_first_result_applies_at_once_and_a_crash_says_nothing() {
        assert_eq!(run(thresholds(2, 2, 3), "F").0, "f");
        let mut hysteresis = thresholds(1, 2, 3);
        assert_eq!(hysteresis.feed(Verdict::Unknown).verdict, Verdict::Unknown);
        hysteresis.feed(Verdict::Pass);
        hysteresis.feed(Verdict::Unknown);
        assert_eq!((hysteresis.verdict(), hysteresis.check_errors()), (Verdict::Pass, 2));
    }

    #[test]
    fn warnings_warn_and_never_fail() {
        assert_eq!(run(thresholds(1, 2, 3), "PWWWWW").0, "pwwwww");
        assert_eq!(run(thresholds(1, 2, 3), "PFFWF").0, "ppwww");
        assert_eq!(run(thresholds(2, 2, 3), "FWW").0, "ffw");
    }

    #[test]
    fn thresholds_that_cannot_be_reached_in_order_are_refused() {
        for (success, warn, fail) in [(0, 1, 1), (1, 0, 1), (1, 3, 2)] {
            assert!(Thresholds { success, warn, fail }.validate().is_err());
        }
        Thresholds::default().validate().unwrap();
    }
}
