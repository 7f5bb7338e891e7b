//! What a user may choose of a circuit breaker, and which choices make sense together.

use std::time::Duration;

use crate::error::{Error, Kind, Result};

/// The most calls a window holds: its memory is bounded, two bytes a call.
const LARGEST: u32 = 1_000_000;

/// Over what a rate is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last so many calls.
    Calls(u32),
    /// The calls of the last while, in buckets of one second (a tenth of a window under 10 s).
    Time(Duration),
}

/// When a closed breaker opens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// After so many failures in a row.
    Consecutive {
        /// The failures in a row that open it.
        threshold: u32,
    },
    /// When so many of the last calls failed; the window need not be full.
    KOfN {
        /// The failures that open it.
        failures: u32,
        /// Of how many last calls.
        of: u32,
    },
    /// When a rate reaches its threshold, once there are enough calls to speak of a rate.
    Rate {
        /// The calls that count.
        window: Window,
        /// No verdict with fewer calls; more than a window of calls counts as the window.
        minimum: u32,
        /// Failed calls in percent, 0 (exclusive) to 100.
        failure_percent: f64,
        /// Slow calls in percent, 0 (exclusive) to 100.
        slow_percent: f64,
        /// A call is slow when it takes longer than this.
        slow: Duration,
    },
}

/// When a half-open breaker closes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfOpenRule {
    /// After so many successes in a row; one failure opens.
    Successes(u32),
    /// At `successes` of `of` probes; opens as soon as that is out of reach.
    KOfN {
        /// The successes that close it.
        successes: u32,
        /// Of how many probes.
        of: u32,
    },
    /// By the rates of [`Mode::Rate`], over `min(minimum, permits)` probes.
    Rate,
}

/// What becomes of a half-open breaker whose probes never came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    /// It opens again.
    Open,
    /// It closes.
    Closed,
}

/// The choices for one circuit breaker. The default is the requirement's: 5 failures in a row,
/// 30 s open, one probe.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerSettings {
    /// When it opens.
    pub mode: Mode,
    /// How long the first open period is.
    pub open_base: Duration,
    /// How much longer each open period is than the one before, until it has been closed.
    pub open_factor: f64,
    /// The longest open period.
    pub open_max: Duration,
    /// Spreads open periods by up to 10 % either way; `retry_after` stays exact.
    pub open_jitter: bool,
    /// How many probes run at once while half-open.
    pub half_open_permits: u32,
    /// When it closes; `None` follows the mode: one success, `of - failures + 1` of `of`, or the
    /// rates.
    pub half_open_rule: Option<HalfOpenRule>,
    /// The longest half-open period; `None` is the same as `open_base`. Probes that never come
    /// back must not hold a breaker half-open for ever, hence zero is refused.
    pub half_open_max: Option<Duration>,
    /// What happens when that has passed.
    pub on_timeout: OnTimeout,
    /// Seed of the open periods' jitter; random unless given.
    pub seed: Option<u64>,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        BreakerSettings {
            mode: Mode::Consecutive { threshold: 5 },
            open_base: Duration::from_secs(30),
            open_factor: 1.0,
            open_max: Duration::from_secs(3_600),
            open_jitter: false,
            half_open_permits: 1,
            half_open_rule: None,
            half_open_max: None,
            on_timeout: OnTimeout::Open,
            seed: None,
        }
    }
}

impl BreakerSettings {
    /// Opens after `threshold` failures in a row, for `reset` at a time.
    pub fn consecutive(threshold: u32, reset: Duration) -> Self {
        let mode = Mode::Consecutive { threshold };
        BreakerSettings { mode, ..Self::default() }.with_open(reset)
    }

    /// Opens in `mode`, everything else by default.
    pub fn with_mode(mode: Mode) -> Self {
        BreakerSettings { mode, ..Self::default() }
    }

    /// Sets the first open period, and makes room for it under the longest.
    #[must_use]
    pub fn with_open(mut self, base: Duration) -> Self {
        self.open_base = base;
        self.open_max = self.open_max.max(base);
        self
    }

    /// The rule of the half-open state, with the mode's default filled in.
    pub fn rule(&self) -> HalfOpenRule {
        self.half_open_rule.unwrap_or(match self.mode {
            Mode::Consecutive { .. } => HalfOpenRule::Successes(1),
            Mode::KOfN { failures, of } => {
                HalfOpenRule::KOfN { successes: (of - failures) + 1, of }
            }
            Mode::Rate { .. } => HalfOpenRule::Rate,
        })
    }

    /// The longest half-open period, with the default filled in.
    pub fn half_open_limit(&self) -> Duration {
        self.half_open_max.unwrap_or(self.open_base)
    }

    /// The length of the `trip`-th open period in a row (from 1): base * factor^(trip-1), at most
    /// the longest; without jitter.
    pub fn open_for(&self, trip: u32) -> Duration {
        let exponent = f64::from(trip.saturating_sub(1));
        let seconds = self.open_base.as_secs_f64() * self.open_factor.powf(exponent);
        // An overflow ends here too: no comparison with infinity or NaN is true.
        if seconds < self.open_max.as_secs_f64() {
            Duration::from_nanos((seconds * 1e9).round() as u64)
        } else {
            self.open_max
        }
    }

