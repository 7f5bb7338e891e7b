//! Reading for a group: what is new, what was given to us before, and what others left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::RedisResult;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::answers::Raw;
use super::entry_id::EntryId;
use super::fault::{self, Fault};
use super::holding::{self, Done, Holding, One};
use super::keys::Kind;
use super::link::Link;
use super::place::{self, Place};
use super::presence;
use crate::event::{Decoder, Event, Id, Lease as _};
use crate::transport::opening::Opening;
use crate::transport::seen::{Noted, Seen, Window};
use crate::transport::{Entry, Sink, Start};

/// How long the server is to wait for something new before it answers that there is nothing.
pub(super) const BLOCK: Duration = Duration::from_secs(2);

/// How often the handler of a command that has another one looks whether that is gone.
const RIVAL: Duration = Duration::from_secs(1);

/// How long it is waited for the end of one that is taken up by itself.
const SOON: Duration = Duration::from_millis(500);

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
    /// Whether there may be something to take up one by one.
    suspects: AtomicBool,
    /// Whether it has read for the group before.
    begun: AtomicBool,
    /// Whether the group is ours to read for: a command may be with another handler.
    claimed: AtomicBool,
    /// Whether the group was made again, so that what comes may have been handled before.
    anew: AtomicBool,
    /// The one of them that was taken up last.
    suspect: Mutex<Option<EntryId>>,
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
    let holding = inner.holding(&place);
    let seen = inner.settings.dedup.map(|window| inner.seen(&place, window));
    let reader = Reader {
        inner: inner.clone(),
        place: place.clone(),
        sink,
        holding: holding.clone(),
        seen,
        suspects: AtomicBool::new(false),
        begun: AtomicBool::new(false),
        anew: AtomicBool::new(false),
        claimed: AtomicBool::new(false),
        suspect: Mutex::default(),
        taking_up: tokio::sync::Mutex::default(),
    };
    let keeping = holding::keep(inner.clone(), place, (holding, reader.seen.clone()), stop.clone());
    let keeper = inner.tasks.spawn_on(keeping, &inner.runtime);
    tokio::select! {
        () = reader.follow(opening) => {}
        () = reader.look_after() => {}
        () = stop.cancelled() => {}
    }
    reader.inner.trouble.over(&reader.name());
    let _ = keeper.await; // which ends when nothing is left to do
    reader.leave().await;
}

impl Reader {
    fn name(&self) -> String {
        format!("{} for {}", self.place.stream.key, self.place.group)
    }

