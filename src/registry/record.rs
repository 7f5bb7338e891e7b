//! What happened to the components, each thing with the id of what caused it.
//!
//! Bounded: of each subject the last [`KEPT`] things are kept, of changes of state, of what led to
//! them, and of what may come in masses, by itself: a storm of errors pushes nothing else out. A
//! cause may be gone from the record before its effect; whoever follows a chain then says that it
//! goes on.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::clock::{Clock, Instant};
use crate::lifecycle::State;

/// How many things of each class are kept of each subject.
pub const KEPT: usize = 64;

/// The most characters of one thing's text.
const MOST_TEXT: usize = 400;

/// What names one thing that happened.
pub type Id = u64;

/// The subject of what concerns everybody.
pub const SYSTEM: &str = "system";
/// The subject of revisions.
pub const CONFIGURATION: &str = "configuration";
/// The subject of trouble with the broker.
pub const BROKER: &str = "broker";

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Somebody asked for it.
    Request,
    /// A change of state.
    State,
    /// A component failed.
    Failure,
    /// A component came to its end by itself.
    Finished,
    /// Supervision restarts.
    Restarting,
    /// Supervision tries once more after a cooldown.
    Retrying,
    /// A group's supervisor hands over to the one above.
    Escalated,
    /// Supervision gives up.
    GaveUp,
    /// A health check did not pass.
    Check,
    /// A handler failed.
    Error,
    /// A circuit breaker opened or closed.
    Breaker,
    /// A reason to be degraded.
    Degraded,
    /// Such a reason has gone.
    Recovered,
    /// Something else keeps it from starting.
    Blocked,
    /// A revision of the configuration.
    Configuration,
    /// Trouble with the broker.
    Broker,
}

impl What {
    /// Which of the rings of a subject it is kept in.
    fn ring(self) -> usize {
        match self {
            What::State => 0,
            What::Check | What::Error | What::Breaker => 2,
            _ => 1,
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name in the record.
    pub id: Id,
    /// Whom it happened to.
    pub subject: Arc<str>,
    /// What it was.
    pub what: What,
    /// The state that was entered, for changes of state.
    pub state: Option<State>,
    /// What it was, for a person.
    pub text: String,
    /// When, the last time if it happened repeatedly.
    pub at: Instant,
    /// The same in Unix milliseconds.
    pub at_ms: i64,
    /// How often it happened.
    pub count: u64,
    /// What caused it.
    pub because: Option<Id>,
    /// Its place in the order of all that happened; the last one if it happened repeatedly.
    seen: u64,
}

/// Three rings: see [`What::ring`].
type Rings = [VecDeque<Entry>; 3];

#[derive(Default)]
struct Kept {
    last: Id,
    seen: u64,
    subjects: HashMap<Arc<str>, Rings>,
    /// Where each thing is: whose, and in which ring.
    index: HashMap<Id, (Arc<str>, usize)>,
}

/// The record of one registry.
pub struct Record {
    clock: Clock,
    kept: Mutex<Kept>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("last", &self.kept.lock().last).finish()
    }
}

impl Record {
    /// An empty record.
    pub fn new(clock: Clock) -> Record {
        Record { clock, kept: Mutex::default() }
    }

    /// Notes something. What is the same as the last thing of its class is counted there; of what
    /// may come in masses, also what is the same as something earlier.
    pub fn note(
        &self,
        subject: &str,
        what: What,
        text: impl Into<String>,
        because: Option<Id>,
    ) -> Id {
        self.add(subject, what, None, text.into(), because)
    }

    pub(super) fn note_state(
        &self,
        subject: &str,
        state: State,
        text: String,
        because: Option<Id>,
    ) -> Id {
        self.add(subject, What::State, Some(state), text, because)
    }

