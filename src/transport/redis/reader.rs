//! Reading for a group: what is new, what was given to us before, and what others left.
//!
//! | file | idea |
//! | --- | --- |
//! | `found` | what was read, and how it is brought |
//! | `taking_up` | what was given to this process before |
//! | `under_way` | what a read was given, whose answer is not here yet |
//! | `copies` | what comes twice |
//! | `gaps` | what was trimmed before anybody was given it |
//! | `looking_after` | signs of life; what others left, which is taken over; tidying up |
//! | `in_turn` | one member at a time, for the order of keys |

mod copies;
mod found;
mod gaps;
mod in_turn;
mod looking_after;
mod taking_up;
mod under_way;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ::redis::RedisResult;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::under_way::UnderWay;
use super::Inner;
use super::agreement;
use super::council::Turn;
use super::entry_id::EntryId;
use super::fault::{self, Fault};
use super::holding::{self, Holding};
use super::keys::Kind;
use super::link::Link;
use super::manner;
use super::place::{self, Place};
use super::presence;
use crate::transport::opening::Opening;
use crate::transport::seen::{Seen, Window};
use crate::transport::{Sink, Start};

/// How long the server is to wait for something new before it answers that there is nothing.
pub(super) const BLOCK: Duration = Duration::from_secs(2);

/// How often it is looked whether whoever is in the way is gone: another handler of a command, or
/// members of the group that want another order.
const RIVAL: Duration = Duration::from_secs(1);

/// How long a server may take to be told that we go.
pub(super) const PARTING: Duration = Duration::from_secs(1);

/// Who has not asked for anything for so long reads no more.
const GONE: Duration = Duration::from_secs(60);

/// One reader: what it reads, and where it brings it.
struct Reader {
    inner: Arc<Inner>,
    place: Place,
    /// Where one member of the group at a time reads; none where they all do.
    turn: Option<Turn>,
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
    /// Held as long as something is claimed and not yet at work here.
    claiming: tokio::sync::Mutex<()>,
    under_way: UnderWay,
    /// What the server calls the connection that is read over; 0 where it does not say.
    reads_as: AtomicI64,
    /// How many entries are known to have been trimmed before the group was given them.
    missing: AtomicU64,
}

