//! What a check is.

use std::fmt;
use std::time::Duration;

use super::hysteresis::Thresholds;
use super::status::{Criticality, Verdict};
use crate::error::{Error, Kind, Result, did_you_mean};

/// The requirement's kinds of check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// Does it run?
    Liveness,
    /// Can it take work?
    Readiness,
    /// Is something outside there?
    Dependency,
    /// Is it fast enough?
    Performance,
    /// Is there enough of a resource?
    Resource,
}

impl CheckKind {
    /// Every kind, in the order of the requirement.
    pub const ALL: [CheckKind; 5] = [
        CheckKind::Liveness,
        CheckKind::Readiness,
        CheckKind::Dependency,
        CheckKind::Performance,
        CheckKind::Resource,
    ];

    /// The name used in events and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckKind::Liveness => "liveness",
            CheckKind::Readiness => "readiness",
            CheckKind::Dependency => "dependency",
            CheckKind::Performance => "performance",
            CheckKind::Resource => "resource",
        }
    }

    /// Parses the name used in events and configuration.
    ///
    /// # Errors
    /// [`Kind::Configuration`], with a suggestion.
    pub fn parse(name: &str) -> Result<CheckKind> {
        let known = CheckKind::ALL.map(CheckKind::as_str);
        CheckKind::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
            let hint = did_you_mean(name, known)
                .map_or_else(|| known.join(", "), |near| format!("did you mean `{near}`?"));
            let message = format!("`{name}` is no kind of check: {hint}");
            Error::new(Kind::Configuration, "build check", message)
        })
    }
}

impl fmt::Display for CheckKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// From which value on a measurement warns or fails.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Warns from here.
    pub warn: Option<f64>,
    /// Fails from here.
    pub fail: Option<f64>,
    /// Whether small values are the bad ones (free disk), instead of great ones (delay).
    pub lower_is_worse: bool,
}

impl Limits {
    /// What `value` means. A value that is no number fails: it was not measured.
    pub fn judge(&self, value: f64) -> Verdict {
        let reached = |limit: Option<f64>| {
            let worse = |limit| if self.lower_is_worse { value <= limit } else { value >= limit };
            limit.is_some_and(worse)
        };
        match () {
            () if value.is_nan() => Verdict::Fail,
            () if reached(self.fail) => Verdict::Fail,
            () if reached(self.warn) => Verdict::Warn,
            () => Verdict::Pass,
        }
    }
}

/// The definition of one check.
#[derive(Clone, Debug)]
pub struct Check {
    /// Unique within its component.
    pub name: String,
    /// What it tells about; the first is its main kind.
    pub kinds: Vec<CheckKind>,
    /// How much it weighs.
    pub criticality: Criticality,
    /// How often it runs; the requirement's 10 s.
    pub period: Duration,
    /// How long it may take; 1 s.
    pub timeout: Duration,
    /// How many results in a row change its verdict.
    pub thresholds: Thresholds,
    /// What a measured value means.
    pub limits: Limits,
}

impl Check {
    /// A check of one kind, everything else by default.
    pub fn builder(name: impl Into<String>, kind: CheckKind) -> CheckBuilder {
        let check = Check {
            name: name.into(),
            kinds: vec![kind],
            criticality: Criticality::default(),
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            thresholds: Thresholds::default(),
            limits: Limits::default(),
        };
        CheckBuilder { check, force: false }
    }

    /// Whether it counts for liveness.
    pub fn is_liveness(&self) -> bool {
        self.kinds.contains(&CheckKind::Liveness)
    }

    /// Whether it counts for readiness: everything does that is not about liveness alone.
    pub fn is_readiness(&self) -> bool {
        self.kinds.iter().any(|kind| *kind != CheckKind::Liveness)
    }
}

/// Builds a [`Check`].
#[derive(Clone, Debug)]
pub struct CheckBuilder {
    check: Check,
    force: bool,
}

impl CheckBuilder {
    /// It tells about this too.
    #[must_use]
    pub fn also(mut self, kind: CheckKind) -> Self {
        if !self.check.kinds.contains(&kind) {
            self.check.kinds.push(kind);
        }
        self
    }

    /// How much it weighs.
    #[must_use]
    pub fn criticality(mut self, criticality: Criticality) -> Self {
        self.check.criticality = criticality;
        self
    }

    /// How often it runs.
    #[must_use]
    pub fn period(mut self, period: Duration) -> Self {
        self.check.period = period;
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.check.timeout = timeout;
        self
    }

    /// How many results in a row change its verdict.
    #[must_use]
    pub fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.check.thresholds = thresholds;
        self
    }

    /// What a measured value means.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.check.limits = limits;
        self
    }

    /// Lets a dependency decide about liveness after all. A dependency's outage will then have
    /// healthy processes killed.
    #[must_use]
    pub fn force_liveness(mut self) -> Self {
        self.force = true;
        self
    }

    /// The check.
    ///
    /// # Errors
    /// [`Kind::Configuration`] without a name, period or timeout, for thresholds that contradict
    /// each other, and for liveness that depends on a dependency without
    /// [`CheckBuilder::force_liveness`].
    pub fn build(self) -> Result<Check> {
        let CheckBuilder { check, force } = self;
        let invalid = |message: String| {
            let error = Error::new(Kind::Configuration, "build check", message);
            Err(error.with("check", check.name.clone()))
        };
        if check.name.is_empty() {
            return invalid("a check needs a name".into());
        }
        if check.period.is_zero() || check.timeout.is_zero() {
            return invalid(format!("check `{}`: period and timeout must be above 0", check.name));
        }
        if check.is_liveness() && check.kinds.contains(&CheckKind::Dependency) && !force {
            return invalid(format!(
                "check `{}`: liveness must not depend on a dependency, whose outage would have \
                 healthy processes killed; make it a readiness check or force it",
                check.name
            ));
        }
        let Limits { warn, fail, lower_is_worse } = check.limits;
        let ordered = match (warn, fail) {
            (Some(warn), Some(fail)) if lower_is_worse => warn >= fail,
            (Some(warn), Some(fail)) => warn <= fail,
            _ => true,
        };
        if !ordered || warn.is_some_and(f64::is_nan) || fail.is_some_and(f64::is_nan) {
            return invalid(format!(
                "check `{}`: a value must reach the limit of the warning before that of the failure",
                check.name
            ));
        }
        check.thresholds.validate().map_err(|error| {
            let message = format!("check `{}`: {}", check.name, error.message());
            Error::new(Kind::Configuration, "build check", message).with("check", &*check.name)
        })?;
        Ok(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn liveness_never_depends_on_a_dependency_unless_forced() {
        let builder = Check::builder("db", CheckKind::Dependency).also(CheckKind::Liveness);
        let error = builder.clone().build().unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(builder.force_liveness().build().unwrap().is_liveness());
        let ready = Check::builder("db", CheckKind::Dependency).build().unwrap();
        assert!(ready.is_readiness() && !ready.is_liveness());
    }

    #[test]
    fn a_check_that_cannot_run_is_refused() {
        let builder = |name| Check::builder(name, CheckKind::Resource);
        for wrong in [
            builder(""),
            builder("a").period(Duration::ZERO),
            builder("a").timeout(Duration::ZERO),
            builder("a").thresholds(Thresholds { success: 0, warn: 1, fail: 1 }),
        ] {
            assert_eq!(wrong.build().unwrap_err().kind(), Kind::Configuration);
        }
        assert!(CheckKind::parse("livenes").unwrap_err().message().contains("`liveness`"));
    }
}
