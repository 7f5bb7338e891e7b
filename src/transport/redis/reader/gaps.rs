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
            Ok(missing) => {
                let told = self.missing.swap(missing, Ordering::Relaxed);
                if missing > told {
                    self.lost(usize::try_from(missing - told).unwrap_or(usize::MAX));
                }
                Ok(())
            }
            Err(cause) if matches!(Fault::of(&cause), Fault::Lost | Fault::NoGroup) => Err(cause),
            Err(_) => Ok(()), // who may not ask does not know
        }
    }

    async fn gap(&self, link: &mut Link) -> RedisResult<u64> {
        // In this order: what is given out in between is no gap.
        let extent = self.place.extent(link.get().await?).await?;
        let Some(group) = self.place.standing(link.get().await?).await? else { return Ok(0) };
        let (Some(added), Some(read)) = (extent.added, group.entries_read) else { return Ok(0) };
        if extent.first.is_some_and(|first| first <= group.last_delivered) {
            return Ok(0); // what the group stands at is there yet, or behind it
        }
        Ok(added.saturating_sub(extent.length).saturating_sub(read))
    }
}
