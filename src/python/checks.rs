//! Checks as Python describes them, and what they answer.

use std::time::Duration;

use pyo3::prelude::*;

use super::args;
use super::bridge::with_python;
use super::payload;
use crate::config::HealthSettings;
use crate::error::{Error, Kind, Result};
use crate::health::{Check, CheckKind, Criticality, Limits, Thresholds, Verdict};
use crate::registry::{HealthAnswer, health_thresholds};

/// The options of one check.
struct Said<'a, 'py> {
    /// What it is called in errors: whose it is, too.
    what: String,
    options: &'a Bound<'py, PyAny>,
}

impl<'py> Said<'_, 'py> {
    /// What an option is called in errors, and what was given for it; none if nothing was.
    fn given(&self, option: &str) -> PyResult<(String, Option<Bound<'py, PyAny>>)> {
        let given = self.options.get_item(option)?;
        Ok((format!("{}: {option}", self.what), (!given.is_none()).then_some(given)))
    }

    fn flag(&self, option: &str) -> PyResult<bool> {
        let (at, given) = self.given(option)?;
        Ok(args::flag(&at, given.as_ref())?.unwrap_or_default())
    }

    fn seconds(&self, option: &str) -> PyResult<Option<Duration>> {
        let (at, given) = self.given(option)?;
        args::seconds(&at, given.as_ref())
    }

    fn whole(&self, option: &str) -> PyResult<Option<u32>> {
        let (at, given) = self.given(option)?;
        args::whole(&at, given.as_ref())
    }

    fn number(&self, option: &str) -> PyResult<Option<f64>> {
        let (at, given) = self.given(option)?;
        args::number(&at, given.as_ref())
    }
}

/// A check of `component`; what it does not say itself, the section `health` says.
pub(super) fn read_check(
    component: &str,
    said: &Bound<'_, PyAny>,
    health: &HealthSettings,
) -> PyResult<Check> {
    let name: String = said.get_item("name")?.extract()?;
    let said = Said { what: format!("check {name:?} of `{component}`"), options: said };
    let (at, kind) = said.given("kind")?;
    let kind = args::text(&at, kind.as_ref())?.unwrap_or("readiness");
    let kind = CheckKind::parse(kind).map_err(|error| {
        let error = Error::new(error.kind(), "build check", format!("{at}: {}", error.message()));
        error.with("component", component)
    })?;
    let criticality = match (said.flag("optional")?, said.flag("critical")?) {
        (true, _) => Criticality::Optional,
        (false, true) => Criticality::Critical,
        (false, false) => Criticality::Important,
    };
    let usual = health_thresholds(health);
    let fail = said.whole("failure_threshold")?.unwrap_or(usual.fail);
    let check = Check::builder(name, kind)
        .criticality(criticality)
        .period(said.seconds("period")?.unwrap_or(health.check_interval))
        .timeout(said.seconds("timeout")?.unwrap_or(health.check_timeout))
        .thresholds(Thresholds {
            success: said.whole("success_threshold")?.unwrap_or(usual.success),
            warn: said.whole("warn_threshold")?.unwrap_or(fail),
            fail,
        })
        .limits(Limits {
            warn: said.number("warn_at")?,
            fail: said.number("fail_at")?,
            lower_is_worse: said.flag("lower_is_worse")?,
        });
    let whose = |error: Error| {
        let message = format!("`{component}`: {}", error.message());
        Error::new(error.kind(), "build check", message).with("component", component)
    };
    Ok(check.build().map_err(whose)?)
}

/// What a check answered; `None` where nobody wrote one.
pub(super) fn read_answer(answer: Py<PyAny>) -> Result<HealthAnswer> {
    let said = |answer: &Bound<'_, PyAny>| match answer.is_none() {
        true => Ok(HealthAnswer::by_default()),
        false => said_answer(answer),
    };
    match with_python(|py| said(&answer.into_bound(py))) {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => Err(Error::new(Kind::Lifecycle, "health_check", error.to_string())),
        None => Err(Error::new(Kind::Closed, "health_check", "the interpreter is shutting down")),
    }
}

/// What a component says of itself.
pub(super) fn said_answer(answer: &Bound<'_, PyAny>) -> PyResult<HealthAnswer> {
    let verdict: String = answer.get_item("verdict")?.extract()?;
    let details = payload::from_python(&answer.get_item("details")?, "details")?;
    Ok(HealthAnswer {
        verdict: Verdict::parse(&verdict).unwrap_or(Verdict::Unknown),
        message: answer.get_item("message")?.extract()?,
        value: answer.get_item("value")?.extract()?,
        details: match details {
            serde_json::Value::Object(details) => details,
            _ => serde_json::Map::new(),
        },
        by_default: false,
    })
}
