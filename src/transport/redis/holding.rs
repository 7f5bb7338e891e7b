//! The entries at work: others are kept from taking them over, and they are acknowledged in
//! batches.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ::redis::RedisResult;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::answers::Raw;
use super::entry_id::EntryId;
use super::fault::Fault;
use super::letters::{self, Buried, Written};
use super::link::Link;
use super::place::Place;
use crate::event::{Id, Lease, Letter};
use crate::transport::seen::Seen;

/// A server that is at work may take so long to answer, however soon others take over.
const SHORTEST: Duration = Duration::from_millis(500);

/// How long to wait at least before what is at work is kept alive after a failure.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// What became of an entry that this process has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Somebody is at work on it.
    Held,
    /// Its end is known here, and not yet on the server.
    Ending,
}

#[derive(Default)]
struct State {
    stages: HashMap<EntryId, Stage, foldhash::fast::RandomState>,
    /// Handled, and not yet acknowledged.
    done: Vec<Done>,
    /// Given up, and not yet kept as such.
    letters: Vec<(Done, Letter)>,
    /// Handed back, so that somebody else may have them at once.
    released: Vec<(EntryId, u64)>,
}

/// An entry that is to be acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub entry: EntryId,
    /// The id of its event, to be remembered; none for what is no event.
    pub id: Option<Id>,
}

/// What one reader holds.
#[derive(Default)]
pub(super) struct Holding {
    state: Mutex<State>,
    changed: Notify,
    /// An entry is with this process no more.
    gone: Notify,
    /// Whether others read for the group.
    company: AtomicBool,
    /// Whether something was handed back since somebody asked.
    came_back: AtomicBool,
    /// How many see to it that the server knows.
    keepers: AtomicUsize,
    written: Arc<Written>,
}

impl Holding {
    /// Nothing, yet; what is given up is written among `written`.
    pub fn new(written: &Arc<Written>) -> Holding {
        Holding { written: written.clone(), ..Holding::default() }
    }

    /// Takes entries on: those that this process does not have already.
    pub fn take(&self, mut found: Vec<Raw>) -> Vec<Raw> {
        let mut state = self.state.lock();
        found.retain(|raw| match state.stages.entry(raw.id) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Stage::Held);
                true
            }
        });
        drop(state);
        found
    }

    /// Notes whether others read for the group; whether they did before.
    pub fn set_company(&self, company: bool) -> bool {
        self.company.swap(company, Ordering::Relaxed)
    }

    /// Whether others read for the group.
    pub fn has_company(&self) -> bool {
        self.company.load(Ordering::Relaxed)
    }

    /// Whether something was handed back since the last time that this was asked.
    pub fn something_came_back(&self) -> bool {
        self.came_back.swap(false, Ordering::Relaxed)
    }

    /// Whether that would be so.
    pub fn has_something_come_back(&self) -> bool {
        self.came_back.load(Ordering::Relaxed)
    }

    /// Whether the server has not heard yet of something that was handed back.
    pub fn has_released(&self) -> bool {
        !self.state.lock().released.is_empty()
    }

    /// Resolves when this process does not have an entry any more.
    pub async fn rid_of(&self, entry: EntryId) {
        loop {
            let gone = self.gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable();
            if !self.has(entry) {
                return;
            }
            gone.await;
        }
    }

    /// Whether this process has an entry.
    pub fn has(&self, entry: EntryId) -> bool {
        self.state.lock().stages.contains_key(&entry)
    }

    /// How many entries this process has.
    pub fn count(&self) -> usize {
        self.state.lock().stages.len()
    }

    /// An entry of this reader is to be acknowledged.
    pub fn done(&self, done: Done) {
        self.end(done.entry, |state| state.done.push(done));
    }

    /// An entry of this reader is to be kept as given up, and then acknowledged.
    fn given_up(&self, done: Done, letter: Letter) {
        self.written.expect(&letter.name);
        self.end(done.entry, |state| state.letters.push((done, letter)));
    }

    fn end(&self, entry: EntryId, note: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        let Some(stage) = state.stages.get_mut(&entry).filter(|stage| **stage == Stage::Held)
        else {
            return;
        };
        *stage = Stage::Ending;
        note(&mut state);
        drop(state);
        self.changed.notify_one();
    }

    fn release(&self, entry: EntryId, deliveries: u64) {
        let mut state = self.state.lock();
        if state.stages.get(&entry) == Some(&Stage::Held) {
            state.stages.remove(&entry);
            state.released.push((entry, deliveries));
            drop(state);
            self.came_back.store(true, Ordering::Relaxed);
            self.changed.notify_one();
            self.gone.notify_waiters();
        }
    }

    /// The server knows the end of these.
    fn told(&self, done: &[Done]) {
        let mut state = self.state.lock();
        for done in done {
            state.stages.remove(&done.entry);
        }
        drop(state);
        self.gone.notify_waiters();
    }

    fn take_released(&self) -> Vec<(EntryId, u64)> {
        std::mem::take(&mut self.state.lock().released)
    }

    fn take_done(&self) -> Vec<Done> {
        std::mem::take(&mut self.state.lock().done)
    }

    fn take_letters(&self) -> Vec<(Done, Letter)> {
        std::mem::take(&mut self.state.lock().letters)
    }

    fn put_back(&self, done: Vec<Done>, letters: Vec<(Done, Letter)>) {
        let mut state = self.state.lock();
        state.done.extend(done);
        state.letters.extend(letters);
    }

    /// Whether this process has nothing, and owes the server no word.
    fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.stages.is_empty() && state.released.is_empty()
    }

    /// The first and the last entry that this process has.
    pub fn ends(&self) -> Option<(EntryId, EntryId)> {
        let state = self.state.lock();
        let first = state.stages.keys().min().copied()?;
        Some((first, state.stages.keys().max().copied()?))
    }

    /// One keeper goes, if another one stays.
    fn leave_to_another(&self) -> bool {
        let others = |keepers: usize| (keepers > 1).then(|| keepers - 1);
        let left = self.keepers.fetch_update(Ordering::AcqRel, Ordering::Acquire, others).is_ok();
        if left {
            self.changed.notify_one(); // what we were told of is for that one
        }
        left
    }

    /// The last keeper goes, if nothing is left to do.
    fn dismiss_if_idle(&self) -> bool {
        let idle = self.is_idle();
        if idle {
            self.keepers.fetch_sub(1, Ordering::AcqRel);
        }
        idle
    }

    fn is_told(&self) -> bool {
        let state = self.state.lock();
        state.done.is_empty() && state.letters.is_empty()
    }
}

