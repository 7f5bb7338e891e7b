//! The looks, one after the other, and who is stuck at this moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::asker::Asker;
use super::inquest;
use super::suspect::{Key, Look, Source, Suspect, innermost};
use super::told::Told;
use super::traces;
use crate::clock::Instant;
use crate::health::{Dumps, ThreadSample};
use crate::python::bridge::Runtime;

/// How often everything is looked at: in so many parts of the shortest patience, within these.
const PARTS: u32 = 4;
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(250);

/// The one watchdog of this process.
pub(in crate::python) struct Watchdog {
    runtime: Arc<Runtime>,
    sources: Mutex<Vec<Weak<dyn Source>>>,
    looking: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watched: Duration,
    last: Option<Instant>,
    /// Those that were told of, until they come back.
    told: HashMap<Key, Arc<Told>>,
    /// How the threads of suspects were when they were first seen.
    samples: HashMap<Key, Option<ThreadSample>>,
    round: Option<Round>,
    dumps: Dumps,
    /// How many times in a row it took long to have the GIL.
    contended: u32,
}

/// Suspects are being looked into.
struct Round {
    begun: Duration,
    /// Who wants the GIL for that.
    asker: Arc<Asker>,
    /// Whether those who may hold the GIL are looked at, because it is not to be had.
    without: Arc<AtomicBool>,
}

/// Does something at its end, also when that comes by a panic.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A suspect, and how its thread was a while ago.
pub(super) type Lead = (Arc<Suspect>, Option<ThreadSample>);

static WATCHDOG: OnceLock<Arc<Watchdog>> = OnceLock::new();

