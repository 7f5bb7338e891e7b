//! What follows a handler's failure, as users say it.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};

use super::args::{number_in, one_of, seconds_in, text_in, whole_in};
use super::resilience::PyBackoff;
use crate::bus::{Guard, Policy};
use crate::clock::Clock;
use crate::resilience::{Backoff, BreakerSettings, CircuitBreaker, Jitter, RetryPolicy};

/// The requirement's retry and breaker, for a bus that stands alone.
pub(super) fn standard_policy(
    clock: Clock,
    seed: Option<u64>,
) -> impl Fn(&str) -> crate::error::Result<Policy> + Send + Sync {
    move |name| {
        let breaker = BreakerSettings::default();
        let probes = breaker.half_open_permits as usize;
        let mut retry = RetryPolicy::builder();
        if let Some(seed) = seed {
            retry = retry.seed(seed);
        }
        Ok(Policy {
            retry: Some(Arc::new(retry.build()?)),
            guard: Some(Arc::new(Guard::new(
                CircuitBreaker::new(name, breaker, clock.clone())?,
                probes,
            ))),
            fallback: false,
        })
    }
}

/// `retry=False`, `retry=5` or `retry={"max_attempts": 5, "initial_delay": 0.1, ...}`.
pub(super) fn retry_policy(
    given: &Bound<'_, PyAny>,
    seed: Option<u64>,
) -> PyResult<Option<Arc<RetryPolicy>>> {
    let mut builder = RetryPolicy::builder();
    if let Some(seed) = seed {
        builder = builder.seed(seed);
    }
    if let Ok(flag) = given.cast::<PyBool>() {
        if !flag.is_true() {
            return Ok(None);
        }
    } else if let Ok(attempts) = given.extract::<u32>() {
        builder = builder.max_attempts(attempts);
    } else if let Ok(options) = given.cast::<PyDict>() {
        let (mut delay, mut multiplier, mut jitter) =
            (Duration::from_millis(100), 2.0, Jitter::Full);
        let mut cap = None;
        let mut whole: Option<Backoff> = None;
        for (name, value) in options.iter() {
            match name.extract::<String>()?.as_str() {
                "max_attempts" => {
                    builder = builder.max_attempts(whole_in("retry", "max_attempts", &value)?);
                }
                "initial_delay" => delay = seconds_in("retry", "initial_delay", &value)?,
                "multiplier" => multiplier = number_in("retry", "multiplier", &value)?,
                "max_delay" => cap = Some(seconds_in("retry", "max_delay", &value)?),
                "jitter" => {
                    jitter = match text_in("retry", "jitter", &value)? {
                        "none" => Jitter::None,
                        "full" => Jitter::Full,
                        "equal" => Jitter::Equal,
                        other => return Err(one_of("jitter", other, &["none", "full", "equal"])),
                    }
                }
                "backoff" => {
                    let backoff = value.cast::<PyBackoff>().map_err(|_| {
                        let said = "retry: backoff is a tiebeam.resilience.Backoff, got";
                        PyTypeError::new_err(format!("{said} {}", value.get_type()))
                    })?;
                    whole = Some(backoff.get().inner().clone());
                }
                other => {
                    let known = [
                        "max_attempts",
                        "initial_delay",
                        "multiplier",
                        "max_delay",
                        "jitter",
                        "backoff",
                    ];
                    return Err(one_of("a key of `retry`", other, &known));
                }
            }
        }
        if let Some(backoff) = whole {
            for own in ["initial_delay", "multiplier", "max_delay", "jitter"] {
                if options.contains(own)? {
                    let said = format!("retry: `backoff` has its own {own}; leave one of them out");
                    return Err(PyValueError::new_err(said));
                }
            }
            return Ok(Some(Arc::new(builder.backoff(backoff).build()?)));
        }
        if let Some(cap) = cap.filter(|cap| *cap < delay) {
            let (cap, delay) = (cap.as_secs_f64(), delay.as_secs_f64());
            return Err(PyValueError::new_err(format!(
                "retry: max_delay ({cap} s) must not be shorter than initial_delay ({delay} s)"
            )));
        }
        let cap = cap.unwrap_or_else(|| delay.max(Duration::from_secs(10)));
        let backoff = Backoff::exponential(delay, multiplier).with_cap(cap).with_jitter(jitter);
        builder = builder.backoff(backoff);
    } else {
        return Err(PyTypeError::new_err(format!(
            "retry must be False, a number of attempts or a dict, got {}",
            given.repr()?
        )));
    }
    Ok(Some(Arc::new(builder.build()?)))
}