/// Reads until `stop`.
pub(super) async fn read(
    inner: Arc<Inner>,
    (place, turn): (Place, Option<Turn>),
    sink: Arc<dyn Sink>,
    opening: Opening,
    stop: CancellationToken,
) {
    let holding = inner.holding(&place);
    let seen = inner.settings.dedup.map(|window| inner.seen(&place, window));
    let mut reader = Reader {
        inner: inner.clone(),
        place: place.clone(),
        turn,
        sink,
        holding: holding.clone(),
        seen,
        suspects: AtomicBool::new(false),
        begun: AtomicBool::new(false),
        anew: AtomicBool::new(false),
        claimed: AtomicBool::new(false),
        suspect: Mutex::default(),
        taking_up: tokio::sync::Mutex::default(),
        claiming: tokio::sync::Mutex::default(),
        under_way: UnderWay::default(),
        reads_as: AtomicI64::new(0),
        missing: AtomicU64::new(0),
    };
    let read = CancellationToken::new(); // after the last of it, there may be something to keep
    let keeping = holding::keep(inner.clone(), place, (holding, reader.seen.clone()), read.clone());
    let keeper = inner.tasks.spawn_on(keeping, &inner.runtime);
    {
        let (following, looking) = (reader.follow(opening), reader.look_after());
        tokio::pin!(following, looking);
        tokio::select! {
            () = &mut following => {}
            () = &mut looking => {}
            // Before they are dropped: what came for them after that would be nobody's.
            () = stop.cancelled() => tokio::select! {
                () = reader.interrupt() => {}
                // They go on meanwhile, and let go what others wait for.
                () = &mut following => {}
                () = &mut looking => {}
            },
        }
    }
    read.cancel();
    reader.inner.trouble.over(&reader.name());
    let in_turn = reader.turn.take().is_some(); // it is for others now
    let _ = keeper.await; // which ends when nothing is left to do
    reader.leave(in_turn).await;
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

    /// How many entries are read at a time. Requests are few, so that all who answer have a part of
    /// those that come together.
    fn at_a_time(&self) -> usize {
        let batch = self.inner.settings.batch;
        match self.place.stream.kind {
            Kind::Requests => batch.div_ceil(10),
            _ => batch,
        }
    }

    /// Waits until there is work for more: others of the group may have time for it meanwhile.
    async fn room(&self) {
        if !self.has_room() {
            self.holding.at_most(self.inner.settings.batch).await;
        }
    }

    fn has_room(&self) -> bool {
        self.holding.held() <= self.inner.settings.batch || !self.sink.waits()
    }

    /// Reads over one connection until it fails.
    async fn session(
        &self,
        link: &mut Link,
        opening: &Opening,
        start: &mut Start,
        mut worked: impl FnMut(),
    ) -> RedisResult<()> {
        let count = self.at_a_time();
        agreement::agree_over(&self.inner, link).await?;
        self.reads_as.store(place::client_id(link.get().await?).await?, Ordering::Relaxed);
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
        while let Some(differs) = self.say_how(link).await? {
            opening.failed(differs);
            self.inner.clock.sleep(RIVAL).await;
        }
        // As long as another handler has the command, this one waits for its end.
        while let Some(rival) = presence::claim(link.get().await?, &self.place).await? {
            opening.failed(rival);
            self.inner.clock.sleep(RIVAL).await;
        }
        self.claimed.store(true, Ordering::Relaxed);
        self.place.enter(link.get().await?).await?;
        self.look_for_gap(link).await?;
        opening.begun();
        if let Some(turn) = &self.turn {
            return self.take_turns(link, turn, worked).await;
        }
        self.remember(link).await?;
        self.take_up_before_reading(link).await?;
        worked();
        self.suspects.store(true, Ordering::Relaxed);
        // The server may not know yet that a read of before is nobody's any more, and give it
        // something as long as that waits.
        let mut look_again = Some(self.inner.clock.now().saturating_add(BLOCK));
        loop {
            self.room().await;
            if look_again.take_if(|at| self.inner.clock.now() >= *at).is_some() {
                self.take_up_before_reading(link).await?;
            }
            let fresh = self.place.fresh(link.get().await?, count, Some(BLOCK)).await?;
            worked();
            if fresh.is_empty() {
                self.anew.store(false, Ordering::Relaxed); // all that was there has come
                if !link.counts_empty_reads() {
                    self.place.stay(link.get().await?).await?;
                }
            }
            let (mut full, mut there) = (fresh.len() >= count, self.understand(fresh, None));
            while full && self.has_room() {
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

    /// What the group has handled lately; where that cannot be found out, it may come again.
    async fn remember(&self, link: &mut Link) -> RedisResult<()> {
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
        Ok(())
    }

    /// What the group has handled lately, and who else reads for it.
    async fn recall(&self, link: &mut Link) -> RedisResult<()> {
        if self.turn.is_none() {
            let others = self.place.others(link.get().await?, GONE).await?;
            self.holding.set_company(!others.is_empty());
        }
        let Some(seen) = &self.seen else { return Ok(()) };
        let Window { time, count } = seen.window();
        match self.place.stream.kind {
            Kind::Commands if seen.recalls_from().is_none() => {
                let since = self.inner.since(time);
                let ids = self.place.remembered(link.get().await?, since, count).await?;
                let now = self.inner.clock.unix_ms();
                let age =
                    |ms: i64| Duration::from_millis(now.saturating_sub(ms).max(0).unsigned_abs());
                seen.handled_before(ids.iter().map(|(id, ms)| (id, age(*ms))));
                seen.recalled(EntryId::default());
            }
            // What the group was given stands in the stream yet.
            Kind::Category => {
                let to = self.place.last_delivered(link.get().await?).await?;
                let oldest = place::before(self.inner.since(time));
                let from = seen.recalls_from().map_or(oldest, |last| last.max(oldest));
                let ids = self.place.given_out(link.get().await?, (from, to), count).await?;
                let now = self.inner.clock.unix_ms().max(0).unsigned_abs();
                for (entry, id) in ids {
                    seen.given(&id, entry, Duration::from_millis(now.saturating_sub(entry.ms)));
                }
                seen.recalled(to);
            }
            _ => {}
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

    /// Ends the read that waits at the server for something new, and waits for what is being
    /// claimed.
    async fn interrupt(&self) {
        let id = self.reads_as.load(Ordering::Relaxed);
        let asking = async {
            if id != 0 {
                let mut link = Link::shared(&self.inner, &self.place.stream.key);
                // Where it may not be asked for, others take over a little later what comes now.
                let _ = place::unblock(link.get().await?, id).await;
            }
            drop(self.claiming.lock().await);
            RedisResult::Ok(())
        };
        let _ = self.inner.clock.timeout(PARTING, asking).await;
    }

    /// Gives back what was read and not begun with, and takes itself off the server if it holds
    /// nothing there.
    async fn leave(&self, in_turn: bool) {
        let mut link = Link::shared(&self.inner, &self.place.stream.key);
        let leaving = async {
            // Somebody here may read for it again.
            if self.inner.readings.is_read(&self.place.stream, &self.place.group) {
                return Ok(());
            }
            self.hand_back_rest(&mut link).await?;
            let connection = link.get().await?;
            if self.claimed.load(Ordering::Relaxed)
                && self.place.others(connection, GONE).await?.is_empty()
            {
                if self.place.owner.is_some() {
                    presence::disclaim(connection, &self.place).await?;
                }
                manner::take_back(connection, &self.place, in_turn).await?;
            }
            self.place.leave(connection, &self.place.consumer, Duration::ZERO).await
        };
        // Whoever reads later takes out what is left of it.
        let _ = self.inner.clock.timeout(PARTING, leaving).await;
    }
}
