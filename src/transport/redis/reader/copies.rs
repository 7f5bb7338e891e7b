//! What comes twice: it is acknowledged, and handled once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::RedisResult;

use super::Reader;
use super::found::Found;
use crate::transport::redis::entry_id::EntryId;
use crate::transport::redis::holding::Done;
use crate::transport::redis::link::Link;
use crate::transport::seen::{Noted, Seen};

impl Reader {
    /// Acknowledges copies of what was handled, or is at work, and takes them out.
    pub(super) async fn leave_copies_out(
        &self,
        link: &mut Link,
        seen: &Seen<EntryId>,
        entries: &mut Vec<Found>,
        given_before: bool,
    ) -> RedisResult<()> {
        let suspect = given_before
            || self.holding.has_company()
            || self.anew.load(Ordering::Relaxed)
            || entries.iter().any(|found| found.again.is_some());
        if suspect && self.place.is_remembered() && !entries.is_empty() {
            let ids = entries.iter().map(Found::id);
            let handled = self.place.handled(link.get().await?, ids).await?;
            // What is older than the window is known until somebody tidies up, and counts no more.
            let (now, window) = (self.inner.clock.unix_ms(), seen.window().time);
            let known = entries.iter().zip(handled).filter_map(|(found, at)| {
                let age = Duration::from_millis(now.saturating_sub(at?).max(0).unsigned_abs());
                (age < window).then(|| (found.id(), age))
            });
            seen.handled_before(known);
        }
        if entries.iter().any(|found| found.again.is_some()) {
            self.leave_resent_out(link, seen, entries).await?;
        }
        let noted = seen.note(entries.iter().map(|found| (found.id(), found.entry)));
        let mut noted = noted.into_iter();
        entries.retain(|found| match noted.next() {
            None | Some(Noted::First) => true,
            Some(Noted::Copy) => {
                self.is_a_copy(found);
                false
            }
            // A later one is at work: this one waits until that has come to an end.
            Some(Noted::Before) => false,
        });
        Ok(())
    }

    /// Takes out what its sender has sent again, and stands in the stream before.
    pub(super) async fn leave_resent_out(
        &self,
        link: &mut Link,
        seen: &Seen<EntryId>,
        entries: &mut Vec<Found>,
    ) -> RedisResult<()> {
        let mut others = Vec::with_capacity(entries.len());
        for found in entries.drain(..) {
            if let Some(after) = found.again
                && let between = (after, found.entry)
                && let connection = link.get().await?
                && self.place.stands_before(connection, &found.event.id, between).await?
            {
                // It is not noted: the copy before it may be with somebody who is gone, and come to
                // us yet.
                seen.count();
                self.is_a_copy(&found);
            } else {
                others.push(found);
            }
        }
        *entries = others;
        Ok(())
    }

    /// Whoever has the other one may not come to an end with it: the id is not remembered as
    /// handled.
    pub(super) fn is_a_copy(&self, found: &Found) {
        self.holding.done(Done { entry: found.entry, id: None });
    }
}