    fn add(
        &self,
        subject: &str,
        what: What,
        state: Option<State>,
        mut text: String,
        because: Option<Id>,
    ) -> Id {
        if let Some((at, _)) = text.char_indices().nth(MOST_TEXT) {
            text.truncate(at);
            text.push_str("...");
        }
        let mut kept = self.kept.lock();
        let kept = &mut *kept;
        let (at, at_ms, ring) = (self.clock.now(), self.clock.unix_ms(), what.ring());
        kept.seen += 1;
        let seen = kept.seen;
        let subject = match kept.subjects.get_key_value(subject) {
            Some((subject, _)) => subject.clone(),
            None => Arc::from(subject),
        };
        let entries = &mut kept.subjects.entry(subject.clone()).or_default()[ring];
        let is_same = |entry: &Entry| {
            state.is_none() && (entry.what, &entry.text, entry.because) == (what, &text, because)
        };
        let same = match what.ring() {
            2 => entries.iter().rposition(is_same),
            _ => entries.len().checked_sub(1).filter(|last| is_same(&entries[*last])),
        };
        if let Some(mut entry) = same.and_then(|place| entries.remove(place)) {
            (entry.at, entry.at_ms, entry.seen) = (at, at_ms, seen);
            entry.count += 1;
            let id = entry.id;
            entries.push_back(entry);
            return id;
        }
        kept.last += 1;
        let id = kept.last;
        let owner = subject.clone();
        let entry = Entry { id, subject, what, state, text, at, at_ms, count: 1, because, seen };
        entries.push_back(entry);
        if entries.len() > KEPT
            && let Some(old) = entries.pop_front()
        {
            kept.index.remove(&old.id);
        }
        kept.index.insert(id, (owner, ring));
        id
    }

    /// What this names, while it is kept.
    pub fn get(&self, id: Id) -> Option<Entry> {
        let kept = self.kept.lock();
        let (subject, ring) = kept.index.get(&id)?;
        kept.subjects.get(subject)?[*ring].iter().find(|entry| entry.id == id).cloned()
    }

    /// The last thing of `subject` that is as wanted.
    pub fn last(&self, subject: &str, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let kept = self.kept.lock();
        let rings = kept.subjects.get(subject)?.iter();
        let found = rings.filter_map(|ring| ring.iter().rev().find(|entry| wanted(entry)));
        found.max_by_key(|entry| entry.seen).cloned()
    }

    /// The last change of state of `subject`.
    pub fn last_state(&self, subject: &str) -> Option<Id> {
        self.last(subject, |entry| entry.what == What::State).map(|entry| entry.id)
    }

    /// Forgets what happened to `subject`.
    pub(super) fn forget(&self, subject: &str) {
        let mut kept = self.kept.lock();
        for entry in kept.subjects.remove(subject).into_iter().flatten().flatten() {
            kept.index.remove(&entry.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_counted_and_what_is_old_is_forgotten() {
        let record = Record::new(Clock::simulated(5));
        let first = record.note("a", What::Check, "slow", None);
        assert_eq!(record.note("a", What::Check, "slow", None), first);
        assert_eq!(record.get(first).unwrap().count, 2);
        let other = record.note("b", What::Error, "x".repeat(1_000), Some(first));
        assert!(record.get(other).unwrap().text.len() < 500);
        for n in 0..10 * KEPT {
            record.note("a", What::Error, format!("{n}"), None);
        }
        assert!(record.get(first).is_none(), "the record is bounded");
        assert_eq!(record.get(other).unwrap().because, Some(first), "an effect outlives its cause");
        assert_eq!(record.kept.lock().index.len(), KEPT + 1);
        assert_eq!(record.last("a", |_| true).unwrap().text, format!("{}", 10 * KEPT - 1));
        record.forget("a");
        assert_eq!(record.kept.lock().index.len(), 1);
    }

    #[test]
    fn a_storm_of_errors_is_counted_and_pushes_nothing_else_out() {
        let record = Record::new(Clock::simulated(0));
        let request = record.note("a", What::Request, "a start was asked for", None);
        let state = record.note_state("a", State::Running, "started".into(), Some(request));
        let first = record.note("a", What::Error, "x failed", None);
        for n in 0..10 * KEPT {
            record.note("a", What::Error, format!("event {n}"), None);
            assert_eq!(record.note("a", What::Error, "x failed", None), first);
        }
        assert_eq!(record.get(first).unwrap().count, 1 + 10 * KEPT as u64);
        assert_eq!(record.last_state("a"), Some(state));
        assert!(record.get(request).is_some(), "nor what led to the state");
        assert_eq!(record.last("a", |_| true).unwrap().id, first, "by when it came last");
    }

    #[test]
    fn changes_of_state_are_never_put_together() {
        let record = Record::new(Clock::simulated(0));
        let first = record.note_state("a", State::Configured, "again".into(), None);
        let second = record.note_state("a", State::Configured, "again".into(), None);
        assert_ne!(first, second);
        assert_eq!(record.last_state("a"), Some(second));
        assert_eq!(record.last_state("b"), None);
    }
}
