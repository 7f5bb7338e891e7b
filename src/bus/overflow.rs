//! What happens where events come faster than they are handled.

/// What happens to an event that finds a mailbox full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The publisher waits.
    #[default]
    Block,
    /// The oldest waiting event of the least urgent lane goes.
    DropOldest,
    /// The new event goes.
    DropNewest,
    /// The publisher gets an error.
    Fail,
    /// Of each topic and key one event waits, the newest; others are conflated.
    Latest,
    /// As `Latest`, and at most one of them is handled in each interval.
    Sample,
}

impl Overflow {
    /// Every policy.
    pub const ALL: [Overflow; 6] = [
        Overflow::Block,
        Overflow::DropOldest,
        Overflow::DropNewest,
        Overflow::Fail,
        Overflow::Latest,
        Overflow::Sample,
    ];

    /// The name in configuration and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Overflow::Block => "block",
            Overflow::DropOldest => "drop_oldest",
            Overflow::DropNewest => "drop_newest",
            Overflow::Fail => "fail",
            Overflow::Latest => "latest",
            Overflow::Sample => "sample",
        }
    }

    /// Parses the name in configuration and in the API.
    pub fn parse(name: &str) -> Option<Overflow> {
        Overflow::ALL.into_iter().find(|overflow| overflow.as_str() == name)
    }

    /// Whether an event goes where there is no room, instead of waiting for it.
    pub(super) fn lets_go(self) -> bool {
        self.conflates() || matches!(self, Overflow::DropOldest | Overflow::DropNewest)
    }

    /// Whether a newer event takes the place of one that waits.
    pub(super) fn conflates(self) -> bool {
        matches!(self, Overflow::Latest | Overflow::Sample)
    }
}