impl Watchdog {
    /// The watchdog of this process.
    pub fn get(runtime: &Arc<Runtime>) -> &'static Arc<Watchdog> {
        WATCHDOG.get_or_init(|| {
            Arc::new(Watchdog {
                runtime: runtime.clone(),
                sources: Mutex::default(),
                looking: AtomicBool::new(false),
                state: Mutex::default(),
            })
        })
    }

    pub(super) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Looks at what `source` has under way from now on, as long as it lives.
    pub fn add(self: &Arc<Self>, source: Weak<dyn Source>) {
        self.sources.lock().push(source);
        if !self.looking.swap(true, Ordering::AcqRel) {
            self.look_later();
        }
    }

    fn look_later(self: &Arc<Self>) {
        let watchdog = self.clone();
        let period = self.period();
        // Off the clock's thread: whoever is looked at may end meanwhile, and leave the last
        // handle to it, and what takes the GIL at its end, to us.
        let look = move || {
            let handle = watchdog.runtime.handle().clone();
            handle.spawn_blocking(move || watchdog.look(period));
        };
        self.runtime.clock().schedule(period, look).detach();
    }

    fn period(&self) -> Duration {
        // Not under the lock: ours may be the last handle to one, whose end takes the GIL.
        let sources: Vec<_> = self.sources.lock().iter().filter_map(Weak::upgrade).collect();
        let patience = sources.iter().filter_map(|source| source.patience()).min();
        patience.map_or(LONGEST, |patience| (patience / PARTS).clamp(SHORTEST, LONGEST))
    }

    fn look(self: &Arc<Self>, period: Duration) {
        let sources: Vec<_> = {
            let mut all = self.sources.lock();
            all.retain(|source| source.strong_count() > 0);
            if all.is_empty() {
                self.looking.store(false, Ordering::Release);
                return self.settle(|_| true);
            }
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let _again = OnDrop(|| self.look_later()); // whatever becomes of this one
        let now = self.runtime.clock().now();
        let watched = {
            let mut state = self.state.lock();
            let passed = state.last.replace(now).map_or(period, |last| now.saturating_since(last));
            // More has passed where the process stood, and then nobody could come back.
            state.watched += passed.min(2 * period);
            state.watched
        };
        let look = Look { watched, now };
        let standing = traces::standing(look);
        let found = sources.iter().flat_map(|source| source.look(look, &standing)).collect();
        let suspects = innermost(found).into_iter().map(Arc::new).collect();
        self.settle(|_| true);
        self.go_on(look, suspects);
        drop(sources);
    }

    /// Has those looked into that nobody was told of.
    fn go_on(self: &Arc<Self>, look: Look, suspects: Vec<Arc<Suspect>>) {
        // Ours may be the last handle of a subscription, and its end may take the GIL, for which
        // others wait with the lock.
        let _until_unlocked = suspects.clone();
        let mut state = self.state.lock();
        let State { told, samples, round, .. } = &mut *state;
        let mut before = std::mem::take(samples);
        let mut leads: Vec<Lead> = Vec::new();
        // One that held the GIL may have let it go, and be stuck in something else.
        let is_told =
            |suspect: &Arc<Suspect>| told.get(&suspect.key).is_some_and(|t| !t.holds_gil());
        for suspect in suspects.into_iter().filter(|suspect| !is_told(suspect)) {
            match before.remove(&suspect.key) {
                Some(sample) => {
                    samples.insert(suspect.key, sample);
                    let patience = suspect.shared.under_way.patience();
                    if patience.is_some_and(|patience| suspect.stood >= patience) {
                        leads.push((suspect, sample));
                    }
                }
                // What it is at takes a second look, a while later.
                None => {
                    let native = suspect.thread().and_then(|thread| thread.native);
                    let sample = ThreadSample::of(native, self.runtime.clock());
                    samples.insert(suspect.key, sample);
                }
            }
        }
        if round.as_ref().is_some_and(|round| round.asker.has_ended()) {
            *round = None;
        }
        let Some(shortest) = leads.iter().filter_map(|(s, _)| s.shared.under_way.patience()).min()
        else {
            return;
        };
        let watchdog = self.clone();
        let handle = self.runtime.handle();
        match round {
            None => {
                let asker = Arc::<Asker>::default();
                let (asks, without) = (asker.clone(), Arc::default());
                *round = Some(Round { begun: look.watched, asker, without });
                handle.spawn_blocking(move || {
                    let _ended = OnDrop(|| asks.ends());
                    inquest::with_gil(&watchdog, &leads, &asks);
                });
            }
            Some(round) => {
                let waits = look.watched - round.begun >= shortest;
                if waits && !round.without.swap(true, Ordering::AcqRel) {
                    let (asker, without) = (round.asker.clone(), round.without.clone());
                    handle.spawn_blocking(move || {
                        // What is too early to say is asked again at the next look.
                        let said = inquest::without_gil(&watchdog, &leads, &asker);
                        without.store(said, Ordering::Release);
                    });
                }
            }
        }
    }

    /// Keeps what was told of somebody until that comes back; false if it was told before, or has
    /// come back.
    pub(super) fn keep(&self, told: &Arc<Told>) -> bool {
        let mut state = self.state.lock();
        let suspect = &told.suspect;
        // What one is stuck in that has held the GIL is news; that it holds it, once.
        let known = |before: &Arc<Told>| !before.holds_gil() || told.holds_gil();
        if state.told.get(&suspect.key).is_some_and(known) || !(suspect.still)() {
            return false;
        }
        told.show();
        state.told.insert(suspect.key, told.clone());
        true
    }

    /// Whether anything was told of this one.
    pub(super) fn is_told(&self, suspect: &Suspect) -> bool {
        self.state.lock().told.contains_key(&suspect.key)
    }

    /// Whether one more dump may be made now.
    pub(super) fn may_dump(&self) -> bool {
        let now = self.runtime.clock().now();
        self.state.lock().dumps.may_make(now)
    }

    /// The GIL was had, after a long wait or in peace: then nobody holds it any more, though whoever
    /// did may not be back. How many times in a row it took long.
    pub(super) fn gil_was_had(&self, contended: bool) -> u32 {
        let mut state = self.state.lock();
        if contended {
            state.contended += 1;
        } else {
            state.contended = 0;
            state.told.values().filter(|told| told.holds_gil()).for_each(|told| told.hide());
        }
        state.contended
    }

    /// Says so of those who have come back, if they are of a source that is meant.
    pub fn settle(&self, whose: impl Fn(usize) -> bool) {
        let back: Vec<Arc<Told>> = {
            let mut state = self.state.lock();
            let is_back = |key: &Key, told: &mut Arc<Told>| whose(key.0) && !(told.suspect.still)();
            state.told.extract_if(is_back).map(|(_, told)| told).collect()
        };
        for told in back {
            let seconds = told.seconds();
            told.hide();
            self.runtime.handle().spawn_blocking(move || told.came_back(seconds));
        }
    }
}
