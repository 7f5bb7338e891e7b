//! How many retries a dependency gets in total, whoever retries.
//!
//! A budget is shared by all callers of one dependency. Each call [enters](RetryBudget::enter) it
//! and asks its [`BudgetedCall`] before each retry.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::buckets::Buckets;
use crate::clock::{Clock, Instant};
use crate::error::{Error, Kind, Result};

/// Which rule limits the retries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BudgetRule {
    /// Finagle: calls deposit, retries withdraw; a reserve serves rare callers.
    Token {
        /// Retries per call, 0 to 1000.
        ratio: f64,
        /// Retries per second that need no deposits.
        min_per_second: u32,
        /// How long deposits and withdrawals count, 1 to 60 s.
        ttl: Duration,
    },
    /// gRPC A6: a retryable failure takes a token, a success gives `ratio` back; retries while
    /// more than half of the tokens are there.
    Throttle {
        /// Tokens at most and at first.
        max: f64,
        /// Tokens per success.
        ratio: f64,
    },
    /// Envoy: calls that are in a retry, waiting or running, at most a share of all calls.
    Concurrency {
        /// Retrying calls per active call, 0 to 1.
        ratio: f64,
        /// So many may always retry.
        min: u32,
    },
    /// Google SRE: refuses with probability (n - ok / target) / (n + 1), at most 0.9.
    Adaptive {
        /// The share of successes that is good enough, above 0 to 1.
        target: f64,
        /// Refuses nothing with fewer calls in the window.
        threshold: u32,
        /// How long outcomes count; one to two minutes is usual.
        window: Duration,
    },
}

impl Default for BudgetRule {
    /// Finagle's: a fifth of the calls, 10 per second, 10 s.
    fn default() -> Self {
        BudgetRule::Token { ratio: 0.2, min_per_second: 10, ttl: Duration::from_secs(10) }
    }
}

/// Buckets in the windows of the token and the adaptive rule.
const SLOTS: u32 = 10;
/// What a call deposits; a fine grain, so that the price of a retry can be a whole number.
const DEPOSIT: i64 = 1_000;

enum Ledger {
    Token { deposit: i64, cost: i64, reserve: i64, sum: i64, slots: Buckets<i64> },
    Throttle { max: f64, ratio: f64, tokens: f64 },
    Concurrency { ratio: f64, min: u32, active: u32, retrying: u32 },
    Adaptive { target: f64, threshold: u32, sum: (u64, u64), slots: Buckets<(u64, u64)> },
}

struct Shared {
    ledger: Ledger,
    rng: fastrand::Rng,
}

/// One dependency's budget; clones share it.
#[derive(Clone)]
pub struct RetryBudget {
    clock: Clock,
    shared: Arc<Mutex<Shared>>,
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RetryBudget(balance {})", self.balance())
    }
}

impl RetryBudget {
    /// A full budget under `rule`.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for figures outside their range.
    pub fn new(rule: BudgetRule, clock: Clock) -> Result<Self> {
        RetryBudget::seeded(rule, clock, fastrand::u64(..))
    }

    /// As [`RetryBudget::new`]; the same seed refuses the same retries under the adaptive rule.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for figures outside their range.
    pub fn seeded(rule: BudgetRule, clock: Clock, seed: u64) -> Result<Self> {
        let ledger = Ledger::new(rule)?;
        let rng = fastrand::Rng::with_seed(seed);
        Ok(RetryBudget { clock, shared: Arc::new(Mutex::new(Shared { ledger, rng })) })
    }

    /// A first attempt begins.
    pub fn enter(&self) -> BudgetedCall {
        self.deposit();
        self.resume()
    }

    /// A first attempt begins of a call that [resumes](RetryBudget::resume) only if it fails. A
    /// rule that follows calls to their end takes no notice of it: they are to
    /// [enter](RetryBudget::enter).
    pub fn deposit(&self) {
        let now = self.clock.now();
        if let Ledger::Token { deposit, sum, slots, .. } = &mut self.shared.lock().ledger {
            *slots.at(now, |old| *sum -= old) += *deposit;
            *sum += *deposit;
        }
    }

    /// Goes on with a call whose first attempt was counted elsewhere: as [`RetryBudget::enter`],
    /// without a deposit.
    pub fn resume(&self) -> BudgetedCall {
        if let Ledger::Concurrency { active, .. } = &mut self.shared.lock().ledger {
            *active += 1;
        }
        BudgetedCall { budget: self.clone(), retrying: false }
    }

    /// What is left: retries (token, concurrency), tokens (throttle), or the probability that a
    /// retry is granted (adaptive).
    pub fn balance(&self) -> f64 {
        let now = self.clock.now();
        match &mut self.shared.lock().ledger {
            Ledger::Token { cost, reserve, sum, slots, .. } => {
                slots.at(now, |old| *sum -= old);
                ((*reserve + *sum).max(0) / *cost) as f64
            }
            Ledger::Throttle { tokens, .. } => *tokens,
            Ledger::Concurrency { ratio, min, active, retrying } => {
                f64::from(allowed(*ratio, *min, *active).saturating_sub(*retrying))
            }
            Ledger::Adaptive { target, threshold, sum, slots } => {
                forget(slots, sum, now);
                1.0 - refusal(sum.0, sum.1, *target, *threshold)
            }
        }
    }
}

/// One call within a budget; dropping it ends the call.
#[derive(Debug)]
#[must_use = "the call counts as active only while this lives"]
pub struct BudgetedCall {
    budget: RetryBudget,
    retrying: bool,
}

