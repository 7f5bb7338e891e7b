//! Dead letters: the deliveries that were given up on, kept until somebody decides.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::failure::Failure;
use super::subscription::Subscription;
use crate::event::{Event, Letter};
use crate::sync::Mutex;

/// How many are kept; the oldest goes first, and is counted.
const KEPT: usize = 10_000;

/// A delivery that failed for good, and why.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Rises with each dead letter; unique on its bus.
    pub id: u64,
    /// What it is called where others find it, too.
    pub name: Arc<str>,
    /// What could not be handled.
    pub event: Arc<Event>,
    /// Whose handler failed.
    pub subscription: Arc<str>,
    /// The subscription's number, for a replay to the same handler.
    pub subscription_id: u64,
    /// The component it belongs to.
    pub component: Option<Arc<str>>,
    /// The group whose events it shared with others.
    pub group: Option<Arc<str>>,
    /// Why it was given up: `attempts`, `not_retryable`, `orphaned`, …
    pub reason: Cow<'static, str>,
    /// The last failure.
    pub failure: Failure,
    /// How many attempts were made.
    pub attempts: u32,
    /// When it was given up, in Unix milliseconds.
    pub timestamp: i64,
}

impl DeadLetter {
    /// What `subscription` gives up at `timestamp`, in Unix milliseconds, after so many attempts,
    /// and why.
    pub(super) fn of(
        subscription: &Subscription,
        event: Arc<Event>,
        (attempts, reason): (u32, &'static str),
        failure: Failure,
        timestamp: i64,
    ) -> DeadLetter {
        DeadLetter {
            id: 0,
            name: format!("{:032x}", fastrand::u128(..)).into(),
            event,
            subscription: subscription.name().into(),
            subscription_id: subscription.id(),
            component: subscription.component().cloned(),
            group: subscription.options().group.clone(),
            reason: reason.into(),
            failure,
            attempts,
            timestamp,
        }
    }

    /// As it is kept outside this process.
    pub(super) fn to_letter(&self) -> Letter {
        #[derive(Serialize)]
        struct Kept<'a> {
            id: &'a str,
            event: &'a Event,
            subscription: &'a str,
            component: Option<&'a str>,
            group: Option<&'a str>,
            reason: &'a str,
            error: &'a Failure,
            attempts: u32,
            first_time: i64,
            last_time: i64,
        }
        let kept = Kept {
            id: &self.name,
            event: &self.event,
            subscription: &self.subscription,
            component: self.component.as_deref(),
            group: self.group.as_deref(),
            reason: &self.reason,
            error: &self.failure,
            attempts: self.attempts,
            first_time: self.event.timestamp,
            last_time: self.timestamp,
        };
        // Texts, numbers and an event: there is nothing that could fail.
        let text = serde_json::to_string(&kept).unwrap_or_default();
        Letter { name: self.name.clone(), text }
    }

    /// Reads what [`DeadLetter::to_letter`] made, here or elsewhere. Its number is 0, and no
    /// subscription has its number.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn from_text(text: &str) -> Result<DeadLetter, String> {
        #[derive(Deserialize)]
        struct Kept<'a> {
            #[serde(default)]
            id: String,
            #[serde(borrow)]
            event: &'a RawValue,
            subscription: String,
            #[serde(default)]
            component: Option<String>,
            #[serde(default)]
            group: Option<String>,
            reason: String,
            error: Failure,
            attempts: u32,
            last_time: i64,
        }
        let kept: Kept<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let event = Event::from_json(kept.event.get()).map_err(|error| error.to_string())?;
        Ok(DeadLetter {
            id: 0,
            name: kept.id.into(),
            event: Arc::new(event),
            subscription: kept.subscription.into(),
            subscription_id: 0,
            component: kept.component.map(Into::into),
            group: kept.group.map(Into::into),
            reason: kept.reason.into(),
            failure: kept.error,
            attempts: kept.attempts,
            timestamp: kept.last_time,
        })
    }
}

#[derive(Debug, Default)]
struct Shelf {
    letters: VecDeque<DeadLetter>,
    last_id: u64,
    evicted: u64,
}

/// A bounded shelf of dead letters.
#[derive(Debug, Default)]
pub struct DeadLetters(Mutex<Shelf>);

impl DeadLetters {
    /// Keeps `letter`, and gives it its number. Returns the one that had to go for it.
    pub(super) fn keep(&self, mut letter: DeadLetter) -> (u64, Option<DeadLetter>) {
        let mut shelf = self.0.lock();
        shelf.last_id += 1;
        letter.id = shelf.last_id;
        let evicted = if shelf.letters.len() >= KEPT { shelf.letters.pop_front() } else { None };
        shelf.evicted += u64::from(evicted.is_some());
        shelf.letters.push_back(letter);
        (shelf.last_id, evicted)
    }

    /// Puts back what was taken out, where it was.
    pub(super) fn put_back(&self, letters: Vec<DeadLetter>) {
        let mut shelf = self.0.lock();
        for letter in letters {
            let place = shelf.letters.partition_point(|other| other.id < letter.id);
            shelf.letters.insert(place, letter);
        }
        while shelf.letters.len() > KEPT {
            shelf.letters.pop_front();
            shelf.evicted += 1;
        }
    }

    /// All that are kept, the oldest first.
    pub fn list(&self) -> Vec<DeadLetter> {
        self.0.lock().letters.iter().cloned().collect()
    }

    /// The one numbered `id`.
    pub fn get(&self, id: u64) -> Option<DeadLetter> {
        self.0.lock().letters.iter().find(|letter| letter.id == id).cloned()
    }

    /// Takes out those that `wanted` picks.
    pub fn take(&self, wanted: impl Fn(&DeadLetter) -> bool) -> Vec<DeadLetter> {
        let mut shelf = self.0.lock();
        let (taken, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut shelf.letters).into_iter().partition(|letter| wanted(letter));
        shelf.letters = kept.into();
        taken
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.0.lock().letters.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many had to go because there were too many.
    pub fn evicted(&self) -> u64 {
        self.0.lock().evicted
    }
}
