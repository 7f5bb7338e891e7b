//! Reading for a group: what is new, what was given to us before, and what others left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::redis::RedisResult;
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::holding::{self, Holding};
use super::link::{Link, Patience};
use super::stream::{Place, Raw};
use super::{Inner, Start};
use crate::transport::entry::{Entry, Sink};

/// How long the server is to wait for something new before it answers that there is nothing.
const BLOCK: Duration = Duration::from_secs(2);

/// One reader: what it reads, and where it brings it.
struct Reader {
    inner: Arc<Inner>,
    place: Place,
    sink: Arc<dyn Sink>,
    holding: Arc<Holding>,
}

/// Reads until `stop`.
pub(super) async fn read(
    inner: Arc<Inner>,
    place: Place,
    sink: Arc<dyn Sink>,
    stop: CancellationToken,
) {
    let holding = Arc::<Holding>::default();
    let reader =
        Reader { inner: inner.clone(), place: place.clone(), sink, holding: holding.clone() };
    let keeping = holding::keep(inner.clone(), place, holding, stop.clone());
    let keeper = inner.tasks.spawn_on(keeping, &inner.runtime);
    tokio::select! {
        () = reader.follow() => {}
        () = reader.take_over() => {}
        () = stop.cancelled() => {}
    }
    let _ = keeper.await; // it ends by the same token
}

impl Reader {
    /// Reads what comes, and after each failure first what was given to us and got lost.
    async fn follow(&self) {
        // The server answers in time, or `BLOCK` later: anything else is a loss.
        let mut link = Link::new(&self.inner, BLOCK + self.inner.settings.response_timeout);
        let mut patience = Patience::new(&self.inner);
        let mut start = self.place.start;
        loop {
            let Err(cause) = self.session(&mut link, &mut patience, &mut start).await else {
                return;
            };
            let fault = Fault::of(&cause);
            link.failed(fault);
            if fault == Fault::NoGroup {
                tracing::warn!(
                    target: "tiebeam::transport",
                    stream = &*self.place.stream, group = &*self.place.group,
                    "the group was gone, and is made again: from the oldest event there is"
                );
            } else {
                tracing::warn!(
                    target: "tiebeam::transport",
                    stream = &*self.place.stream, group = &*self.place.group,
                    "reading failed: {}", super::fault::error("read", &cause)
                );
            }
            if !patience.wait().await {
                return;
            }
        }
    }

    /// Reads over one connection until it fails.
    async fn session(
        &self,
        link: &mut Link,
        patience: &mut Patience,
        start: &mut Start,
    ) -> RedisResult<()> {
        let count = self.inner.settings.batch;
        let connection = link.get().await?;
        match self.place.create(connection, *start).await {
            Err(cause) if Fault::of(&cause) != Fault::BusyGroup => return Err(cause),
            // Once it was there, nothing that comes must be lost if it vanishes: what comes twice
            // has the same id.
            _ => *start = Start::First,
        }
        let mut after: Arc<str> = "0".into();
        loop {
            let own = self.place.own(link.get().await?, &after, count).await?;
            let Some(last) = own.last() else { break };
            after = last.id.clone();
            self.again(link, own).await?;
        }
        loop {
            let fresh = self.place.fresh(link.get().await?, count, BLOCK).await?;
            patience.renew();
            if !fresh.is_empty() {
                self.bring(link, fresh, |_| 1).await?;
            }
        }
    }

    /// Brings what was given out before.
    async fn again(&self, link: &mut Link, found: Vec<Raw>) -> RedisResult<()> {
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(()) };
        let ends = (&*first.id, &*last.id);
        let between = found.len() + self.holding.count(); // what is at work may stand between
        let counts = self.place.deliveries(link.get().await?, ends, between).await?;
        self.bring(link, found, |id| times(&counts, id)).await
    }

    /// Brings entries to the sink, and sets aside what is none.
    async fn bring(
        &self,
        link: &mut Link,
        found: Vec<Raw>,
        deliveries: impl Fn(&Arc<str>) -> u64,
    ) -> RedisResult<()> {
        let mut entries = Vec::with_capacity(found.len());
        for raw in found {
            // One that is at work here already was only given to us once more.
            let Some(held) = self.holding.take(&raw.id) else { continue };
            match raw.event() {
                Ok(event) => {
                    let deliveries = deliveries(&raw.id);
                    entries.push(Entry { event: Arc::new(event), deliveries, held });
                }
                Err(reason) => {
                    tracing::warn!(
                        target: "tiebeam::transport",
                        stream = &*self.place.stream, entry = &*raw.id,
                        "no event, set aside: {reason}"
                    );
                    self.place.set_aside(link.get().await?, &raw, &reason).await?;
                    held.acknowledge();
                }
            }
        }
        if !entries.is_empty() {
            self.sink.take(entries).await;
        }
        Ok(())
    }

    /// Takes over, now and then, what was given to processes that are gone.
    async fn take_over(&self) {
        let idle = self.inner.settings.claim_idle;
        let mut link = Link::new(&self.inner, self.inner.settings.response_timeout);
        let mut patience = Patience::new(&self.inner);
        loop {
            self.inner.clock.sleep(idle / 2).await;
            match self.sweep(&mut link).await {
                Ok(()) => patience.renew(),
                Err(cause) => {
                    link.failed(Fault::of(&cause));
                    if !patience.wait().await {
                        return;
                    }
                }
            }
        }
    }

    async fn sweep(&self, link: &mut Link) -> RedisResult<()> {
        let (idle, count) = (self.inner.settings.claim_idle, self.inner.settings.batch);
        let mut cursor = "0-0".to_owned();
        loop {
            let connection = link.get().await?;
            let (next, found, gone) = self.place.claim(connection, idle, &cursor, count).await?;
            if gone > 0 {
                tracing::error!(
                    target: "tiebeam::transport",
                    stream = &*self.place.stream, group = &*self.place.group, gone,
                    "entries were trimmed before they were handled"
                );
            }
            self.again(link, found).await?;
            if next == "0-0" {
                return Ok(());
            }
            cursor = next;
        }
    }
}

fn times(counts: &HashMap<Arc<str>, u64>, id: &Arc<str>) -> u64 {
    counts.get(id).copied().unwrap_or(1)
}