impl BudgetedCall {
    /// Asks for one retry, and pays for it. Ask last: a refused wait must not cost a token.
    pub fn retry(&mut self) -> bool {
        let now = self.budget.clock.now();
        let mut shared = self.budget.shared.lock();
        let Shared { ledger, rng } = &mut *shared;
        match ledger {
            Ledger::Token { cost, reserve, sum, slots, .. } => {
                let slot = slots.at(now, |old| *sum -= old);
                let granted = *reserve + *sum >= *cost;
                if granted {
                    *slot -= *cost;
                    *sum -= *cost;
                }
                granted
            }
            Ledger::Throttle { max, tokens, .. } => *tokens > *max / 2.0,
            Ledger::Concurrency { ratio, min, active, retrying } => {
                // A call that retries again already holds its place.
                let granted = self.retrying || *retrying < allowed(*ratio, *min, *active);
                *retrying += u32::from(granted && !self.retrying);
                self.retrying |= granted;
                granted
            }
            Ledger::Adaptive { target, threshold, sum, slots } => {
                forget(slots, sum, now);
                rng.f64() >= refusal(sum.0, sum.1, *target, *threshold)
            }
        }
    }

    /// An attempt succeeded.
    pub fn succeeded(&self) {
        self.outcome(true);
    }

    /// An attempt failed in a way that could be retried.
    pub fn failed(&self) {
        self.outcome(false);
    }

    fn outcome(&self, ok: bool) {
        let now = self.budget.clock.now();
        match &mut self.budget.shared.lock().ledger {
            Ledger::Throttle { max, ratio, tokens } => {
                let change = if ok { *ratio } else { -1.0 };
                *tokens = (*tokens + change).clamp(0.0, *max);
            }
            Ledger::Adaptive { sum, slots, .. } => {
                forget(slots, sum, now);
                let slot = slots.at(now, |_| ());
                for count in [slot, sum] {
                    count.0 += 1;
                    count.1 += u64::from(ok);
                }
            }
            Ledger::Token { .. } | Ledger::Concurrency { .. } => {}
        }
    }
}

impl Drop for BudgetedCall {
    fn drop(&mut self) {
        if let Ledger::Concurrency { active, retrying, .. } = &mut self.budget.shared.lock().ledger
        {
            *active -= 1;
            *retrying -= u32::from(self.retrying);
        }
    }
}

impl Ledger {
    fn new(rule: BudgetRule) -> Result<Ledger> {
        let invalid = |field: &'static str, range: &str| {
            let message = format!("budget `{field}` must be {range}");
            Err(Error::new(Kind::Configuration, "build retry budget", message).with("field", field))
        };
        let second = Duration::from_secs(1);
        Ok(match rule {
            BudgetRule::Token { ratio, min_per_second, ttl } => {
                if !(0.0..=1_000.0).contains(&ratio) {
                    return invalid("ratio", "0 to 1000");
                }
                if !(second..=second * 60).contains(&ttl) {
                    return invalid("ttl", "1 to 60 s");
                }
                // Without a ratio only the reserve counts, and its unit is the retry itself.
                let (deposit, cost) = if ratio == 0.0 {
                    (0, 1)
                } else {
                    (DEPOSIT, ((DEPOSIT as f64 / ratio) as i64).max(1))
                };
                let retries = (f64::from(min_per_second) * ttl.as_secs_f64()) as i64;
                let reserve = retries.saturating_mul(cost);
                let slots = Buckets::new(SLOTS as usize, ttl / SLOTS);
                Ledger::Token { deposit, cost, reserve, sum: 0, slots }
            }
            BudgetRule::Throttle { max, ratio } => {
                if !(max.is_finite() && max > 0.0) {
                    return invalid("max", "finite and above 0");
                }
                if !(ratio.is_finite() && ratio > 0.0) {
                    return invalid("ratio", "finite and above 0");
                }
                Ledger::Throttle { max, ratio, tokens: max }
            }
            BudgetRule::Concurrency { ratio, min } => {
                if !(0.0..=1.0).contains(&ratio) {
                    return invalid("ratio", "0 to 1");
                }
                Ledger::Concurrency { ratio, min, active: 0, retrying: 0 }
            }
            BudgetRule::Adaptive { target, threshold, window } => {
                if !(target > 0.0 && target <= 1.0) {
                    return invalid("target", "above 0 and at most 1");
                }
                if window.is_zero() {
                    return invalid("window", "above 0");
                }
                let slots = Buckets::new(SLOTS as usize, window / SLOTS);
                Ledger::Adaptive { target, threshold, sum: (0, 0), slots }
            }
        })
    }
}

/// Envoy: `max(min, floor(ratio * active))`.
fn allowed(ratio: f64, min: u32, active: u32) -> u32 {
    min.max((ratio * f64::from(active)).floor() as u32)
}

/// Google SRE, "Handling Overload": the probability that a call is refused.
fn refusal(calls: u64, ok: u64, target: f64, threshold: u32) -> f64 {
    if calls < u64::from(threshold) {
        return 0.0;
    }
    let calls = calls as f64;
    ((calls - ok as f64 / target) / (calls + 1.0)).clamp(0.0, 0.9)
}

fn forget(slots: &mut Buckets<(u64, u64)>, sum: &mut (u64, u64), now: Instant) {
    slots.at(now, |old| {
        sum.0 -= old.0;
        sum.1 -= old.1;
    });
}

#[cfg(test)]
mod tests;
