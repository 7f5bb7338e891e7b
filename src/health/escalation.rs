//! From a failing component to recovery, and from failed recoveries to giving up.

/// What to do about a check that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing yet.
    Wait,
    /// Start recovery number `attempt` (from 1).
    Recover {
        /// Which recovery this is.
        attempt: u32,
    },
    /// Every recovery failed: the component has failed, somebody must be told.
    GiveUp,
}

/// Counts failures in a row and recoveries: `failure_threshold` failures start a recovery,
/// `recovery_attempts` of them that did not help end in giving up. The requirement says 3 and 3.
#[derive(Clone, Debug)]
pub struct Escalation {
    failure_threshold: u32,
    recovery_attempts: u32,
    failures: u32,
    recoveries: u32,
    gave_up: bool,
}

impl Escalation {
    /// A threshold of 0 counts as 1; 0 recoveries give up at the threshold.
    pub fn new(failure_threshold: u32, recovery_attempts: u32) -> Self {
        Escalation {
            failure_threshold: failure_threshold.max(1),
            recovery_attempts,
            failures: 0,
            recoveries: 0,
            gave_up: false,
        }
    }

    /// A check failed. After a recovery it takes a full threshold of failures again.
    pub fn failed(&mut self) -> Remedy {
        self.failures += 1;
        if self.gave_up || self.failures < self.failure_threshold {
            return Remedy::Wait;
        }
        self.recover()
    }

    /// The recovery itself failed: the next one, or the end, without further checks.
    pub fn recovery_failed(&mut self) -> Remedy {
        if self.gave_up { Remedy::Wait } else { self.recover() }
    }

    fn recover(&mut self) -> Remedy {
        self.failures = 0;
        if self.recoveries == self.recovery_attempts {
            self.gave_up = true;
            return Remedy::GiveUp;
        }
        self.recoveries += 1;
        Remedy::Recover { attempt: self.recoveries }
    }

    /// A check passed: failures and recoveries count from zero again, also after giving up.
    pub fn passed(&mut self) {
        self.failures = 0;
        self.recoveries = 0;
        self.gave_up = false;
    }

    /// The component has begun another life: what failed in the one before counts no more. How
    /// often it was recovered does.
    pub fn begin_anew(&mut self) {
        self.failures = 0;
    }

    /// Recoveries started since the last pass.
    pub fn recoveries(&self) -> u32 {
        self.recoveries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn he_021_three_failures_recover_and_three_failed_recoveries_give_up() {
        let mut escalation = Escalation::new(3, 3);
        escalation.passed();
        assert_eq!(escalation.failed(), Remedy::Wait);
        assert_eq!(escalation.failed(), Remedy::Wait);
        assert_eq!(escalation.failed(), Remedy::Recover { attempt: 1 });
        assert_eq!(escalation.recovery_failed(), Remedy::Recover { attempt: 2 });
        assert_eq!(escalation.recovery_failed(), Remedy::Recover { attempt: 3 });
        assert_eq!(escalation.recovery_failed(), Remedy::GiveUp);
        assert_eq!(escalation.failed(), Remedy::Wait, "gives up once");
    }

    #[test]
    fn another_life_begins_without_failures_and_with_the_recoveries_there_were() {
        let mut escalation = Escalation::new(2, 1);
        escalation.failed();
        escalation.begin_anew();
        assert_eq!(escalation.failed(), Remedy::Wait);
        assert_eq!(escalation.failed(), Remedy::Recover { attempt: 1 });
        escalation.begin_anew();
        assert_eq!((escalation.failed(), escalation.failed()), (Remedy::Wait, Remedy::GiveUp));
    }

    #[test]
    fn a_pass_begins_anew() {
        let mut escalation = Escalation::new(2, 1);
        escalation.failed();
        escalation.passed();
        assert_eq!(escalation.failed(), Remedy::Wait);
        assert_eq!(escalation.failed(), Remedy::Recover { attempt: 1 });
        assert_eq!((escalation.failed(), escalation.failed()), (Remedy::Wait, Remedy::GiveUp));
    }
}
