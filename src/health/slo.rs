//! Service-level objectives: how much of the error budget is left, and how fast it goes.
//!
//! Google, "The Site Reliability Workbook", chapter 5: with a target of 99.9 % a thousandth of
//! all events may be bad; the burn rate says how many times faster than that they are. An alert
//! looks at two windows at once: the long one says that it matters, the short one that it is
//! still going on.

use std::time::Duration;

use crate::buckets::Buckets;
use crate::clock::Instant;
use crate::error::{Error, Kind, Result};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// How loud an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Urgency {
    /// Somebody must look now.
    Page,
    /// Somebody must look on a working day.
    Ticket,
}

impl Urgency {
    /// The name used in events and health.
    pub fn as_str(self) -> &'static str {
        match self {
            Urgency::Page => "page",
            Urgency::Ticket => "ticket",
        }
    }
}

/// A rule of alerting: both windows must burn faster than `burn`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurnRule {
    /// How loud it is.
    pub urgency: Urgency,
    /// The burn rate that is too much.
    pub burn: f64,
    /// The window that says that it matters.
    pub long: Duration,
    /// The window that says that it goes on.
    pub short: Duration,
}

/// The workbook's rules, the loudest first.
pub const BURN_RULES: [BurnRule; 3] = [
    BurnRule { urgency: Urgency::Page, burn: 14.4, long: HOUR, short: MINUTE.saturating_mul(5) },
    BurnRule {
        urgency: Urgency::Page,
        burn: 6.0,
        long: HOUR.saturating_mul(6),
        short: MINUTE.saturating_mul(30),
    },
    BurnRule {
        urgency: Urgency::Ticket,
        burn: 1.0,
        long: DAY.saturating_mul(3),
        short: HOUR.saturating_mul(6),
    },
];

/// A share of good events, over a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    target: f64,
    period: Duration,
    min_events: u64,
}

impl Objective {
    /// `target` of all events are to be good, above 0.931 (or no burn rate would be a page) and
    /// below 1. A window with less than `min_events` says nothing.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for a target that leaves no budget or asks for nothing, and for a
    /// period below that of the longest window of the rules.
    pub fn new(target: f64, period: Duration, min_events: u64) -> Result<Objective> {
        let invalid = |field: &'static str, message: &str| {
            Err(Error::new(Kind::Configuration, "build objective", message).with("field", field))
        };
        // Below this the fastest burn that there is, everything bad, would not be a page.
        if !(1.0 / (1.0 - target) > BURN_RULES[0].burn && target < 1.0) {
            return invalid("target", "a target is above 0.931 and below 1: 0.999 is 99.9 %");
        }
        if period < DAY * 3 || period > DAY * 366 {
            return invalid("period", "the period of an objective is 3 to 366 days");
        }
        Ok(Objective { target, period, min_events: min_events.max(1) })
    }

    /// The share of events that is to be good.
    pub fn target(&self) -> f64 {
        self.target
    }

    /// Over how long.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// How many times faster than the objective allows events are bad, of which `ratio` are.
    pub fn burn_of(&self, ratio: f64) -> f64 {
        ratio / (1.0 - self.target)
    }

    /// The share of the whole budget that `window` at a rate of `burn` uses up.
    pub fn consumed(&self, burn: f64, window: Duration) -> f64 {
        burn * window.as_secs_f64() / self.period.as_secs_f64()
    }

    /// How long a full budget lasts at a rate of `burn`; `None` for ever.
    pub fn lasts(&self, burn: f64) -> Option<Duration> {
        Duration::try_from_secs_f64(self.period.as_secs_f64() / burn).ok()
    }

    /// The loudest alert, where `ratio` gives the share of bad events in a window; `None` says
    /// nothing about it.
    pub fn alert(&self, mut ratio: impl FnMut(Duration) -> Option<f64>) -> Option<Urgency> {
        let rule = BURN_RULES.iter().find(|rule| {
            let mut exceeds = |window| {
                // Not the rates themselves: dividing twice would round what is exactly at it.
                ratio(window).is_some_and(|bad| bad > rule.burn * (1.0 - self.target))
            };
            exceeds(rule.long) && exceeds(rule.short)
        });
        rule.map(|rule| rule.urgency)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    total: u64,
    bad: u64,
}

impl Count {
    fn take(&mut self, old: Count) {
        self.total = self.total.saturating_sub(old.total);
        self.bad = self.bad.saturating_sub(old.bad);
    }
}

/// The last events of one window, forgotten in steps of a thirtieth of it.
#[derive(Debug)]
struct Recent {
    window: Duration,
    sum: Count,
    buckets: Buckets<Count>,
}

/// Steps in which a window forgets.
const STEPS: u32 = 30;

impl Recent {
    fn new(window: Duration) -> Recent {
        let buckets = Buckets::new(STEPS as usize, window / STEPS);
        Recent { window, sum: Count::default(), buckets }
    }

