//! What happened to the components, each thing with the id of what caused it.
//!
//! Bounded: of each subject the last [`KEPT`] things are kept. A cause may so be gone from the
//! record before its effect; whoever follows a chain then says that it goes on.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::clock::{Clock, Instant};
use crate::lifecycle::State;

/// How many things are kept of each subject.
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
    /// How often it happened in a row.
    pub count: u64,
    /// What caused it.
    pub because: Option<Id>,
}

#[derive(Default)]
struct Kept {
    last: Id,
    subjects: HashMap<Arc<str>, VecDeque<Entry>>,
    index: HashMap<Id, Arc<str>>,
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

    /// Notes something; what is the same as the last thing of its subject is counted there.
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
        let (at, at_ms) = (self.clock.now(), self.clock.unix_ms());
        if !kept.subjects.contains_key(subject) {
            kept.subjects.insert(Arc::from(subject), VecDeque::new());
        }
        let (subject, entries) = match kept.subjects.get_key_value(subject) {
            Some((subject, _)) => {
                let subject = subject.clone();
                let Some(entries) = kept.subjects.get_mut(&subject) else { return 0 };
                (subject, entries)
            }
            None => return 0,
        };
        if let Some(last) = entries.back_mut()
            && state.is_none()
            && (last.what, &last.text, last.because) == (what, &text, because)
        {
            (last.at, last.at_ms, last.count) = (at, at_ms, last.count + 1);
            return last.id;
        }
        kept.last += 1;
        let id = kept.last;
        let entry =
            Entry { id, subject: subject.clone(), what, state, text, at, at_ms, count: 1, because };
        entries.push_back(entry);
        if entries.len() > KEPT
            && let Some(old) = entries.pop_front()
        {
            kept.index.remove(&old.id);
        }
        kept.index.insert(id, subject);
        id
    }

    /// What this names, while it is kept.
    pub fn get(&self, id: Id) -> Option<Entry> {
        let kept = self.kept.lock();
        let entries = kept.subjects.get(kept.index.get(&id)?)?;
        entries.iter().find(|entry| entry.id == id).cloned()
    }

    /// The last thing of `subject` that is as wanted.
    pub fn last(&self, subject: &str, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let kept = self.kept.lock();
        kept.subjects.get(subject)?.iter().rev().find(|entry| wanted(entry)).cloned()
    }

    /// The last change of state of `subject`.
    pub fn last_state(&self, subject: &str) -> Option<Id> {
        self.last(subject, |entry| entry.what == What::State).map(|entry| entry.id)
    }

    /// Forgets what happened to `subject`.
    pub(super) fn forget(&self, subject: &str) {
        let mut kept = self.kept.lock();
        for entry in kept.subjects.remove(subject).into_iter().flatten() {
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
        record.forget("a");
        assert_eq!(record.kept.lock().index.len(), 1);
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
