//! What is stuck at this moment, as those who watch it say: health asks here.

use std::sync::Arc;

use crate::clock::{Clock, Instant};
use crate::health::StallKind;
use crate::sync::Mutex;

/// One thing that is stuck.
#[derive(Clone, Debug)]
pub struct Stall {
    /// The component whose it is.
    pub component: Option<Arc<str>>,
    /// The handler or hook, for people.
    pub name: String,
    /// What it does to others, such as `has blocked its event loop`.
    pub what: &'static str,
    /// What it is at.
    pub kind: StallKind,
    /// Since when, by `clock`.
    pub since: Instant,
    /// Stalls are measured in real time.
    pub clock: Clock,
}

impl Stall {
    fn reason(&self) -> String {
        let seconds = self.clock.now().saturating_since(self.since).as_secs_f64();
        let Stall { name, what, kind, .. } = self;
        format!("{name} {what} for {seconds:.1} s: it {}", kind.says())
    }
}

/// All that is stuck on one bus.
#[derive(Debug, Default)]
pub struct Stalls(Mutex<(u64, Vec<(u64, Stall)>)>);

impl Stalls {
    /// Adds one; it stays until it is removed by the number returned.
    pub fn add(&self, stall: Stall) -> u64 {
        let mut all = self.0.lock();
        all.0 += 1;
        let number = all.0;
        all.1.push((number, stall));
        number
    }

    /// It has come back.
    pub fn remove(&self, number: u64) {
        self.0.lock().1.retain(|(other, _)| *other != number);
    }

    /// What is stuck of `component`, for people.
    pub fn reasons(&self, component: &str) -> Vec<String> {
        let all = self.0.lock();
        let own = |stall: &Stall| stall.component.as_deref() == Some(component);
        all.1.iter().filter(|(_, stall)| own(stall)).map(|(_, stall)| stall.reason()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_component_hears_of_its_own_until_they_are_removed() {
        let clock = Clock::simulated(0);
        let stalls = Stalls::default();
        let stall = |component: &str| Stall {
            component: Some(component.into()),
            name: "on_a".into(),
            what: "has blocked its event loop",
            kind: StallKind::WaitsForLock,
            since: clock.now(),
            clock: clock.clone(),
        };
        let number = stalls.add(stall("mine"));
        stalls.add(stall("other"));
        clock.advance(Duration::from_millis(1500));
        let said = ["on_a has blocked its event loop for 1.5 s: it waits for a lock"];
        assert_eq!(stalls.reasons("mine"), said);
        stalls.remove(number);
        assert!(stalls.reasons("mine").is_empty());
        assert_eq!(stalls.reasons("other").len(), 1);
    }
}