    fn add(&mut self, now: Instant, good: u64, bad: u64) {
        let Recent { sum, buckets, .. } = self;
        let cell = buckets.at(now, |old| sum.take(old));
        for count in [cell, sum] {
            count.total = count.total.saturating_add(good).saturating_add(bad);
            count.bad = count.bad.saturating_add(bad);
        }
    }

    fn sum(&mut self, now: Instant) -> Count {
        let Recent { sum, buckets, .. } = self;
        buckets.at(now, |old| sum.take(old));
        *sum
    }
}

/// An objective, and what happened lately.
#[derive(Debug)]
pub struct Slo {
    objective: Objective,
    recent: Vec<Recent>,
    period: Recent,
}

impl Slo {
    /// Nothing has happened yet.
    pub fn new(objective: Objective) -> Slo {
        let mut windows: Vec<Duration> =
            BURN_RULES.iter().flat_map(|rule| [rule.long, rule.short]).collect();
        windows.sort_unstable();
        windows.dedup();
        Slo {
            objective,
            recent: windows.into_iter().map(Recent::new).collect(),
            period: Recent::new(objective.period),
        }
    }

    /// The objective.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// So many good and bad events happened.
    pub fn record(&mut self, now: Instant, good: u64, bad: u64) {
        for recent in self.recent.iter_mut().chain([&mut self.period]) {
            recent.add(now, good, bad);
        }
    }

    /// The share of bad events in one of the windows of [`BURN_RULES`], or in the period; `None`
    /// while there are too few events, and for another window.
    pub fn ratio(&mut self, now: Instant, window: Duration) -> Option<f64> {
        let all = self.recent.iter_mut().chain([&mut self.period]);
        let count = { all }.find(|recent| recent.window == window)?.sum(now);
        let enough = count.total >= self.objective.min_events;
        enough.then(|| count.bad as f64 / count.total as f64)
    }

    /// How fast the budget goes in such a window: at 1 it lasts exactly the period.
    pub fn burn(&mut self, now: Instant, window: Duration) -> Option<f64> {
        self.ratio(now, window).map(|ratio| self.objective.burn_of(ratio))
    }

    /// The loudest alert at present.
    pub fn alert(&mut self, now: Instant) -> Option<Urgency> {
        let objective = self.objective;
        objective.alert(|window| self.ratio(now, window))
    }

    /// The share of the budget of this period that is left; below zero when it is overdrawn.
    pub fn remaining(&mut self, now: Instant) -> f64 {
        let count = self.period.sum(now);
        if count.total == 0 {
            return 1.0;
        }
        1.0 - self.objective.burn_of(count.bad as f64 / count.total as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective() -> Objective {
        Objective::new(0.999, DAY * 30, 10).unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn sl_002_and_sl_003_what_a_burn_rate_means() {
        for (burn, hours, share) in [(14.4, 1, 0.02), (6.0, 6, 0.05), (1.0, 72, 0.1)] {
            let consumed = objective().consumed(burn, HOUR * hours);
            assert!((consumed - share).abs() < 1e-12, "{burn}: {consumed}");
        }
        assert_eq!(objective().lasts(14.4), Some(HOUR * 50));
        assert_eq!(objective().lasts(0.0), None);
    }

    #[test]
    fn a_short_outburst_pages_until_it_is_over() {
        let mut slo = Slo::new(objective());
        for second in 0..3_600 {
            slo.record(at(second), 10, 0);
        }
        assert_eq!(slo.alert(at(3_600)), None);
        // Every second event is bad: in three minutes that is 2.5 % of the hour.
        for second in 3_600..3_780 {
            slo.record(at(second), 5, 5);
        }
        assert_eq!(slo.alert(at(3_780)), Some(Urgency::Page));
        let left = slo.remaining(at(3_780));
        assert!(left < 0.0, "{left}: 900 of 37,800, and 37.8 are allowed");
        for second in 3_780..4_140 {
            slo.record(at(second), 10, 0);
        }
        // The hour is as bad, but its last five minutes are good: the first rule is content.
        assert_eq!(slo.burn(at(4_140), MINUTE * 5), Some(0.0));
        assert_eq!(slo.alert(at(4_140)), Some(Urgency::Page), "the half hour of the second rule");
        assert_eq!(slo.alert(at(4_140 + 3_600)), Some(Urgency::Ticket));
        assert_eq!(slo.alert(at(4_140 + 7 * 3_600)), None);
    }

    #[test]
    fn few_events_say_nothing() {
        let mut slo = Slo::new(objective());
        slo.record(at(0), 0, 9);
        assert_eq!((slo.burn(at(1), HOUR), slo.alert(at(1))), (None, None));
        slo.record(at(1), 0, 1);
        assert_eq!(slo.alert(at(1)), Some(Urgency::Page));
        assert_eq!(slo.ratio(at(1), MINUTE), None, "no rule has this window");
    }

    #[test]
    fn objectives_that_mean_nothing_are_refused() {
        for (target, days) in
            [(0.0, 30), (0.9, 30), (1.0, 30), (f64::NAN, 30), (0.99, 2), (0.99, 400)]
        {
            let error = Objective::new(target, DAY * days, 1).unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration);
        }
    }
}
