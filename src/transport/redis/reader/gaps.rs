//! What was trimmed by somebody before anybody of the group was given it.

use std::sync::atomic::Ordering;

use ::redis::RedisResult;

use super::Reader;
use crate::transport::redis::fault::Fault;
use crate::transport::redis::keys::Kind;
use crate::transport::redis::link::Link;

impl Reader {
    /// Tells how many entries behind the last one that the group was given are gone. Servers before
    /// Redis 7 do not count what a stream ever had; what they lost like that is not known.
    pub(super) async fn look_for_gap(&self, link: &mut Link) -> RedisResult<()> {
        if self.place.stream.kind != Kind::Category {
            return Ok(());
        }
        match self.gap(link).await {
            Err(cause) if matches!(Fault::of(&cause), Fault::Lost | Fault::NoGroup) => Err(cause),
            _ => Ok(()), // who may not ask does not know
        }
    }

    async fn gap(&self, link: &mut Link) -> RedisResult<()> {
        let Some(group) = self.place.standing(link.get().await?).await? else { return Ok(()) };
        if group.lag == Some(0) {
            self.missing.store(0, Ordering::Relaxed);
            return Ok(()); // it was given everything
        }
        let extent = self.place.extent(link.get().await?).await?;
        let (Some(added), Some(read)) = (extent.added, group.entries_read) else { return Ok(()) };
        if extent.last <= group.last_delivered {
            // So it was given everything, and the server has lost count, which it does where
            // something was gone: the next gap is to be counted from here.
            self.missing.store(0, Ordering::Relaxed);
            return self.place.count_anew(link.get().await?).await;
        }
        if extent.first.is_some_and(|first| first <= group.last_delivered) {
            return Ok(()); // what it stands at is there yet, or something before it
        }
        let gone = added.saturating_sub(extent.length);
        let missing = gone.saturating_sub(read);
        let told = self.missing.swap(missing, Ordering::Relaxed);
        // Of all members, one tells.
        if missing > told && self.place.tells_of(link.get().await?, gone).await? {
            self.lost(usize::try_from(missing - told).unwrap_or(usize::MAX));
        }
        Ok(())
    }
}