    /// Reads what comes, and after each failure first what was given to us and got lost.
    async fn follow(&self, opening: Opening) {
        // The server answers in time, or `BLOCK` later: anything else is a loss.
        let limit = BLOCK + self.inner.settings.response_timeout;
        let mut link = Link::new(&self.inner, &self.place.stream.key, limit);
        let mut patience = self.inner.patience();
        let mut start = self.place.start;
        let name = self.name();
        loop {
            let session = self.session(&mut link, &opening, &mut start, || {
                patience.renew();
                self.inner.trouble.over(&name);
            });
            let Err(cause) = session.await else { return };
            // A stream that is gone from one node of a cluster may be at another: a new group says.
            let (cluster, fault) = (self.inner.site.is_cluster(), Fault::of(&cause));
            let gone = fault == Fault::NoGroup && !(cluster && cause.code() == Some("UNBLOCKED"));
            link.failed(&cause);
            let error = fault::error("read", &cause);
            let (stream, group) = (&*self.place.stream.key, &*self.place.group);
            if gone {
                self.vanished();
            } else if fault::is_told_where(&cause) || fault == Fault::NoGroup {
                tracing::debug!(target: "tiebeam::transport", stream, group, "moved: {error}");
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
            // Without memory for a new group, it may be there for all that.
            Err(cause) if !matches!(Fault::of(&cause), Fault::BusyGroup | Fault::Busy) => {
                return Err(cause);
            }
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
        // As long as another handler has the command, this one waits for its end.
        while let Some(rival) = presence::claim(link.get().await?, &self.place).await? {
            opening.failed(rival);
            self.inner.clock.sleep(RIVAL).await;
        }
        self.claimed.store(true, Ordering::Relaxed);
        self.place.enter(link.get().await?).await?;
        opening.begun();
        match self.recall(link).await {
            Err(cause) if Fault::of(&cause) == Fault::Lost => return Err(cause),
            Err(cause) => tracing::warn!(
                target: "tiebeam::transport",
                stream = &*self.place.stream.key, group = &*self.place.group,
                "what was handled before is not known, and may come again: {}",
                fault::error("read", &cause)
            ),
            Ok(()) => {}
        }
        self.take_up(link, false).await?;
        worked();
        self.suspects.store(true, Ordering::Relaxed);
        loop {
            let fresh = self.place.fresh(link.get().await?, count, Some(BLOCK)).await?;
            worked();
            if fresh.is_empty() {
                self.anew.store(false, Ordering::Relaxed); // all that was there has come
                if !link.counts_empty_reads() {
                    self.place.stay(link.get().await?).await?;
                }
            }
            let (mut full, mut there) = (fresh.len() >= count, self.understand(fresh, None));
            while full {
                // There is more: the server looks for it while this is brought. It is not to wait
                // for more, which would hold up what else is asked for meanwhile.
                let mut beside = link.get().await?.clone();
                let ahead = async {
                    let fresh = self.place.fresh(&mut beside, count, None).await?;
                    // At work here from now on, however long the others take.
                    RedisResult::Ok((fresh.len() >= count, self.understand(fresh, None)))
                };
                let (ahead, brought) = tokio::join!(ahead, self.bring(link, there, false));
                brought?;
                (full, there) = ahead?;
                worked();
            }
            self.bring(link, there, false).await?;
        }
    }

    /// What the group has handled lately, and who else reads for it.
    async fn recall(&self, link: &mut Link) -> RedisResult<()> {
        let others = self.place.others(link.get().await?, GONE).await?;
        self.holding.set_company(!others.is_empty());
        let Some(seen) = &self.seen else { return Ok(()) };
        let Window { time, count } = seen.window();
        match self.place.stream.kind {
            Kind::Commands if seen.recalls_from().is_none() => {
                let since = self.inner.since(time);
                let ids = self.place.remembered(link.get().await?, since, count).await?;
                seen.handled(ids.iter());
                seen.recalled(EntryId::default());
            }
            // What the group was given stands in the stream yet.
            Kind::Category => {
                let to = self.place.last_delivered(link.get().await?).await?;
                let oldest = place::before(self.inner.since(time));
                let from = seen.recalls_from().map_or(oldest, |last| last.max(oldest));
                let ids = self.place.given_out(link.get().await?, (from, to), count).await?;
                ids.into_iter().for_each(|(entry, id)| seen.given(&id, entry));
                seen.recalled(to);
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes up what was given to us before, and is not at work here. What was given out more than
    /// once may be what ended those who had it: with `suspects` it is taken up, too, one by one.
    async fn take_up(&self, link: &mut Link, suspects: bool) -> RedisResult<()> {
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
    async fn take_up_suspects(
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
    async fn give_again(&self, link: &mut Link, given: &[(EntryId, u64)]) -> RedisResult<()> {
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
    async fn look_for(
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

    /// Takes entries on, and reads them. Those that were given out before come with how often, this
    /// time included.
    fn understand(&self, found: Vec<Raw>, times: Option<&HashMap<EntryId, u64>>) -> Understood {
        let mut entries = Vec::with_capacity(found.len());
        let (mut decoder, mut foreign) = (Decoder::default(), Vec::new());
        // One that is at work here already was only given to us once more.
        for raw in self.holding.take(found) {
            let deliveries = times.map_or(1, |times| times.get(&raw.id).copied().unwrap_or(1));
            if !raw.is_for(Some(&self.place.group)) {
                self.holding.done(Done { entry: raw.id, id: None });
                continue;
            }
            match raw.event(&mut decoder, self.inner.settings.max_entry) {
                Ok(event) => entries.push(Found::new(raw, event, deliveries, &self.holding)),
                Err(reason) => {
                    let done = Done { entry: raw.id, id: None };
                    foreign.push((One::new(done, deliveries, &self.holding), raw, reason));
                }
            }
        }
        Understood { entries, foreign }
    }

    /// Brings events to the sink, and sets aside what is none.
    async fn bring(
        &self,
        link: &mut Link,
        Understood { mut entries, foreign }: Understood,
        given_before: bool,
    ) -> RedisResult<()> {
        for (guard, raw, reason) in foreign {
            self.set_aside(link, &raw, &reason).await?;
            guard.settle();
        }
        if let Some(seen) = &self.seen {
            self.leave_copies_out(link, seen, &mut entries, given_before).await?;
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
            || self.holding.has_company()
            || self.anew.load(Ordering::Relaxed)
            || entries.iter().any(|found| found.again.is_some());
        if suspect && self.place.is_remembered() && !entries.is_empty() {
            let ids = entries.iter().map(Found::id);
            let handled = self.place.handled(link.get().await?, ids).await?;
            let known = entries.iter().zip(handled).filter(|(_, handled)| *handled);
            seen.handled(known.map(|(found, _)| found.id()));
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
    async fn leave_resent_out(
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
    fn is_a_copy(&self, found: &Found) {
        self.holding.done(Done { entry: found.entry, id: None });
    }

    /// Takes over, now and then, what was given to processes that are gone, and tidies up.
    async fn look_after(&self) {
        let every = (self.inner.settings.claim_idle / 2).min(Duration::from_secs(1));
        let limit = self.inner.settings.response_timeout;
        let mut link = Link::new(&self.inner, &self.place.stream.key, limit);
        let mut patience = self.inner.patience();
        let mut tidied = self.inner.clock.now();
        loop {
            self.inner.clock.sleep(every).await;
            if !self.claimed.load(Ordering::Relaxed) {
                continue; // it is not ours to look after
            }
            let mut result = self.sweep(&mut link).await;
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

    async fn sweep(&self, link: &mut Link) -> RedisResult<()> {
        let others = self.place.others(link.get().await?, GONE).await?;
        let company = !others.is_empty();
        if matches!(self.place.stream.kind, Kind::Commands | Kind::Requests) {
            // However long what it has takes it: it is there for more.
            self.place.beat(link.get().await?).await?;
        }
        if self.place.owner.is_some() {
            presence::claim(link.get().await?, &self.place).await?;
        }
        if self.holding.set_company(company) != company && company {
            // What the others were given before each knew of the other.
            self.recall(link).await?;
        }
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
            let (since, count) = (self.inner.since(seen.window().time), seen.window().count);
            self.place.forget(link.get().await?, since, count).await?;
        }
        Ok(())
    }

    /// Takes itself off the server, if it holds nothing there.
    async fn leave(&self) {
        let mut link = Link::shared(&self.inner, &self.place.stream.key);
        let leaving = async {
            // Somebody here may read for it again.
            if self.inner.readings.is_read(&self.place.stream, &self.place.group) {
                return Ok(());
            }
            let connection = link.get().await?;
            if self.claimed.load(Ordering::Relaxed)
                && self.place.owner.is_some()
                && self.place.others(connection, GONE).await?.is_empty()
            {
                presence::disclaim(connection, &self.place).await?;
            }
            if self.place.given(connection, EntryId::default(), 1).await?.is_empty() {
                self.place.leave(connection, &self.place.consumer).await?;
            }
            RedisResult::Ok(())
        };
        // Whoever reads later takes out what is left of it.
        let _ = self.inner.clock.timeout(Duration::from_secs(1), leaving).await;
    }
}

/// What was read. Each is tied to its entry: whatever fails, none stays with us by mistake.
struct Understood {
    entries: Vec<Found>,
    /// What is no event, and why.
    foreign: Vec<(Arc<One>, Raw, String)>,
}

/// An event that was read, tied to its entry.
struct Found {
    entry: EntryId,
    again: Option<EntryId>,
    event: Event,
    deliveries: u64,
    /// The dead letter that it was, which is handled for the first time.
    letter: Option<Id>,
}

impl Found {
    fn new(raw: Raw, mut event: Event, deliveries: u64, holding: &Arc<Holding>) -> Found {
        let retries = u32::try_from(deliveries.saturating_sub(1)).unwrap_or(u32::MAX);
        event.metadata.retry_count = event.metadata.retry_count.max(retries);
        let letter = raw.replay.and_then(|replay| replay.letter);
        let done = Done { entry: raw.id, id: Some(letter.as_ref().unwrap_or(&event.id).clone()) };
        let lease = One::new(done, deliveries, holding);
        event.metadata.extra.get_or_insert_default().lease = Some(lease);
        Found { entry: raw.id, again: raw.again, event, deliveries, letter }
    }

    /// What it is known by if it comes twice.
    fn id(&self) -> &Id {
        self.letter.as_ref().unwrap_or(&self.event.id)
    }

    fn entry(self) -> Entry {
        Entry { event: self.event, deliveries: self.deliveries }
    }
}
