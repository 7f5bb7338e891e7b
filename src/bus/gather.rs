//! One request to many: when the replies that came are enough, and when they cannot be any more.

use super::failure::Failure;
use crate::error::{Error, Kind, Result};
use crate::event::Payload;

/// How many replies a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The most replies; that many end the wait.
    pub n: usize,
    /// The least that are of use, when no more will come.
    pub quorum: usize,
}

/// The answers to one request to many, in the order in which they came.
#[derive(Debug)]
pub(super) struct Gather {
    wanted: Wanted,
    asked: usize,
    replies: Vec<Payload>,
    failures: Vec<Failure>,
}

/// Why there are too few replies.
#[derive(Debug)]
pub(super) enum TooFew {
    /// The time ran out.
    Timeout { came: usize, failures: Vec<Failure> },
    /// So many responders failed that the quorum cannot be reached.
    Failed { came: usize, failures: Vec<Failure> },
}

/// What a request to many comes to.
pub(super) type Gathered = std::result::Result<Vec<Payload>, TooFew>;

impl Gather {
    pub fn new(wanted: Wanted, asked: usize) -> Gather {
        Gather { wanted, asked, replies: Vec::new(), failures: Vec::new() }
    }

    /// Takes one answer; true when nothing more is waited for.
    pub fn take(&mut self, answer: std::result::Result<Payload, Failure>) -> bool {
        match answer {
            Ok(reply) => self.replies.push(reply),
            Err(failure) => self.failures.push(failure),
        }
        let answered = self.replies.len() + self.failures.len();
        self.replies.len() >= self.wanted.n
            || answered >= self.asked
            || self.asked - self.failures.len() < self.wanted.quorum
    }

    /// What it comes to, by an answer or (`expired`) by the time limit.
    pub fn finish(self, expired: bool) -> Gathered {
        let came = self.replies.len();
        if came >= self.wanted.quorum {
            Ok(self.replies)
        } else if expired {
            Err(TooFew::Timeout { came, failures: self.failures })
        } else {
            Err(TooFew::Failed { came, failures: self.failures })
        }
    }
}

impl Wanted {
    /// Checked against each other.
    ///
    /// # Errors
    /// `Kind::Configuration` for less than one reply, or a quorum beyond `n`.
    pub fn new(n: i64, quorum: Option<i64>) -> Result<Wanted> {
        let refused = |said: String| Err(Error::new(Kind::Configuration, "request", said));
        if n < 1 {
            return refused(format!(
                "n must be at least 1, got {n}; leave it out to ask one responder"
            ));
        }
        let quorum = quorum.unwrap_or(n);
        if quorum < 1 || quorum > n {
            return refused(format!("quorum must be from 1 to n, which is {n}, got {quorum}"));
        }
        let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Wanted { n: size(n), quorum: size(quorum) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Category;

    fn failed() -> std::result::Result<Payload, Failure> {
        Err(Failure::new(Category::Transient, "E", "m"))
    }

    fn reply() -> std::result::Result<Payload, Failure> {
        Ok(Payload::from_serialize(&1).expect("a number"))
    }

    /// For every way in which `asked` responders may answer: it ends exactly when more answers
    /// would change nothing, and comes to what the numbers say.
    #[test]
    fn it_ends_when_nothing_more_can_change() {
        for asked in 1..=5_usize {
            for n in 1..=asked {
                for quorum in 1..=n {
                    for answers in 0..(1_u32 << asked) {
                        let wanted = Wanted { n, quorum };
                        let mut gather = Gather::new(wanted, asked);
                        let (mut came, mut lost) = (0, 0);
                        for turn in 0..asked {
                            let answer = if answers >> turn & 1 == 1 { reply() } else { failed() };
                            if answer.is_ok() {
                                came += 1
                            } else {
                                lost += 1
                            }
                            let possible = asked - lost;
                            let done = came == n || possible < quorum || came + lost == asked;
                            assert_eq!(gather.take(answer), done, "{wanted:?} {answers:b} {turn}");
                            if done {
                                break;
                            }
                        }
                        match gather.finish(false) {
                            Ok(replies) => {
                                assert!(came >= quorum);
                                assert_eq!(replies.len(), came);
                            }
                            Err(TooFew::Failed { came: some, failures }) => {
                                assert!(some < quorum && failures.len() == lost);
                            }
                            Err(TooFew::Timeout { .. }) => panic!("no time limit has passed"),
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_time_limit_leaves_what_came() {
        let wanted = Wanted::new(3, Some(2)).expect("valid");
        let mut gather = Gather::new(wanted, 3);
        assert!(!gather.take(reply()));
        assert!(matches!(gather.finish(true), Err(TooFew::Timeout { came: 1, .. })));
        let mut gather = Gather::new(wanted, 3);
        assert!(!gather.take(reply()) && !gather.take(reply()));
        assert_eq!(gather.finish(true).expect("a quorum").len(), 2);
    }

    #[test]
    fn numbers_that_make_no_sense() {
        for (n, quorum) in [(0, None), (-1, None), (2, Some(3)), (2, Some(0))] {
            let error = Wanted::new(n, quorum).expect_err("refused");
            assert_eq!(error.kind(), Kind::Configuration, "{n} {quorum:?}");
        }
        assert_eq!(Wanted::new(3, None).expect("valid"), Wanted { n: 3, quorum: 3 });
    }
}
