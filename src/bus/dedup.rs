//! Ids seen lately: an event that is published twice is delivered once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::admission::Published;
use super::core::Core;
use crate::clock::Instant;
use crate::error::Result;
use crate::event::{Event, Id};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// How long, and how many, ids are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupSettings {
    /// How long after an event a second one with its id is a duplicate.
    pub window: Duration,
    /// How many ids are remembered; beyond it, the oldest is forgotten.
    pub size: usize,
}

impl Default for DedupSettings {
    fn default() -> Self {
        DedupSettings { window: Duration::from_secs(600), size: 100_000 }
    }
}

/// The ids that were published within the window.
#[derive(Debug)]
pub(super) struct Dedup {
    settings: DedupSettings,
    seen: Mutex<Seen>,
    duplicates: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    ids: HashMap<Id, Instant>,
    /// The same ids, the oldest first.
    order: VecDeque<(Instant, Id)>,
}

impl Seen {
    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.ids.remove(&id);
        }
    }
}

impl Dedup {
    pub fn new(settings: DedupSettings) -> Arc<Dedup> {
        Arc::new(Dedup { settings, seen: Mutex::default(), duplicates: AtomicU64::new(0) })
    }

    /// Notes `id`; false when it was seen before, which is counted.
    pub fn first(&self, id: &Id, now: Instant) -> bool {
        let mut seen = self.seen.lock();
        let window = self.settings.window;
        while seen.order.front().is_some_and(|(at, _)| now.saturating_since(*at) >= window) {
            seen.forget_oldest();
        }
        if seen.ids.contains_key(id) {
            drop(seen);
            self.duplicates.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if seen.order.len() >= self.settings.size {
            seen.forget_oldest();
        }
        seen.ids.insert(id.clone(), now);
        seen.order.push_back((now, id.clone()));
        true
    }

    /// The event did not get everywhere: its publisher may try again.
    pub fn forget(&self, id: &Id) {
        let mut seen = self.seen.lock();
        // From the back: what is given up was published a moment ago.
        if seen.ids.remove(id).is_some()
            && let Some(at) = seen.order.iter().rposition(|(_, other)| other == id)
        {
            seen.order.remove(at);
        }
    }

    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }
}

impl Core {
    /// Has `deliver` deliver the event, unless one with its id has been.
    #[inline]
    pub(super) fn once(
        &self,
        event: Arc<Event>,
        deliver: impl FnOnce(Arc<Event>) -> Result<Published>,
    ) -> Result<Published> {
        let Some(dedup) = &self.dedup else { return deliver(event) };
        if !dedup.first(&event.id, self.clock.now()) {
            return Ok(Published { event, admission: None, duplicate: true });
        }
        let id = event.id.clone();
        match deliver(event) {
            Ok(mut published) => {
                if let Some(admission) = &mut published.admission {
                    admission.forget_unless_complete(dedup.clone(), id);
                }
                Ok(published)
            }
            Err(error) => {
                dedup.forget(&id);
                Err(error)
            }
        }
    }
}
