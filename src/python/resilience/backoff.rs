//! Schedules of waits.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::options::Options;
use crate::python::args::{Given, number_in, seconds_in};
use crate::resilience::{Backoff, Draws, Jitter};

const OPTIONS: [&str; 6] =
    ["max_delay", "min_delay", "jitter", "jitter_amount", "hard_cap", "max_server_delay"];
const JITTERS: [&str; 5] = ["none", "full", "equal", "factor", "down"];

/// How long to wait before each further attempt: a curve, a cap, a jitter.
///
/// Made by `constant`, `linear`, `exponential`, `fibonacci`, `sequence`, `decorrelated`, `smooth`
/// or `geometric`. Delays are in seconds (or timedeltas); attempt 1 is the wait after the first
/// failure. Each takes `max_delay`, `min_delay`, `jitter` (`"full"`, the default, `"none"`,
/// `"equal"`, `"factor"` or `"down"`, the latter two with `jitter_amount`, 0 to 1) and
/// `max_server_delay`, the longest wait that a server's hint may ask for.
///
/// With `c` the wait after the cap and `R` uniform in [0, 1): `full` is `R * c`, `equal` is
/// `c/2 + R * c/2`, `factor` is `c * (1 - a + 2aR)`, never above the cap unless `hard_cap=False`,
/// `down` is `c * (1 - aR)` (AWS Architecture Blog, "Exponential Backoff And Jitter").
#[pyclass(name = "Backoff", module = "tiebeam.resilience", frozen, eq)]
#[derive(PartialEq)]
pub(crate) struct PyBackoff {
    backoff: Backoff,
    kind: &'static str,
}

impl PyBackoff {
    pub(crate) fn inner(&self) -> &Backoff {
        &self.backoff
    }

