//! What was read, and how it is brought: events to the sink, and the rest aside.

use std::collections::HashMap;
use std::sync::Arc;

use ::redis::RedisResult;

use super::Reader;
use crate::event::{Decoder, Event, Id, Lease as _};
use crate::transport::redis::answers::Raw;
use crate::transport::redis::entry_id::EntryId;
use crate::transport::redis::holding::{Done, Holding, One};
use crate::transport::redis::link::Link;
use crate::transport::{Entry, reading};

/// What was read. Each is tied to its entry: whatever fails, none stays with us by mistake.
pub(super) struct Understood {
    entries: Vec<Found>,
    /// What is no event, and why.
    foreign: Vec<(Arc<One>, Raw, String)>,
}

/// An event that was read, tied to its entry.
pub(super) struct Found {
    pub entry: EntryId,
    pub again: Option<EntryId>,
    pub event: Event,
    deliveries: u64,
    /// The dead letter that it was, which is handled for the first time.
    letter: Option<Id>,
}

impl Found {
    fn new(raw: Raw, mut event: Event, deliveries: u64, holding: &Arc<Holding>) -> Found {
        let retries = u32::try_from(deliveries.saturating_sub(1)).unwrap_or(u32::MAX);
        event.metadata.retry_count = event.metadata.retry_count.max(retries);
        let letter = raw.replay.and_then(|replay| replay.letter);
        let done = Done { entry: raw.id, id: Some(letter.as_ref().unwrap_or(&event.id).clone()) };
        let lease = One::new(done, deliveries, holding);
        event.metadata.extra.get_or_insert_default().lease = Some(lease);
        Found { entry: raw.id, again: raw.again, event, deliveries, letter }
    }

    /// What it is known by if it comes twice.
    pub fn id(&self) -> &Id {
        self.letter.as_ref().unwrap_or(&self.event.id)
    }

    fn entry(self) -> Entry {
        Entry { event: self.event, deliveries: self.deliveries }
    }
}

impl Reader {
    /// Takes entries on, and reads them. Those that were given out before come with how often, this
    /// time included.
    pub(super) fn understand(
        &self,
        found: Vec<Raw>,
        times: Option<&HashMap<EntryId, u64>>,
    ) -> Understood {
        let last = found.last().map(|raw| raw.id);
        let mut entries = Vec::with_capacity(found.len());
        let (mut decoder, mut foreign) = (Decoder::default(), Vec::new());
        // One that is at work here already was only given to us once more.
        let found = self.holding.take(found);
        if times.is_none()
            && let Some(last) = last
        {
            self.under_way.came(last);
        }
        for raw in found {
            let deliveries = times.map_or(1, |times| times.get(&raw.id).copied().unwrap_or(1));
            if !raw.is_for(Some(&self.place.group)) {
                self.holding.done(Done { entry: raw.id, id: None });
                continue;
            }
            match raw.event(&mut decoder, self.inner.settings.max_entry) {
                Ok(event) => entries.push(Found::new(raw, event, deliveries, &self.holding)),
                Err(reason) => {
                    let reason = reading::reason(reason);
                    let done = Done { entry: raw.id, id: None };
                    foreign.push((One::new(done, deliveries, &self.holding), raw, reason));
                }
            }
        }
        Understood { entries, foreign }
    }

    /// Brings events to the sink, and sets aside what is none.
    pub(super) async fn bring(
        &self,
        link: &mut Link,
        Understood { mut entries, foreign }: Understood,
        given_before: bool,
    ) -> RedisResult<()> {
        for (guard, raw, reason) in foreign {
            self.set_aside(link, &raw, &reason).await?;
            guard.settle();
        }
        if let Some(seen) = &self.seen {
            self.leave_copies_out(link, seen, &mut entries, given_before).await?;
        }
        if !entries.is_empty() {
            self.sink.take(entries.into_iter().map(Found::entry).collect()).await;
        }
        Ok(())
    }

    pub(super) async fn set_aside(
        &self,
        link: &mut Link,
        raw: &Raw,
        reason: &str,
    ) -> RedisResult<()> {
        let (stream, entry) = (&*self.place.stream.key, raw.id.to_string());
        tracing::warn!(
            target: "tiebeam::transport", stream, entry, "no event, set aside: {reason}"
        );
        self.place.set_aside(link.get().await?, raw, reason).await?;
        let told = serde_json::json!({
            "stream": stream, "group": &*self.place.group, "entry": entry, "reason": reason,
        });
        (self.inner.news)("system.event_quarantined", told);
        Ok(())
    }
}
