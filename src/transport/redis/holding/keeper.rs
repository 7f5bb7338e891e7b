//! Whoever sees to it that the server knows what becomes of the entries at work.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::RedisResult;
use tokio_util::sync::CancellationToken;

use super::Holding;
use crate::transport::redis::Inner;
use crate::transport::redis::entry_id::EntryId;
use crate::transport::redis::fault::{self, Fault};
use crate::transport::redis::letters::{self, Buried};
use crate::transport::redis::link::Link;
use crate::transport::redis::place::Place;
use crate::transport::seen::Seen;

/// A server that is at work may take so long to answer, however soon others take over.
const SHORTEST: Duration = Duration::from_millis(500);

/// How long to wait at least before what is at work is kept alive after a failure.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// Acknowledges what is handled, and keeps alive what is at work, until `stop`; and after that as
/// long as somebody is at work on something, unless another keeper is there for it.
pub(in crate::transport::redis) async fn keep(
    inner: Arc<Inner>,
    place: Place,
    (holding, seen): (Arc<Holding>, Option<Arc<Seen<EntryId>>>),
    stop: CancellationToken,
) {
    holding.keepers.fetch_add(1, Ordering::AcqRel);
    let every = inner.settings.claim_idle / 3;
    // An answer that does not come must not cost what is at work: there is time for another try.
    let answer = inner.settings.response_timeout.min(every.max(SHORTEST));
    let mut keeper = Keeper {
        link: Link::new(&inner, &place.stream.key, answer),
        // They may be at another node than the stream.
        dead: (inner.site.is_cluster())
            .then(|| Link::new(&inner, &inner.keys.dead_letters(), answer)),
        answer,
        seen,
        place,
        holding: holding.clone(),
    };
    let mut patience = inner.patience();
    let mut next = inner.clock.now().saturating_add(every);
    loop {
        tokio::select! {
            () = holding.changed.notified() => {}
            () = inner.clock.sleep_until(next) => {}
            () = stop.cancelled(), if !stop.is_cancelled() => {}
            // As long as somebody reads, there may be more to tell of.
            () = inner.ending.cancelled(), if stop.is_cancelled() => {}
        }
        let mut result = keeper.tell(&inner).await;
        if inner.ending.is_cancelled() && stop.is_cancelled() {
            // It had trouble with the last of it, and may have none with this.
            if result.is_err() || !holding.is_told() {
                let _ = keeper.tell(&inner).await;
            }
            return;
        }
        if stop.is_cancelled() && (holding.leave_to_another() || holding.dismiss_if_idle()) {
            return;
        }
        // Whatever the server does not take just now: what is at work stays with us.
        if inner.clock.now() >= next {
            let refreshed = keeper.refresh().await;
            keeper.note(&refreshed);
            // After a failure there is time for more than one other try.
            let wait = if refreshed.is_ok() { every } else { (every / 4).max(SHORTEST_WAIT) };
            next = inner.clock.now().saturating_add(wait);
            result = result.and(refreshed);
        }
        if result.is_ok() {
            patience.renew();
        } else {
            // Whatever it is that the server does not take: what is at work is kept alive meanwhile.
            tokio::select! {
                _ = patience.wait() => {}
                () = inner.clock.sleep_until(next) => {}
            }
            holding.changed.notify_one(); // at once again
        }
    }
}

struct Keeper {
    link: Link,
    /// To where dead letters are kept, if that may be elsewhere.
    dead: Option<Link>,
    /// How long a server may take.
    answer: Duration,
    place: Place,
    holding: Arc<Holding>,
    /// What was seen before; none where nobody asked for that.
    seen: Option<Arc<Seen<EntryId>>>,
}

impl Keeper {
    /// A connection that is of no use is given up.
    fn note(&mut self, result: &RedisResult<()>) {
        if let Err(cause) = result {
            self.link.failed(cause);
        }
    }

    /// Tells the server what has ended. That it keeps no dead letters, for want of memory, is no
    /// reason to keep back what else there is; nor is that another node of a cluster is gone.
    async fn tell(&mut self, inner: &Inner) -> RedisResult<()> {
        let buried = self.bury(inner).await;
        if let Err(cause) = &buried {
            self.dead.as_mut().unwrap_or(&mut self.link).failed(cause);
            if Fault::of(cause) == Fault::Lost && self.dead.is_none() {
                return buried;
            }
        }
        let told = match self.hand_back(inner).await {
            Ok(()) => self.acknowledge(inner).await,
            failed => failed,
        };
        self.note(&told);
        told.and(buried)
    }

