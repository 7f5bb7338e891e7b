//! What a reader does beside reading: it shows that it is there, takes over what others left, and
//! tidies up.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::RedisResult;
use futures_util::future::OptionFuture;

use super::{GONE, Reader};
use crate::error::Error;
use crate::transport::redis::entry_id::EntryId;
use crate::transport::redis::keys::Kind;
use crate::transport::redis::link::Link;
use crate::transport::redis::{manner, presence};

/// Taking up what was taken over: it waits until there is room for it here.
type TakingUp<'a> = Pin<Box<dyn Future<Output = RedisResult<()>> + Send + 'a>>;

impl Reader {
    /// Takes over, now and then, what was given to processes that are gone, and tidies up.
    pub(super) async fn look_after(&self) {
        let every = (self.inner.settings.claim_idle / 2).min(Duration::from_secs(1));
        let limit = self.inner.settings.response_timeout;
        let mut link = Link::new(&self.inner, &self.place.stream.key, limit);
        let mut patience = self.inner.patience();
        let mut tidied = self.inner.clock.now();
        let mut taking_up: Option<TakingUp<'_>> = None;
        loop {
            tokio::select! {
                () = self.inner.clock.sleep(every) => {}
                taken = async { OptionFuture::from(taking_up.as_mut()).await }, if taking_up.is_some() => {
                    taking_up = None;
                    // What is left of it is taken up with the next sweep.
                    if let Some(Err(_)) = taken {
                        self.suspects.store(true, Ordering::Relaxed);
                    }
                    continue;
                }
            }
            if !self.claimed.load(Ordering::Relaxed) {
                continue; // it is not ours to look after
            }
            let looked = match &self.turn {
                None => self.sweep(&mut link, taking_up.is_some()).await,
                Some(turn) if turn.is_ours() => self.stay_so(&mut link).await.map(|()| false),
                Some(_) => {
                    link.let_go(); // whoever waits needs no connection
                    continue;
                }
            };
            let mut result = looked.map(|found| {
                if found {
                    taking_up = Some(Box::pin(self.take_up_apart()));
                }
            });
            let now = self.inner.clock.now();
            if result.is_ok() && now.saturating_since(tidied) >= self.inner.settings.tidy_every {
                tidied = now;
                result = self.tidy(&mut link).await;
            }
            match result {
                Ok(()) => patience.renew(),
                Err(cause) => {
                    link.failed(&cause);
                    if !patience.wait().await {
                        return;
                    }
                }
            }
        }
    }

    /// Shows that it is there, however long what it has takes it; and takes over what others left,
    /// unless it has not come to an end with that. Whether there is something to take up.
    async fn sweep(&self, link: &mut Link, is_taking_up: bool) -> RedisResult<bool> {
        let others = self.place.others(link.get().await?, GONE).await?;
        let company = !others.is_empty();
        if matches!(self.place.stream.kind, Kind::Commands | Kind::Requests) {
            self.place.stay(link.get().await?).await?;
        }
        if self.place.owner.is_some() {
            presence::claim(link.get().await?, &self.place).await?;
        }
        self.stay_so(link).await?;
        if self.holding.set_company(company) != company && company {
            // What the others were given before each knew of the other.
            self.recall(link).await?;
        }
        if is_taking_up {
            return Ok(false); // others may have time for more
        }
        let (idle, count) = (self.inner.settings.claim_idle, self.inner.settings.batch);
        let (mut cursor, mut any) = (EntryId::default(), false);
        loop {
            let connection = link.get().await?;
            let claimed = self.place.claim(connection, idle, cursor, count).await?;
            if claimed.gone > 0 {
                self.lost(claimed.gone);
            }
            any |= !claimed.found.is_empty();
            self.under_way.took_over(claimed.found);
            if claimed.next == EntryId::default() {
                break;
            }
            cursor = claimed.next;
        }
        Ok(any | self.suspects.swap(false, Ordering::Relaxed))
    }

    /// Takes up what there is, over a connection of its own for that time.
    async fn take_up_apart(&self) -> RedisResult<()> {
        let limit = self.inner.settings.response_timeout;
        let mut link = Link::new(&self.inner, &self.place.stream.key, limit);
        self.take_up_beside(&mut link).await
    }

    /// Forgets what is of no use any more.
    async fn tidy(&self, link: &mut Link) -> RedisResult<()> {
        let idle = GONE.max(self.inner.settings.claim_idle * 4);
        self.place.bury_consumers(link.get().await?, idle).await?;
        self.look_for_gap(link).await?;
        if let Some(seen) = &self.seen
            && self.place.is_remembered()
        {
            let (since, count) = (self.inner.since(seen.window().time), seen.window().count);
            self.place.forget(link.get().await?, since, count).await?;
        }
        Ok(())
    }

    /// Says in which manner the group is read; the error where others read in another one.
    pub(super) async fn say_how(&self, link: &mut Link) -> RedisResult<Option<Error>> {
        if self.place.stream.kind != Kind::Category {
            return Ok(None);
        }
        manner::say(link.get().await?, &self.place, self.turn.is_some()).await
    }

    /// Says so again. Whoever stood still for long may come back to others.
    pub(super) async fn stay_so(&self, link: &mut Link) -> RedisResult<()> {
        if let Some(differs) = self.say_how(link).await? {
            let stream = &*self.place.stream.key;
            tracing::warn!(target: "tiebeam::transport", stream, "{}", differs.message());
        }
        Ok(())
    }
}