    /// Checks the choices against each other.
    ///
    /// # Errors
    /// [`Kind::Configuration`], naming the field.
    pub fn validate(&self) -> Result<()> {
        match self.mode {
            Mode::Consecutive { threshold: 0 } => {
                return Err(invalid("threshold", "`threshold` must be at least 1"));
            }
            Mode::KOfN { of, .. } | Mode::Rate { window: Window::Calls(of), .. }
                if of > LARGEST =>
            {
                return Err(invalid("window_calls", "a window holds at most 1,000,000 calls"));
            }
            Mode::KOfN { failures, of } if failures == 0 || failures > of => {
                return Err(invalid(
                    "threshold",
                    "`threshold` must be at least 1 and at most `of`",
                ));
            }
            Mode::Rate { window, minimum, failure_percent, slow_percent, .. } => {
                let longest = Duration::from_secs(86_400);
                match window {
                    Window::Calls(0) => {
                        return Err(invalid("window_calls", "`window_calls` must be at least 1"));
                    }
                    Window::Time(span) if span.is_zero() || span > longest => {
                        return Err(invalid(
                            "window_time",
                            "`window_time` must be above 0 and up to 24 h",
                        ));
                    }
                    _ => {}
                }
                if minimum == 0 {
                    return Err(invalid("minimum_calls", "`minimum_calls` must be at least 1"));
                }
                for (field, percent) in
                    [("failure_rate", failure_percent), ("slow_rate", slow_percent)]
                {
                    if !(percent > 0.0 && percent <= 100.0) {
                        let message = format!("`{field}` must be above 0 and at most 100 percent");
                        return Err(invalid(field, &message));
                    }
                }
            }
            _ => {}
        }
        if self.open_base.is_zero() {
            return Err(invalid("reset_timeout", "`reset_timeout` must be above 0"));
        }
        if self.open_max < self.open_base {
            return Err(invalid("reset_max", "`reset_max` is below `reset_timeout`"));
        }
        if !(self.open_factor.is_finite() && self.open_factor >= 1.0) {
            return Err(invalid("reset_factor", "`reset_factor` must be finite and at least 1"));
        }
        if self.half_open_permits == 0 {
            return Err(invalid("probes", "`probes` must be at least 1"));
        }
        if self.half_open_limit().is_zero() {
            let message = "`probe_timeout` must be above 0: half-open must end, or probes that never \
                           come back would hold it for ever";
            return Err(invalid("probe_timeout", message));
        }
        match self.half_open_rule {
            Some(HalfOpenRule::Successes(0)) => {
                Err(invalid("successes", "`successes` must be at least 1"))
            }
            Some(HalfOpenRule::KOfN { successes, of }) if successes == 0 || successes > of => Err(
                invalid("successes", "`successes` must be at least 1 and at most `successes_of`"),
            ),
            Some(HalfOpenRule::Rate) if !matches!(self.mode, Mode::Rate { .. }) => {
                Err(invalid("half_open_rule", "the rule `rate` needs the mode `rate`"))
            }
            _ => Ok(()),
        }
    }
}

fn invalid(field: &'static str, message: &str) -> Error {
    Error::new(Kind::Configuration, "build circuit breaker", message).with("field", field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_periods_grow_to_the_longest_and_never_overflow() {
        let settings = BreakerSettings {
            open_base: Duration::from_secs(5),
            open_factor: 1.5,
            open_max: Duration::from_secs(60),
            ..BreakerSettings::default()
        };
        let seconds = |trip| settings.open_for(trip).as_secs_f64();
        assert_eq!(
            [seconds(1), seconds(2), seconds(7), seconds(u32::MAX)],
            [5.0, 7.5, 56.953125, 60.0]
        );
    }

    #[test]
    fn choices_that_cannot_work_are_refused() {
        let base = BreakerSettings::default;
        let rate = |window, minimum, failure_percent| Mode::Rate {
            window,
            minimum,
            failure_percent,
            slow_percent: 100.0,
            slow: Duration::from_secs(60),
        };
        let wrong = [
            BreakerSettings::with_mode(Mode::Consecutive { threshold: 0 }),
            BreakerSettings::with_mode(Mode::KOfN { failures: 3, of: 2 }),
            BreakerSettings::with_mode(rate(Window::Calls(0), 1, 50.0)),
            BreakerSettings::with_mode(rate(Window::Calls(LARGEST + 1), 1, 50.0)),
            BreakerSettings::with_mode(rate(Window::Time(Duration::ZERO), 1, 50.0)),
            BreakerSettings::with_mode(rate(Window::Calls(9), 0, 50.0)),
            BreakerSettings::with_mode(rate(Window::Calls(9), 1, 0.0)),
            BreakerSettings::with_mode(rate(Window::Calls(9), 1, f64::NAN)),
            BreakerSettings { open_base: Duration::ZERO, ..base() },
            BreakerSettings { open_factor: 0.5, ..base() },
            BreakerSettings { open_max: Duration::from_secs(1), ..base() },
            BreakerSettings { half_open_permits: 0, ..base() },
            BreakerSettings { half_open_max: Some(Duration::ZERO), ..base() },
            BreakerSettings { half_open_rule: Some(HalfOpenRule::Rate), ..base() },
            BreakerSettings { half_open_rule: Some(HalfOpenRule::Successes(0)), ..base() },
        ];
        for settings in wrong {
            let error = settings.validate().expect_err("refused");
            assert_eq!(error.kind(), Kind::Configuration, "{settings:?}");
        }
        base().validate().expect("the default works");
    }
}
