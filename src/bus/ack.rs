//! When a delivery counts as done, and what its failure means.

use super::delivery::Verdict;

/// How the deliveries of one subscription are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ack {
    /// As delivered, before the handler runs. Its failure is reported, and that is all.
    First,
    /// As delivered, however the handler ended. Its failure is reported, and that is all.
    Always,
    /// A failure is a dead letter at once.
    RejectOnError,
    /// A failure is tried again by the retry policy, and is a dead letter in the end.
    #[default]
    NackOnError,
    /// By the handler, or whoever it gives the event to: see [`super::Undecided`].
    Manual,
}

impl Ack {
    /// Every policy.
    pub const ALL: [Ack; 5] =
        [Ack::First, Ack::Always, Ack::RejectOnError, Ack::NackOnError, Ack::Manual];

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Ack::First => "ack_first",
            Ack::Always => "ack",
            Ack::RejectOnError => "reject_on_error",
            Ack::NackOnError => "nack_on_error",
            Ack::Manual => "manual",
        }
    }

    /// Parses the name in the API.
    pub fn parse(name: &str) -> Option<Ack> {
        Ack::ALL.into_iter().find(|ack| ack.as_str() == name)
    }

    /// Whether a failed attempt may be followed by another one.
    pub fn retries(self) -> bool {
        matches!(self, Ack::NackOnError | Ack::Manual)
    }

    /// Whether a failure is no reason to keep the event.
    pub(super) fn forgives(self) -> bool {
        matches!(self, Ack::First | Ack::Always)
    }

    /// What follows the last failure, where there is no fallback; `reason` is why it is the last.
    pub(super) fn last(self, reason: &'static str) -> Verdict {
        match self {
            Ack::First | Ack::Always => Verdict::Acknowledged,
            Ack::RejectOnError => Verdict::DeadLetter("rejected"),
            Ack::NackOnError | Ack::Manual => Verdict::DeadLetter(reason),
        }
    }
}
