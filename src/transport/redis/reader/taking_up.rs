//! What was given to this process before, and is not at work in it: it is given to it again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::RedisResult;

use super::Reader;
use crate::transport::redis::answers::Raw;
use crate::transport::redis::entry_id::EntryId;
use crate::transport::redis::link::Link;

/// How long it is waited for the end of one that is taken up by itself.
const SOON: Duration = Duration::from_millis(500);

impl Reader {
    /// Takes up what was given to us before, and is not at work here. What was given out more than
    /// once may be what ended those who had it: with `suspects` it is taken up, too, one by one.
    pub(super) async fn take_up(&self, link: &mut Link, suspects: bool) -> RedisResult<()> {
        // Whoever is at it does it for both.
        let Ok(taking_up) = self.taking_up.try_lock() else { return Ok(()) };
        let count = self.inner.settings.batch;
        let (mut after, mut suspected) = (EntryId::default(), Vec::new());
        loop {
            let mut given = self.place.given(link.get().await?, after, count).await?;
            let Some((last, _)) = given.last() else { break };
            after = *last;
            given.retain(|(id, _)| !self.holding.has(*id));
            let (twice, once): (Vec<_>, Vec<_>) =
                given.into_iter().partition(|(_, times)| *times > 1);
            suspected.extend(twice);
            self.give_again(link, &once).await?;
        }
        drop(taking_up);
        if suspects {
            self.take_up_suspects(link, &suspected).await?;
        }
        Ok(())
    }

    /// One after the other, as far as they come to an end soon; the rest waits for the next sweep.
    pub(super) async fn take_up_suspects(
        &self,
        link: &mut Link,
        suspected: &[(EntryId, u64)],
    ) -> RedisResult<()> {
        let under_way = *self.suspect.lock();
        if under_way.is_some_and(|id| self.holding.has(id)) {
            self.suspects.store(!suspected.is_empty(), Ordering::Relaxed);
            return Ok(());
        }
        for (id, _) in suspected {
            // Meanwhile somebody else may have taken it over.
            let given = self.place.given(link.get().await?, id.before(), 1).await?;
            let Some(one) = given.first().filter(|(given, _)| given == id) else { continue };
            *self.suspect.lock() = Some(*id);
            self.give_again(link, &[*one]).await?;
            if self.inner.clock.timeout(SOON, self.holding.rid_of(*id)).await.is_err() {
                self.suspects.store(true, Ordering::Relaxed);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Brings entries that were given out so many times before.
    pub(super) async fn give_again(
        &self,
        link: &mut Link,
        given: &[(EntryId, u64)],
    ) -> RedisResult<()> {
        if given.is_empty() {
            return Ok(());
        }
        let found = self.place.again(link.get().await?, given.iter().map(|(id, _)| *id)).await?;
        if found.len() < given.len() {
            self.look_for(link, given, &found).await?;
        }
        let times = given.iter().map(|(id, times)| (*id, times + 1)).collect();
        self.bring(link, self.understand(found, Some(&times)), true).await
    }

    /// What was ours and does not come: was it trimmed?
    pub(super) async fn look_for(
        &self,
        link: &mut Link,
        given: &[(EntryId, u64)],
        found: &[Raw],
    ) -> RedisResult<()> {
        let mut gone = 0;
        for (id, _) in given.iter().filter(|(id, _)| !found.iter().any(|raw| raw.id == *id)) {
            gone += usize::from(!self.place.is_there(link.get().await?, *id).await?);
        }
        if gone > 0 {
            self.lost(gone);
        }
        Ok(())
    }
}
