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

/// An entry, and how often it was given out.
type Given = (EntryId, u64);

impl Reader {
    /// Takes up what was given to us before, and is not at work here: before anything is read. What
    /// was given out more than once may be what ended those who had it, and waits.
    pub(super) async fn take_up_before_reading(&self, link: &mut Link) -> RedisResult<()> {
        // What is taken up beside comes before what is new, too.
        let _taking_up = self.taking_up.lock().await;
        self.under_way.begin();
        let mut after = EntryId::default();
        while let Some(given) = self.given_behind(link, &mut after).await? {
            self.under_way.came(after); // no read is under way
            let (_, once) = by_times(given);
            self.give_again(link, &once).await?;
        }
        Ok(())
    }

    /// Takes up what was given to us before, and is not at work here: while it is read, which
    /// brings something itself. What was given out more than once is taken up, too, one by one.
    pub(super) async fn take_up_beside(&self, link: &mut Link) -> RedisResult<()> {
        // Whoever is at it does it for both.
        let Ok(taking_up) = self.taking_up.try_lock() else { return Ok(()) };
        let (mut after, mut suspected) = (EntryId::default(), Vec::new());
        while let Some(mut given) = self.given_behind(link, &mut after).await? {
            given.retain(|(id, _)| !self.under_way.may_bring(*id));
            let (twice, once) = by_times(given);
            suspected.extend(twice);
            self.give_again(link, &once).await?;
        }
        drop(taking_up);
        self.take_up_suspects(link, &suspected).await
    }

    /// Of what was given to us the next part behind `after`, which moves on: what is not at work
    /// here, and how often each was given out. None at the end.
    async fn given_behind(
        &self,
        link: &mut Link,
        after: &mut EntryId,
    ) -> RedisResult<Option<Vec<Given>>> {
        let count = self.inner.settings.batch;
        let mut given = self.place.given(link.get().await?, *after, count).await?;
        let Some((last, _)) = given.last() else { return Ok(None) };
        *after = *last;
        given.retain(|(id, _)| !self.holding.has(*id));
        Ok(Some(given))
    }

    /// One after the other, as far as they come to an end soon; the rest waits for the next sweep.
    pub(super) async fn take_up_suspects(
        &self,
        link: &mut Link,
        suspected: &[Given],
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
    pub(super) async fn give_again(&self, link: &mut Link, given: &[Given]) -> RedisResult<()> {
        if given.is_empty() {
            return Ok(());
        }
        let ids = || given.iter().map(|(id, _)| *id);
        let claiming = self.claiming.lock().await;
        let found = self.place.again(link.get().await?, ids()).await?;
        self.under_way.taken_up(ids());
        let missing = missing(given, &found);
        let times = given.iter().map(|(id, times)| (*id, times + 1)).collect();
        let understood = self.understand(found, Some(&times));
        drop(claiming);
        self.look_for(link, &missing).await?;
        self.bring(link, understood, true).await
    }

    /// What was ours and does not come: was it trimmed?
    async fn look_for(&self, link: &mut Link, missing: &[EntryId]) -> RedisResult<()> {
        let mut gone = 0;
        for id in missing {
            gone += usize::from(!self.place.is_there(link.get().await?, *id).await?);
        }
        if gone > 0 {
            self.lost(gone);
        }
        Ok(())
    }
}

/// Those of `given` that are not among `found`.
fn missing(given: &[Given], found: &[Raw]) -> Vec<EntryId> {
    let is_there = |id: &EntryId| found.iter().any(|raw| raw.id == *id);
    if found.len() == given.len() {
        return Vec::new();
    }
    given.iter().map(|(id, _)| *id).filter(|id| !is_there(id)).collect()
}

/// Those that were given out more than once, and the others.
fn by_times(given: Vec<Given>) -> (Vec<Given>, Vec<Given>) {
    given.into_iter().partition(|(_, times)| *times > 1)
}
