//! How many deliveries a mailbox may give out just now.

/// What a breaker lets through to the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// Everything.
    Free,
    /// Nothing: reading pauses, and events stay where they are.
    Stopped,
    /// So many deliveries and no more, until their outcome is known.
    Probing(usize),
}

impl Intake {
    pub fn limit(self) -> usize {
        match self {
            Intake::Free => usize::MAX,
            Intake::Stopped => 0,
            Intake::Probing(left) => left,
        }
    }

    pub fn give_back(&mut self) {
        if let Intake::Probing(left) = self {
            *left += 1;
        }
    }
}