    async fn acknowledge(&mut self, inner: &Inner) -> RedisResult<()> {
        let done = self.holding.take_done();
        if done.is_empty() {
            return Ok(());
        }
        let remembers = self.seen.is_some() && self.place.remembers(self.holding.has_company());
        let now = remembers.then(|| inner.clock.unix_ms());
        let told = match self.link.get().await {
            Ok(connection) => self.place.acknowledge(connection, &done, now).await,
            Err(cause) => Err(cause),
        };
        if let Some(seen) = &self.seen {
            // Known here before it is gone from here: given out again, it is none for a handler.
            seen.handled(done.iter().filter_map(|done| done.id.as_ref()));
        }
        match told {
            Ok(()) => {
                self.holding.told(&done);
                Ok(())
            }
            // Without their group there is nothing to acknowledge.
            Err(cause) if Fault::of(&cause) == Fault::NoGroup => {
                self.holding.told(&done);
                Ok(())
            }
            Err(cause) => {
                self.holding.put_back(done, Vec::new());
                Err(cause)
            }
        }
    }

    /// Lets others have at once what nobody here is at work on any more, and is still ours. If the
    /// server does not hear of it, somebody takes it over a little later.
    async fn hand_back(&mut self, inner: &Inner) -> RedisResult<()> {
        let released = self.holding.take_released();
        let handed = self.hand_back_all(inner, &released).await;
        self.holding.handed_back(&released);
        handed
    }

    async fn hand_back_all(
        &mut self,
        inner: &Inner,
        released: &[(EntryId, u64)],
    ) -> RedisResult<()> {
        let Some(first) = released.iter().map(|(id, _)| *id).min() else { return Ok(()) };
        let most = self.holding.count() * 2 + released.len() + 1_000;
        let connection = self.link.get().await?;
        let ours = self.place.given(connection, first.before(), most).await?;
        let ours: HashSet<EntryId> = ours.into_iter().map(|(id, _)| id).collect();
        let mut by_count: BTreeMap<u64, Vec<EntryId>> = BTreeMap::new();
        for (id, deliveries) in released.iter().copied().filter(|(id, _)| ours.contains(id)) {
            // That it was given out to us tells nothing against it.
            by_count.entry(deliveries.saturating_sub(1)).or_default().push(id);
        }
        for (times, ids) in by_count {
            self.place.hand_back(connection, &ids, (inner.settings.claim_idle, times)).await?;
        }
        Ok(())
    }

    /// Keeps what was given up; only then it is acknowledged.
    async fn bury(&mut self, inner: &Inner) -> RedisResult<()> {
        let given_up = self.holding.take_letters();
        if given_up.is_empty() {
            return Ok(());
        }
        let stream = &*self.place.stream.key;
        let kept: Vec<Buried<'_>> = given_up
            .iter()
            .map(|(done, letter)| Buried { stream, entry: done.entry, letter })
            .collect();
        let link = self.dead.as_mut().unwrap_or(&mut self.link);
        // Another node that does not answer must not cost what is at work.
        let told = match inner.clock.timeout(self.answer, link.get()).await {
            Ok(Ok(connection)) => letters::keep(inner, connection, &kept).await,
            Ok(Err(cause)) => Err(cause),
            Err(elapsed) => {
                let said = format!("no connection within {:?}", elapsed.limit);
                Err(io::Error::new(io::ErrorKind::TimedOut, said).into())
            }
        };
        match told {
            Ok(()) => {
                let done = given_up.into_iter().map(|(done, _)| done).collect();
                self.holding.put_back(done, Vec::new());
                Ok(())
            }
            Err(cause) => {
                tracing::error!(
                    target: "tiebeam::transport",
                    count = given_up.len(),
                    "dead letters could not be kept, so that their events stay where they are: {}",
                    fault::error("keep dead letters", &cause)
                );
                self.holding.put_back(Vec::new(), given_up);
                Err(cause)
            }
        }
    }

    /// Keeps alive what is at work here and still ours: another process may have taken something
    /// over while this one stood still.
    async fn refresh(&mut self) -> RedisResult<()> {
        const PAGE: usize = 1_000;
        let Some((first, last)) = self.holding.ends() else { return Ok(()) };
        let mut after = first.before();
        while after < last {
            // More than we hold may be ours: what is on its way to us, and what came back.
            let ours = self.place.given(self.link.get().await?, after, PAGE).await?;
            let Some((end, _)) = ours.last() else { break };
            after = *end;
            let ids = ours.into_iter().map(|(id, _)| id);
            let ids: Vec<EntryId> = ids.filter(|id| self.holding.has(*id)).collect();
            if !ids.is_empty() {
                self.place.keep(self.link.get().await?, &ids).await?;
            }
        }
        Ok(())
    }
}
