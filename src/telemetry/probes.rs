//! What probes of an orchestrator are told: whether the system lives, can take work, has started.
//!
//! The form is that of the probes of Kubernetes itself: `ok`, or a line for each part.

use std::fmt::Write;

use crate::config::redact;
use crate::health::{HealthReport, Verdict};
use crate::registry::{Monitor, SystemHealth};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Does it live? No dependency has a say.
    Live,
    /// Can it take work?
    Ready,
    /// Is the start through?
    Startup,
}

impl Probe {
    /// The probe at the first part of a path.
    pub fn parse(name: &str) -> Option<Probe> {
        Some(match name {
            "livez" => Probe::Live,
            "readyz" => Probe::Ready,
            "startupz" => Probe::Startup,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Probe::Live => "livez",
            Probe::Ready => "readyz",
            Probe::Startup => "startupz",
        }
    }

    fn of_system(self, health: &SystemHealth) -> bool {
        match self {
            Probe::Live => health.live,
            Probe::Ready => health.ready,
            Probe::Startup => health.started,
        }
    }

    fn of_component(self, report: &HealthReport) -> bool {
        match self {
            Probe::Live => report.live,
            Probe::Ready | Probe::Startup => report.ready,
        }
    }

    /// Whether the answer is yes, and its text. With a `component`, what is asked is that one
    /// alone; none for a name that nobody has. A no has the lines of all parts in any case.
    pub fn answer(
        self,
        monitor: &Monitor,
        component: Option<&str>,
        verbose: bool,
    ) -> Option<(bool, String)> {
        let health = monitor.system();
        if let Some(name) = component {
            let report = health.components.iter().find(|report| report.component_id == name)?;
            let yes = self.of_component(report);
            let text = if yes && !verbose { "ok\n".into() } else { self.line(report) };
            return Some((yes, text));
        }
        let yes = self.of_system(&health);
        if yes && !verbose {
            return Some((true, "ok\n".into()));
        }
        let mut text = String::new();
        if self != Probe::Live {
            let said = if health.started { "[+]start ok" } else { "[-]start is not through" };
            let _ = writeln!(text, "{said}");
        }
        if self != Probe::Startup {
            health.components.iter().for_each(|report| text.push_str(&self.line(report)));
        }
        if self == Probe::Ready && health.process.health != Verdict::Pass {
            let sign = if health.process.health == Verdict::Fail { '-' } else { '+' };
            let _ = writeln!(text, "[{sign}]process: {}", health.process.reasons.join("; "));
        }
        let verdict = if yes { "passed" } else { "failed" };
        let _ = writeln!(text, "{} check {verdict}", self.name());
        Some((yes, text))
    }

    fn line(self, report: &HealthReport) -> String {
        let (sign, said) = if self.of_component(report) { ('+', "ok") } else { ('-', "failed") };
        let why = match report.health {
            Verdict::Pass => String::new(),
            verdict => format!(": {verdict}: {}", reason(report)),
        };
        // One line, whatever a component says of itself.
        let line: String = format!("[{sign}]{} {said}{why}", report.component_id)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        redact::text(&line) + "\n"
    }
}

/// Why a component is not simply well, in one text.
pub(super) fn reason(report: &HealthReport) -> String {
    let reasons = report.details.get("reasons").and_then(|reasons| reasons.as_array());
    let told: Vec<&str> = reasons.into_iter().flatten().filter_map(|text| text.as_str()).collect();
    if told.is_empty() { report.status.as_str().to_owned() } else { told.join("; ") }
}
