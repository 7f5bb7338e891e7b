//! Reading for a group: what is new, what was given to us before, and what others left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::RedisResult;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::answers::Raw;
use super::entry_id::EntryId;
use super::fault::{self, Fault};
use super::holding::{self, Done, Holding, One};
use super::keys::Kind;
use super::link::Link;
use super::place::Place;
use super::presence;
use super::seen::Seen;
use crate::event::Event;
use crate::transport::opening::Opening;
use crate::transport::{Entry, Sink, Start};

/// How long the server is to wait for something new before it answers that there is nothing.
pub(super) const BLOCK: Duration = Duration::from_secs(2);

/// Who has not asked for anything for so long reads no more.
const GONE: Duration = Duration::from_secs(60);

/// One reader: what it reads, and where it brings it.
struct Reader {
    inner: Arc<Inner>,
    place: Place,
    sink: Arc<dyn Sink>,
    holding: Arc<Holding>,
    /// What was seen before; none where nobody asked for that.
    seen: Option<Arc<Seen>>,
    /// Whether others read for the group.
    company: AtomicBool,
}

/// Reads until `stop`.
pub(super) async fn read(
    inner: Arc<Inner>,
    place: Place,
    sink: Arc<dyn Sink>,
    opening: Opening,
    stop: CancellationToken,
) {
    let holding = Arc::<Holding>::default();
    let seen = inner.settings.dedup.map(|window| inner.seen(&place, window));
    let reader = Reader {
        inner: inner.clone(),
        place: place.clone(),
        sink,
        holding: holding.clone(),
        seen,
        company: AtomicBool::new(false),
    };
    let keeping = holding::keep(inner.clone(), place, holding, stop.clone());
    let keeper = inner.tasks.spawn_on(keeping, &inner.runtime);
    tokio::select! {
        () = reader.follow(opening) => {}
        () = reader.look_after() => {}
        () = stop.cancelled() => {}
    }
    let _ = keeper.await; // it ends by the same token
    reader.leave().await;
}

impl Reader {
    fn name(&self) -> String {
        format!("{} for {}", self.place.stream.key, self.place.group)
    }

