//! The entries at work: others are kept from taking them over, and they are acknowledged in
//! batches.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::RedisResult;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::entry_id::EntryId;
use super::fault::Fault;
use super::link::Link;
use super::place::{Letter, Place};
use crate::event::{Id, Lease};

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
    stages: HashMap<EntryId, Stage>,
    /// Handled, and not yet acknowledged.
    done: Vec<Done>,
    /// Given up, and not yet kept as such.
    letters: Vec<(Done, String)>,
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
}

impl Holding {
    /// Takes an entry on; false where this process has it already.
    pub fn take(&self, entry: EntryId) -> bool {
        let mut state = self.state.lock();
        match state.stages.entry(entry) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(Stage::Held);
                true
            }
        }
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
    fn given_up(&self, done: Done, letter: String) {
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

    fn take_letters(&self) -> Vec<(Done, String)> {
        std::mem::take(&mut self.state.lock().letters)
    }

    fn put_back(&self, done: Vec<Done>, letters: Vec<(Done, String)>) {
        let mut state = self.state.lock();
        state.done.extend(done);
        state.letters.extend(letters);
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

    fn bury(&self, letter: String) {
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

/// Acknowledges what is handled, and keeps alive what is at work, until `stop`; then what is
/// settled within the grace of the end is acknowledged, too.
pub(super) async fn keep(
    inner: Arc<Inner>,
    place: Place,
    holding: Arc<Holding>,
    stop: CancellationToken,
) {
    let mut keeper = Keeper {
        link: Link::new(&inner, inner.settings.response_timeout),
        remembers: inner.settings.dedup.is_some() && place.is_remembered(),
        place,
        holding: holding.clone(),
    };
    let mut patience = inner.patience();
    let every = inner.settings.claim_idle / 3;
    let mut next = inner.clock.now().saturating_add(every);
    loop {
        let ends = tokio::select! {
            () = holding.changed.notified() => false,
            () = inner.clock.sleep_until(next) => false,
            () = stop.cancelled() => true,
        };
        let mut result = keeper.tell(&inner).await;
        if ends && (result.is_ok() || inner.ending.is_cancelled()) && holding.is_told() {
            return;
        }
        if result.is_ok() && inner.clock.now() >= next {
            next = inner.clock.now().saturating_add(every);
            result = keeper.refresh().await;
        }
        match result {
            Ok(()) => patience.renew(),
            Err(cause) => {
                keeper.link.failed(Fault::of(&cause));
                if !patience.wait().await {
                    return;
                }
                holding.changed.notify_one(); // at once again
            }
        }
    }
}

struct Keeper {
    link: Link,
    place: Place,
    holding: Arc<Holding>,
    /// Whether ids are remembered on the server.
    remembers: bool,
}

impl Keeper {
    /// Tells the server what has ended.
    async fn tell(&mut self, inner: &Inner) -> RedisResult<()> {
        self.bury(inner).await?;
        self.hand_back(inner).await?;
        let done = self.holding.take_done();
        if done.is_empty() {
            return Ok(());
        }
        let now = self.remembers.then(|| inner.clock.unix_ms());
        let told = match self.link.get().await {
            Ok(connection) => self.place.acknowledge(connection, &done, now).await,
            Err(cause) => Err(cause),
        };
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
        if released.is_empty() {
            return Ok(());
        }
        let most = self.holding.count() * 2 + released.len() + 1_000;
        let connection = self.link.get().await?;
        let ours = self.place.given(connection, EntryId::default(), most).await?;
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
        let letters = self.holding.take_letters();
        if letters.is_empty() {
            return Ok(());
        }
        let kept: Vec<Letter<'_>> = letters
            .iter()
            .map(|(done, text)| Letter { stream: &self.place.stream.key, entry: done.entry, text })
            .collect();
        let told = match self.link.get().await {
            Ok(connection) => {
                super::place::bury(connection, &inner.keys.dead_letters(), &kept).await
            }
            Err(cause) => Err(cause),
        };
        match told {
            Ok(()) => {
                let done = letters.into_iter().map(|(done, _)| done).collect();
                self.holding.put_back(done, Vec::new());
                Ok(())
            }
            Err(cause) => {
                tracing::error!(
                    target: "tiebeam::transport",
                    count = letters.len(),
                    "dead letters could not be kept, so that their events stay where they are: {}",
                    super::fault::error("keep dead letters", &cause)
                );
                self.holding.put_back(Vec::new(), letters);
                Err(cause)
            }
        }
    }

    /// Keeps alive what is at work here and still ours: another process may have taken something
    /// over while this one stood still.
    async fn refresh(&mut self) -> RedisResult<()> {
        let count = self.holding.count();
        if count == 0 {
            return Ok(());
        }
        let connection = self.link.get().await?;
        // More than we hold may be ours: what is on its way to us, and what came back.
        let ours = self.place.given(connection, EntryId::default(), count * 2 + 1_000).await?;
        let ids: Vec<EntryId> =
            ours.into_iter().map(|(id, _)| id).filter(|id| self.holding.has(*id)).collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.place.keep(connection, &ids).await
    }
}
