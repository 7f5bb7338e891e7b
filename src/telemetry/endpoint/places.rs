//! How many connections there are at once.
//!
//! Connections that say nothing, or do not read what they asked for, must not keep a probe out: when
//! all places are taken, the one that has been silent for longest has to go, and where none is, the
//! one that has been there for longest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Instant};

/// Most connections at once.
pub(super) const MOST: usize = 64;

/// How long a connection may be silent where others wait for its place.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long an answer may take where others wait for its place.
const ANSWER: Duration = Duration::from_secs(1);

/// All places.
pub(super) struct Places {
    clock: Clock,
    free: Arc<Semaphore>,
    /// Those that are taken, the oldest first; some have been left by now.
    taken: Mutex<VecDeque<Arc<Place>>>,
}

/// The place of one connection.
pub(super) struct Place {
    since: Instant,
    asked: AtomicBool,
    go: CancellationToken,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Places {
    pub(super) fn new(clock: Clock) -> Places {
        Places { clock, free: Arc::new(Semaphore::new(MOST)), taken: Mutex::default() }
    }

    /// A place for a connection that was just made, as soon as there is one.
    pub(super) async fn take(&self) -> Arc<Place> {
        let freed = self.free.clone().acquire_owned();
        futures_util::pin_mut!(freed);
        let permit = match self.first_to_go() {
            None => freed.await,
            Some(oldest) => {
                let patience = self.clock.sleep_until(oldest.may_stay_until());
                match select(freed, patience).await {
                    Either::Left((permit, _)) => permit,
                    Either::Right((_, freed)) => {
                        oldest.go.cancel();
                        freed.await
                    }
                }
            }
        };
        let place = Arc::new(Place {
            since: self.clock.now(),
            asked: AtomicBool::new(false),
            go: CancellationToken::new(),
            permit: Mutex::new(permit.ok()),
        });
        self.taken.lock().push_back(place.clone());
        place
    }

    /// The oldest place whose connection has not asked anything yet; else the oldest of all.
    fn first_to_go(&self) -> Option<Arc<Place>> {
        let mut taken = self.taken.lock();
        taken.retain(|place| place.is_taken());
        let stays = |place: &&Arc<Place>| !place.go.is_cancelled();
        let silent = taken.iter().filter(stays).find(|place| !place.asked.load(Ordering::Relaxed));
        silent.or_else(|| taken.iter().find(stays)).cloned()
    }
}

impl Place {
    /// Whoever is there has asked, and is answered.
    pub(super) fn has_asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    fn may_stay_until(&self) -> Instant {
        let patience = if self.asked.load(Ordering::Relaxed) { ANSWER } else { PATIENCE };
        self.since.saturating_add(patience)
    }

    /// What becomes of `connection`, or nothing if it had to go; the place is free after that.
    pub(super) async fn until_it_has_to_go<T>(
        &self,
        connection: impl Future<Output = T>,
    ) -> Option<T> {
        let _leaves = Leaves(self);
        self.go.run_until_cancelled(connection).await
    }

    fn is_taken(&self) -> bool {
        self.permit.lock().is_some()
    }
}

/// Frees a place, however the connection ends.
struct Leaves<'a>(&'a Place);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.permit.lock().take();
    }
}