    fn made(
        kind: &'static str,
        backoff: Backoff,
        given: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBackoff> {
        let backoff = match given {
            Some(given) => finished(backoff, given)?,
            None => backoff,
        };
        backoff.validate()?;
        Ok(PyBackoff { backoff, kind })
    }
}

fn delay(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Duration> {
    seconds_in("backoff", name, given)
}

fn finished(backoff: Backoff, given: &Bound<'_, PyDict>) -> PyResult<Backoff> {
    let options = Options::new("backoff", given, &OPTIONS)?;
    let mut backoff = backoff;
    if let Some(cap) = options.seconds("max_delay")? {
        backoff = backoff.with_cap(cap);
    }
    if let Some(floor) = options.seconds("min_delay")? {
        backoff = backoff.with_floor(floor);
    }
    if let Some(limit) = options.seconds("max_server_delay")? {
        backoff = backoff.with_max_server_delay(limit);
    }
    let amount = options.number("jitter_amount")?;
    let hard_cap = options.flag("hard_cap")?;
    let jitter = options.choice("jitter", &JITTERS)?;
    let word = jitter.as_deref();
    if amount.is_some() && !matches!(word, Some("factor" | "down")) {
        return Err(options.refuse("jitter_amount", "only `factor` and `down` have an amount"));
    }
    if hard_cap.is_some() && word != Some("factor") {
        return Err(options.refuse("hard_cap", "only `factor` goes above the wait"));
    }
    let Some(word) = word else { return Ok(backoff) };
    Ok(backoff.with_jitter(match word {
        "none" => Jitter::None,
        "equal" => Jitter::Equal,
        "factor" => {
            Jitter::Factor { amount: amount.unwrap_or(0.5), hard_cap: hard_cap.unwrap_or(true) }
        }
        "down" => Jitter::Down { amount: amount.unwrap_or(0.5) },
        _ => Jitter::Full,
    }))
}

#[pymethods]
impl PyBackoff {
    /// Always `delay`.
    #[staticmethod]
    #[pyo3(signature = (delay, **options))]
    fn constant(
        delay: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBackoff> {
        let base = self::delay("delay", delay)?;
        PyBackoff::made("constant", Backoff::constant(base), options)
    }

    /// `increment` seconds more each time; a negative one shrinks the wait to zero.
    #[staticmethod]
    #[pyo3(signature = (initial_delay, increment, **options))]
    fn linear(
        initial_delay: &Bound<'_, PyAny>,
        increment: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBackoff> {
        let base = delay("initial_delay", initial_delay)?;
        let increment = number_in("backoff", "increment", increment)?;
        PyBackoff::made("linear", Backoff::linear(base, increment), options)
    }

    /// `multiplier` times longer each time.
    #[staticmethod]
    #[pyo3(signature = (initial_delay, multiplier=2.0, **options))]
    fn exponential(
        initial_delay: &Bound<'_, PyAny>,
        multiplier: f64,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBackoff> {
        let base = delay("initial_delay", initial_delay)?;
        PyBackoff::made("exponential", Backoff::exponential(base, multiplier), options)
    }

    /// 1, 1, 2, 3, 5, ... times `initial_delay`.
    #[staticmethod]
    #[pyo3(signature = (initial_delay, **options))]
    fn fibonacci(
        initial_delay: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBackoff> {
        let base = delay("initial_delay", initial_delay)?;
        PyBackoff::made("fibonacci", Backoff::fibonacci(base), options)
    }

    /// These waits in turn, the last one for ever.
    #[staticmethod]
    #[pyo3(signature = (delays, **options))]
    fn sequence(
        delays: Vec<Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBackoff> {
        let waits = delays.iter().map(|wait| delay("delays", wait)).collect::<PyResult<_>>()?;
        PyBackoff::made("sequence", Backoff::list(waits), options)
    }

    /// Between `initial_delay` and three times the wait before; random in itself (AWS).
    #[staticmethod]
    #[pyo3(signature = (initial_delay, **options))]
    fn decorrelated(
        initial_delay: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBackoff> {
        let base = delay("initial_delay", initial_delay)?;
        PyBackoff::made("decorrelated", Backoff::decorrelated(base), options)
    }

    /// Doubling around `initial_delay`, smoothly spread; random in itself (Polly V2).
    #[staticmethod]
    #[pyo3(signature = (initial_delay, **options))]
    fn smooth(
        initial_delay: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBackoff> {
        let base = delay("initial_delay", initial_delay)?;
        PyBackoff::made("smooth", Backoff::smooth(base), options)
    }

    /// From `initial_delay` to `max_delay` in `steps` equal ratios (systemd).
    #[staticmethod]
    #[pyo3(signature = (initial_delay, max_delay, steps, **options))]
    fn geometric(
        initial_delay: &Bound<'_, PyAny>,
        max_delay: &Bound<'_, PyAny>,
        steps: u32,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBackoff> {
        let (base, cap) = (delay("initial_delay", initial_delay)?, delay("max_delay", max_delay)?);
        PyBackoff::made("geometric", Backoff::geometric(base, steps, cap), options)
    }

    /// The first `count` waits in seconds; `None` for one that outgrew all bounds.
    ///
    /// `seed` repeats them; `random` is what every draw returns, 0 for the lower edge of a jitter
    /// and 1 for the upper.
    #[pyo3(signature = (count, *, seed=None, random=None))]
    fn delays<'py>(
        &self,
        py: Python<'py>,
        count: u32,
        seed: Option<u64>,
        random: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut draws = draws(seed, random);
        let waits = (1..=count).map(|n| self.backoff.wait(n, &mut draws, None).map(as_seconds));
        PyList::new(py, waits.collect::<Vec<_>>())
    }

    /// The wait after failure number `attempt`, in seconds; `hint` is what a server asked for.
    #[pyo3(signature = (attempt, *, hint=None, seed=None, random=None))]
    fn delay(
        &self,
        attempt: u32,
        hint: Given<'_, '_>,
        seed: Option<u64>,
        random: Option<f64>,
    ) -> PyResult<Option<f64>> {
        let hint = hint.map(|hint| delay("hint", hint)).transpose()?;
        Ok(self.backoff.wait(attempt, &mut draws(seed, random), hint).map(as_seconds))
    }

    fn __repr__(&self) -> String {
        let mut draws = Draws::fixed(1.0);
        let waits = (1..=4).map(|n| self.backoff.wait(n, &mut draws, None));
        let waits: Vec<String> = waits
            .map(|wait| wait.map_or_else(|| "none".into(), |wait| format!("{wait:?}")))
            .collect();
        format!("<Backoff {}: at most {}, ...>", self.kind, waits.join(", "))
    }
}

fn draws(seed: Option<u64>, random: Option<f64>) -> Draws {
    match (random, seed) {
        (Some(random), _) => Draws::fixed(random),
        (None, Some(seed)) => Draws::seeded(seed),
        (None, None) => Draws::from_rng(fastrand::Rng::new()),
    }
}

fn as_seconds(wait: Duration) -> f64 {
    wait.as_secs_f64()
}
