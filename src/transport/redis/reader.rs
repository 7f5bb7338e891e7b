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
use super::opening::Opening;
use super::place::Place;
use super::presence;
use crate::event::{Event, Lease as _};
use crate::transport::seen::Seen;
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
    seen: Option<Arc<Seen<EntryId>>>,
    /// Whether others read for the group.
    company: AtomicBool,
    /// Whether there may be something to take up one by one.
    suspects: AtomicBool,
    /// Whether it has read for the group before.
    begun: AtomicBool,
    /// Whether the group was made again, so that what comes may have been handled before.
    anew: AtomicBool,
    taking_up: tokio::sync::Mutex<()>,
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
        suspects: AtomicBool::new(false),
        begun: AtomicBool::new(false),
        anew: AtomicBool::new(false),
        taking_up: tokio::sync::Mutex::default(),
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
                self.vanished();
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
            // A server that came back with nothing does not say so.
            Ok(()) if self.begun.load(Ordering::Relaxed) && !self.anew.load(Ordering::Relaxed) => {
                self.vanished();
            }
            // Once it was there, nothing that comes must be lost if it vanishes: what comes twice
            // has the same id.
            _ => {}
        }
        *start = Start::First;
        self.begun.store(true, Ordering::Relaxed);
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
        self.take_up(link, false).await?;
        self.suspects.store(true, Ordering::Relaxed);
        loop {
            let fresh = self.place.fresh(link.get().await?, count, BLOCK).await?;
            worked();
            if fresh.is_empty() {
                self.anew.store(false, Ordering::Relaxed); // all that was there has come
            } else {
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

    /// Takes up what was given to us before, and is not at work here. What was given out more than
    /// once may be what ended those who had it: with `suspects` it is taken up, too, one by one.
    async fn take_up(&self, link: &mut Link, suspects: bool) -> RedisResult<()> {
        let _one_at_a_time = self.taking_up.lock().await;
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
        if suspects {
            let (clock, began) = (&self.inner.clock, self.inner.clock.now());
            for one in suspected {
                // Each may take long. There may be more to take over by then, and this is found
                // again after that.
                if clock.now().saturating_since(began) >= self.inner.settings.claim_idle / 2 {
                    self.suspects.store(true, Ordering::Relaxed);
                    break;
                }
                // While it waited for its turn, nobody here was at work on it: others may be.
                if !self.place.is_ours(link.get().await?, one.0).await? {
                    continue;
                }
                self.give_again(link, &[one]).await?;
                self.holding.rid_of(one.0).await;
            }
        }
        Ok(())
    }

    /// Brings entries that were given out so many times before.
    async fn give_again(&self, link: &mut Link, given: &[(EntryId, u64)]) -> RedisResult<()> {
        if given.is_empty() {
            return Ok(());
        }
        let found = self.place.again(link.get().await?, given.iter().map(|(id, _)| *id)).await?;
        let times = given.iter().map(|(id, times)| (*id, times + 1)).collect();
        self.bring(link, found, Some(&times)).await
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
                    let done = Done { entry: raw.id, id: None };
                    let guard = One::new(done, deliveries, &self.holding);
                    self.set_aside(link, &raw, &reason).await?;
                    guard.settle();
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
        seen: &Seen<EntryId>,
        entries: &mut Vec<Found>,
        given_before: bool,
    ) -> RedisResult<()> {
        let suspect = given_before
            || self.company.load(Ordering::Relaxed)
            || self.anew.load(Ordering::Relaxed)
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
            let mut copy = false;
            if let Some(after) = found.again {
                let between = (after, found.entry);
                let connection = link.get().await?;
                copy = self.place.stands_before(connection, &found.event.id, between).await?;
            }
            // One that is left out is not noted: the copy before it may be with somebody who is
            // gone, and come to us yet.
            if copy {
                seen.count();
            } else {
                copy = !seen.note(&found.event.id, found.entry);
            }
            if copy {
                // Whoever has the other one may not come to an end with it: the id is not
                // remembered as handled.
                self.holding.done(Done { entry: found.entry, id: None });
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
        let (mut cursor, mut claimed) = (EntryId::default(), false);
        loop {
            let connection = link.get().await?;
            let (next, found, gone) = self.place.claim(connection, idle, cursor, count).await?;
            if gone > 0 {
                self.lost(gone);
            }
            claimed |= found > 0;
            if next == EntryId::default() {
                break;
            }
            cursor = next;
        }
        if claimed || self.suspects.swap(false, Ordering::Relaxed) {
            self.take_up(link, true).await?;
        }
        Ok(())
    }

    /// The group was there, and is not.
    fn vanished(&self) {
        let (stream, group) = (&*self.place.stream.key, &*self.place.group);
        self.anew.store(true, Ordering::Relaxed);
        tracing::warn!(
            target: "tiebeam::transport", stream, group,
            "the group was gone, and is made again: from the oldest event there is"
        );
        let told = serde_json::json!({"stream": stream, "group": group});
        (self.inner.news)("system.stream_reset", told);
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
        let done = Done { entry: raw.id, id: Some(event.id.clone()) };
        let lease = One::new(done, deliveries, holding);
        event.metadata.extra.get_or_insert_default().lease = Some(lease);
        Found { entry: raw.id, again: raw.again, event, deliveries }
    }

    fn entry(self) -> Entry {
        Entry { event: self.event, deliveries: self.deliveries }
    }
}
