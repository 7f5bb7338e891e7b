//! The five verdicts, and how several become one.

use std::fmt;

use crate::lifecycle::State;

/// What a check, a component or the system says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All is well.
    Pass,
    /// It works, with something to look at.
    Warn,
    /// It does not work.
    Fail,
    /// It is not meant to work at present.
    OutOfService,
    /// Nothing is known yet.
    Unknown,
}

impl Verdict {
    /// Every verdict, worst first.
    pub const WORST_FIRST: [Verdict; 5] =
        [Verdict::Fail, Verdict::OutOfService, Verdict::Warn, Verdict::Pass, Verdict::Unknown];

    /// The name used in events and health.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
            Verdict::OutOfService => "out_of_service",
            Verdict::Unknown => "unknown",
        }
    }

    /// Parses a verdict's name or a common alias (`ok`, `up`, `error`, `down`), regardless of
    /// case and punctuation.
    pub fn parse(name: &str) -> Option<Verdict> {
        let letters: String =
            name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        Some(match letters.as_str() {
            "pass" | "ok" | "up" => Verdict::Pass,
            "warn" => Verdict::Warn,
            "fail" | "error" | "down" => Verdict::Fail,
            "outofservice" => Verdict::OutOfService,
            "unknown" => Verdict::Unknown,
            _ => return None,
        })
    }

    /// The HTTP status of an endpoint that says this: 200, or 503 for fail and out of service.
    pub fn http_status(self) -> u16 {
        match self {
            Verdict::Fail | Verdict::OutOfService => 503,
            Verdict::Pass | Verdict::Warn | Verdict::Unknown => 200,
        }
    }

    /// Spring's name, for tools that know those.
    pub fn spring(self) -> &'static str {
        match self {
            Verdict::Pass | Verdict::Warn => "UP",
            Verdict::Fail => "DOWN",
            Verdict::OutOfService => "OUT_OF_SERVICE",
            Verdict::Unknown => "UNKNOWN",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much a check or component weighs in the whole.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Criticality {
    /// Counts as it is.
    #[default]
    Critical,
    /// Degrades the whole and never fails it; what `critical=False` means.
    Important,
    /// Is noted and changes nothing.
    Optional,
}

impl Criticality {
    /// What `verdict` contributes to the whole. Being out of service weighs as failing does.
    pub fn contribution(self, verdict: Verdict) -> Verdict {
        match (self, verdict) {
            (Criticality::Important, Verdict::Fail | Verdict::OutOfService) => Verdict::Warn,
            (Criticality::Optional, Verdict::Fail | Verdict::OutOfService) => Verdict::Pass,
            (_, verdict) => verdict,
        }
    }

    /// Parses the name used in configuration.
    pub fn parse(name: &str) -> Option<Criticality> {
        Some(match name {
            "critical" => Criticality::Critical,
            "important" => Criticality::Important,
            "optional" => Criticality::Optional,
            _ => return None,
        })
    }
}

/// The worst of `verdicts`; unknown only when there is nothing else.
pub fn aggregate(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    aggregate_in(&Verdict::WORST_FIRST, verdicts)
}

/// The one of `verdicts` that comes first in `order`; those missing there are ignored.
pub fn aggregate_in(order: &[Verdict], verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let rank = |verdict: &Verdict| order.iter().position(|entry| entry == verdict);
    let known = verdicts.into_iter().filter_map(|verdict| Some((rank(&verdict)?, verdict)));
    known.min_by_key(|(rank, _)| *rank).map_or(Verdict::Unknown, |(_, verdict)| verdict)
}

/// What a component's state says by itself.
pub fn lifecycle(state: State) -> Verdict {
    match state {
        State::Running => Verdict::Pass,
        State::Degraded => Verdict::Warn,
        State::Failed => Verdict::Fail,
        State::Initialized
        | State::Configured
        | State::Starting
        | State::Stopping
        | State::Stopped => Verdict::OutOfService,
    }
}

/// Whether a component lives: not failed, and no liveness check fails. None is a pass.
pub fn live(state: State, checks: impl IntoIterator<Item = Verdict>) -> bool {
    state != State::Failed && aggregate(checks) != Verdict::Fail
}

/// Whether a component can take work: operational, and no readiness check says otherwise. While
/// it starts it is not ready, checks or none.
pub fn ready(state: State, checks: impl IntoIterator<Item = Verdict>) -> bool {
    state.is_operational() && aggregate(checks).http_status() == 200
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Fail, OutOfService, Pass, Unknown, Warn};
    use super::*;

    #[test]
    fn he_001_to_he_005_the_first_in_the_order_wins() {
        assert_eq!(aggregate([Fail, Pass, Unknown, OutOfService]), Fail, "he-001");
        let order = [Unknown, Pass, OutOfService, Fail];
        assert_eq!(aggregate_in(&order, [Fail, Pass, Unknown, OutOfService]), Unknown, "he-002");
        assert_eq!(aggregate_in(&[Fail], [Pass, Fail]), Fail, "he-003");
        assert_eq!(aggregate([]), Unknown, "he-005");
        assert_eq!(aggregate([Unknown, Pass]), Pass);
        assert_eq!(aggregate([Warn, OutOfService]), OutOfService);
    }

    #[test]
    fn he_006_and_he_011_names_regardless_of_case_and_punctuation() {
        assert_eq!(Verdict::parse("out-of-service"), Some(OutOfService));
        for (name, ok) in [
            ("pass", true),
            ("warn", true),
            ("fail", false),
            ("OK", true),
            ("up", true),
            ("error", false),
            ("Down", false),
        ] {
            assert_eq!(Verdict::parse(name).unwrap().http_status() == 200, ok, "{name}");
        }
        assert_eq!(Verdict::parse("CUSTOM"), None);
    }

    #[test]
    fn he_008_http_codes() {
        let codes = Verdict::WORST_FIRST.map(Verdict::http_status);
        assert_eq!(codes, [503, 503, 200, 200, 200]);
    }

    #[test]
    fn what_is_not_critical_never_fails_the_whole() {
        let whole = |criticality: Criticality| {
            Verdict::WORST_FIRST.map(|verdict| criticality.contribution(verdict))
        };
        assert_eq!(whole(Criticality::Critical), Verdict::WORST_FIRST);
        assert_eq!(whole(Criticality::Important), [Warn, Warn, Warn, Pass, Unknown]);
        assert_eq!(whole(Criticality::Optional), [Pass, Pass, Warn, Pass, Unknown]);
    }

    #[test]
    fn he_010_and_he_020_life_and_readiness_through_a_life() {
        let probes = State::ALL.map(|state| (live(state, []), ready(state, [])));
        let (operational, waiting, failed) = ((true, true), (true, false), (false, false));
        assert_eq!(
            probes,
            [
                waiting,     // initialized
                waiting,     // configured
                waiting,     // starting: a slow start is no reason to be killed
                operational, // running
                operational, // degraded
                waiting,     // stopping
                waiting,     // stopped
                failed,
            ]
        );
        assert!(!live(State::Running, [Pass, Fail]));
        assert!(!ready(State::Running, [Pass, OutOfService]));
        assert_eq!(lifecycle(State::Degraded), Warn);
    }
}