/// What an event that was read is tied to.
pub(super) struct One {
    done: Done,
    /// How often it was given out.
    deliveries: u64,
    of: Arc<Holding>,
    /// Whether its end is known.
    over: AtomicBool,
}

impl One {
    pub fn new(done: Done, deliveries: u64, of: &Arc<Holding>) -> Arc<One> {
        Arc::new(One { done, deliveries, of: of.clone(), over: AtomicBool::new(false) })
    }

    fn first(&self) -> bool {
        !self.over.swap(true, Ordering::AcqRel)
    }
}

impl Lease for One {
    fn settle(&self) {
        if self.first() {
            self.of.done(self.done.clone());
        }
    }

    fn bury(&self, letter: Letter) {
        if self.first() {
            self.of.given_up(self.done.clone(), letter);
        }
    }

    fn release(&self) {
        if self.first() {
            self.of.release(self.done.entry, self.deliveries);
        }
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.done.entry)
    }
}

/// Acknowledges what is handled, and keeps alive what is at work, until `stop`; and after that as
/// long as somebody is at work on something, unless another keeper is there for it.
pub(super) async fn keep(
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
            () = inner.ending.cancelled() => {}
        }
        let mut result = keeper.tell(&inner).await;
        if inner.ending.is_cancelled() {
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
        let Some(first) = released.iter().map(|(id, _)| *id).min() else { return Ok(()) };
        let most = self.holding.count() * 2 + released.len() + 1_000;
        let connection = self.link.get().await?;
        let ours = self.place.given(connection, first.before(), most).await?;
        let ours: HashSet<EntryId> = ours.into_iter().map(|(id, _)| id).collect();
        let mut by_count: BTreeMap<u64, Vec<EntryId>> = BTreeMap::new();
        for (id, deliveries) in released.into_iter().filter(|(id, _)| ours.contains(id)) {
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
        let told = match self.dead.as_mut().unwrap_or(&mut self.link).get().await {
            Ok(connection) => letters::keep(inner, connection, &kept).await,
            Err(cause) => Err(cause),
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
                    super::fault::error("keep dead letters", &cause)
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