    /// Reads what comes, and after each failure first what was given to us and got lost.
    async fn follow(&self, opening: Opening) {
        // The server answers in time, or `BLOCK` later: anything else is a loss.
        let mut link = Link::new(&self.inner, BLOCK + self.inner.settings.response_timeout);
        let mut patience = self.inner.patience();
        let mut start = self.place.start;
        let name = self.name();
        loop {
            let session = self.session(&mut link, &opening, &mut start, || {
                patience.renew();
                self.inner.trouble.over(&name);
            });
            let Err(cause) = session.await else { return };
            let fault = Fault::of(&cause);
            link.failed(fault);
            let error = fault::error("read", &cause);
            let (stream, group) = (&*self.place.stream.key, &*self.place.group);
            if fault == Fault::NoGroup {
                tracing::warn!(
                    target: "tiebeam::transport", stream, group,
                    "the group was gone, and is made again: from the oldest event there is"
                );
                let told = serde_json::json!({"stream": stream, "group": group});
                (self.inner.news)("system.stream_reset", told);
            } else {
                tracing::warn!(
                    target: "tiebeam::transport", stream, group, "reading failed: {error}"
                );
                self.inner.trouble.begins(&name, error.message());
            }
            if !fault.passes() && fault != Fault::NoGroup {
                opening.failed(error);
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
        opening: &Opening,
        start: &mut Start,
        mut worked: impl FnMut(),
    ) -> RedisResult<()> {
        let count = self.inner.settings.batch;
        match self.place.create(link.get().await?, *start).await {
            Err(cause) if Fault::of(&cause) != Fault::BusyGroup => return Err(cause),
            // Once it was there, nothing that comes must be lost if it vanishes: what comes twice
            // has the same id.
            _ => *start = Start::First,
        }
        self.place.enter(link.get().await?).await?;
        if self.place.stream.kind == Kind::Commands
            && let Some(rival) = presence::rival(link.get().await?, &self.place).await?
        {
            opening.failed(rival);
            return std::future::pending().await;
        }
        worked();
        opening.begun();
        self.recall(link).await?;
        self.take_up(link).await?;
        loop {
            let fresh = self.place.fresh(link.get().await?, count, BLOCK).await?;
            worked();
            if !fresh.is_empty() {
                self.bring(link, fresh, None).await?;
            }
        }
    }

    /// What the group has handled lately, and who else reads for it.
    async fn recall(&self, link: &mut Link) -> RedisResult<()> {
        let others = self.place.others(link.get().await?, GONE).await?;
        self.company.store(!others.is_empty(), Ordering::Relaxed);
        let Some(seen) = &self.seen else { return Ok(()) };
        if self.place.is_remembered() && seen.begin() {
            let since = self.inner.since(seen.window());
            let ids = self.place.remembered(link.get().await?, since, seen.window().count).await?;
            ids.iter().for_each(|id| seen.handled_elsewhere(id));
        }
        Ok(())
    }

    /// Takes up what was given to us before, and is not at work here.
    async fn take_up(&self, link: &mut Link) -> RedisResult<()> {
        let count = self.inner.settings.batch;
        let mut after = EntryId::default();
        loop {
            let given = self.place.given(link.get().await?, after, count).await?;
            let Some((last, _)) = given.last() else { return Ok(()) };
            after = *last;
            let mut times: HashMap<EntryId, u64> = given.into_iter().collect();
            times.retain(|id, _| !self.holding.has(*id));
            if times.is_empty() {
                continue;
            }
            let mut ids: Vec<EntryId> = times.keys().copied().collect();
            ids.sort_unstable();
            let found = self.place.again(link.get().await?, ids.into_iter()).await?;
            times.values_mut().for_each(|times| *times += 1); // by that
            self.bring(link, found, Some(&times)).await?;
        }
    }

    /// Brings entries to the sink, and sets aside what is none. Those that were given out before
    /// come with how often, this time included.
    async fn bring(
        &self,
        link: &mut Link,
        found: Vec<Raw>,
        times: Option<&HashMap<EntryId, u64>>,
    ) -> RedisResult<()> {
        let mut entries = Vec::with_capacity(found.len());
        for raw in found {
            // One that is at work here already was only given to us once more.
            if !self.holding.take(raw.id) {
                continue;
            }
            let deliveries = times.map_or(1, |times| times.get(&raw.id).copied().unwrap_or(1));
            match raw.event(self.inner.settings.max_entry) {
                Ok(event) => entries.push(Found::new(raw, event, deliveries, &self.holding)),
                Err(reason) => {
                    let guard = One::unnamed(raw.id, &self.holding);
                    self.set_aside(link, &raw, &reason).await?;
                    guard.settle_now();
                }
            }
        }
        if let Some(seen) = &self.seen {
            self.leave_copies_out(link, seen, &mut entries, times.is_some()).await?;
        }
        if !entries.is_empty() {
            self.sink.take(entries.into_iter().map(Found::entry).collect()).await;
        }
        Ok(())
    }

    async fn set_aside(&self, link: &mut Link, raw: &Raw, reason: &str) -> RedisResult<()> {
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

    /// Acknowledges copies of what was handled, or is at work, and takes them out.
    async fn leave_copies_out(
        &self,
        link: &mut Link,
        seen: &Seen,
        entries: &mut Vec<Found>,
        given_before: bool,
    ) -> RedisResult<()> {
        let suspect = given_before
            || self.company.load(Ordering::Relaxed)
            || entries.iter().any(|found| found.again.is_some());
        if suspect && self.place.is_remembered() && !entries.is_empty() {
            let ids = entries.iter().map(|found| &found.event.id);
            let handled = self.place.handled(link.get().await?, ids).await?;
            for (found, handled) in entries.iter().zip(handled) {
                if handled {
                    seen.handled_elsewhere(&found.event.id);
                }
            }
        }
        let mut first = Vec::with_capacity(entries.len());
        for found in entries.drain(..) {
            let mut copy = !seen.note(&found.event.id, found.entry);
            if let Some(after) = found.again.filter(|_| !copy) {
                let between = (after, found.entry);
                let connection = link.get().await?;
                copy = self.place.stands_before(connection, &found.event.id, between).await?;
                if copy {
                    seen.count();
                }
            }
            if copy {
                found.event.settle();
            } else {
                first.push(found);
            }
        }
        *entries = first;
        Ok(())
    }

    /// Takes over, now and then, what was given to processes that are gone, and tidies up.
    async fn look_after(&self) {
        let every = (self.inner.settings.claim_idle / 2).min(Duration::from_secs(1));
        let mut link = Link::new(&self.inner, self.inner.settings.response_timeout);
        let mut patience = self.inner.patience();
        let mut tidied = self.inner.clock.now();
        loop {
            self.inner.clock.sleep(every).await;
            let mut result = self.sweep(&mut link).await;
            let now = self.inner.clock.now();
            if result.is_ok() && now.saturating_since(tidied) >= self.inner.settings.tidy_every {
                tidied = now;
                result = self.tidy(&mut link).await;
            }
            match result {
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
        let others = self.place.others(link.get().await?, GONE).await?;
        self.company.store(!others.is_empty(), Ordering::Relaxed);
        let (idle, count) = (self.inner.settings.claim_idle, self.inner.settings.batch);
        let mut cursor = EntryId::default();
        loop {
            let connection = link.get().await?;
            let (next, found, gone) = self.place.claim(connection, idle, cursor, count).await?;
            if gone > 0 {
                self.lost(gone);
            }
            if let (Some(first), Some(last)) = (found.first(), found.last()) {
                // What is at work here may stand between.
                let between = found.len() + self.holding.count();
                let before = first.id.before();
                let given = self.place.given(link.get().await?, before, between).await?;
                let times = given.into_iter().filter(|(id, _)| *id <= last.id).collect();
                self.bring(link, found, Some(&times)).await?;
            }
            if next == EntryId::default() {
                return Ok(());
            }
            cursor = next;
        }
    }

    fn lost(&self, count: usize) {
        let (stream, group) = (&*self.place.stream.key, &*self.place.group);
        tracing::error!(
            target: "tiebeam::transport", stream, group, count,
            "entries were trimmed before they were handled"
        );
        let told = serde_json::json!({
            "stream": stream, "group": group, "lost_by_trim": count,
        });
        (self.inner.news)("system.events_lost", told);
    }

    /// Forgets what is of no use any more.
    async fn tidy(&self, link: &mut Link) -> RedisResult<()> {
        let idle = GONE.max(self.inner.settings.claim_idle * 4);
        self.place.bury_consumers(link.get().await?, idle).await?;
        if let Some(seen) = &self.seen
            && self.place.is_remembered()
        {
            let (since, count) = (self.inner.since(seen.window()), seen.window().count);
            self.place.forget(link.get().await?, since, count).await?;
        }
        Ok(())
    }

    /// Takes itself off the server, if it holds nothing there.
    async fn leave(&self) {
        let mut link = Link::new(&self.inner, self.inner.settings.response_timeout);
        let leaving = async {
            let connection = link.get().await?;
            if self.place.given(connection, EntryId::default(), 1).await?.is_empty() {
                self.place.leave(connection, &self.place.consumer).await?;
            }
            RedisResult::Ok(())
        };
        // Whoever reads later takes out what is left of it.
        let _ = self.inner.clock.timeout(Duration::from_secs(1), leaving).await;
    }
}

/// An event that was read, tied to its entry.
struct Found {
    entry: EntryId,
    again: Option<EntryId>,
    event: Event,
    deliveries: u64,
}

impl Found {
    fn new(raw: Raw, mut event: Event, deliveries: u64, holding: &Arc<Holding>) -> Found {
        let retries = u32::try_from(deliveries.saturating_sub(1)).unwrap_or(u32::MAX);
        event.metadata.retry_count = event.metadata.retry_count.max(retries);
        let lease = One::new(raw.id, event.id.clone(), holding);
        event.metadata.extra.get_or_insert_default().lease = Some(lease);
        Found { entry: raw.id, again: raw.again, event, deliveries }
    }

    fn entry(self) -> Entry {
        Entry { event: self.event, deliveries: self.deliveries }
    }
}

impl One {
    /// For what is no event.
    fn unnamed(entry: EntryId, of: &Arc<Holding>) -> Arc<One> {
        One::of(Done { entry, id: None }, of)
    }

    fn settle_now(&self) {
        crate::event::Lease::settle(self);
    }
}
