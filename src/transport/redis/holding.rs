//! The entries at work: others are kept from taking them over, and they are acknowledged in
//! batches.

mod keeper;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::answers::Raw;
use super::entry_id::EntryId;
use super::letters::Written;
use crate::event::{Id, Lease, Letter};
use crate::transport::awaited::until;

pub(super) use self::keeper::keep;

/// What became of an entry that this process has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Somebody is at work on it.
    Held,
    /// Its end is known here, and not yet on the server.
    Ending,
    /// Nobody is at work on it any more, and the server does not know that yet.
    Released,
}

#[derive(Default)]
struct State {
    stages: HashMap<EntryId, Stage, foldhash::fast::RandomState>,
    /// How many of these somebody is at work on.
    held: usize,
    /// At how many of them whoever waits for room is to be told.
    awaited: Option<usize>,
    /// Handled, and not yet acknowledged.
    done: Vec<Done>,
    /// Given up, and not yet kept as such.
    letters: Vec<(Done, Letter)>,
    /// Handed back, so that somebody else may have them at once.
    released: Vec<(EntryId, u64)>,
    /// How many were, and are not known to be so on the server.
    coming_back: usize,
}

impl State {
    /// Nobody is at work any more on one that was held; whether somebody waits for that.
    fn lets_go(&mut self) -> bool {
        self.held -= 1;
        self.awaited.take_if(|most| self.held <= *most).is_some()
    }
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
    /// There is room for more.
    room: Notify,
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
        state.held += found.len();
        drop(state);
        found
    }

    /// Resolves when somebody is at work on no more than `most` entries.
    pub async fn at_most(&self, most: usize) {
        until(&self.room, || !self.is_beyond(most)).await;
    }

    /// Whether there are more; whoever waits for fewer is told then.
    fn is_beyond(&self, most: usize) -> bool {
        let mut state = self.state.lock();
        let beyond = state.held > most;
        state.awaited = beyond.then_some(most);
        beyond
    }

    /// On how many entries somebody is at work.
    pub fn held(&self) -> usize {
        self.state.lock().held
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
        self.state.lock().coming_back > 0
    }

    /// Resolves when this process does not have an entry any more.
    pub async fn rid_of(&self, entry: EntryId) {
        until(&self.gone, || !self.has(entry)).await;
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
        let room = state.lets_go();
        drop(state);
        self.changed.notify_one();
        if room {
            self.room.notify_waiters();
        }
    }

    fn release(&self, entry: EntryId, deliveries: u64) {
        let mut state = self.state.lock();
        if let Some(stage) = state.stages.get_mut(&entry)
            && *stage == Stage::Held
        {
            *stage = Stage::Released;
            state.released.push((entry, deliveries));
            state.coming_back += 1;
            state.lets_go();
            drop(state);
            self.came_back.store(true, Ordering::Relaxed);
            self.changed.notify_one();
            self.room.notify_waiters();
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

    /// The server knows, or cannot be told: whoever is given one of these may begin with it.
    fn handed_back(&self, released: &[(EntryId, u64)]) {
        let mut state = self.state.lock();
        for (entry, _) in released {
            state.stages.remove(entry);
        }
        state.coming_back -= released.len();
        drop(state);
        self.gone.notify_waiters();
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
        state.stages.is_empty()
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
