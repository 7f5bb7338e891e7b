//! A broker that will not have us is not asked again and again: many lock an account for that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Instant};

/// How long what a broker said to us stands, unless we come as somebody else.
const STANDS: Duration = Duration::from_secs(30);

/// Who would not have us lately, by address, and what was said.
pub(super) struct Denial<E> {
    clock: Clock,
    of: Mutex<HashMap<String, (Instant, E)>>,
    /// As how many others we came before.
    changes: AtomicU64,
}

impl<E: Clone> Denial<E> {
    pub fn new(clock: &Clock) -> Denial<E> {
        Denial { clock: clock.clone(), of: Mutex::default(), changes: AtomicU64::new(0) }
    }

    /// What `whom` would say now, too.
    pub fn stands(&self, whom: &str) -> Option<E> {
        let of = self.of.lock();
        let (until, said) = of.get(whom)?;
        (self.clock.now() < *until).then(|| said.clone())
    }

    /// As whom we come now: to be read before a try.
    pub fn we(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// `whom` would not have us, as who `we` were when we tried.
    pub fn note(&self, whom: &str, we: u64, said: E) {
        let until = self.clock.now().saturating_add(STANDS);
        let mut of = self.of.lock();
        if self.we() == we {
            of.insert(whom.to_owned(), (until, said));
        }
    }

    /// We come as somebody else.
    pub fn over(&self) {
        let mut of = self.of.lock();
        self.changes.fetch_add(1, Ordering::AcqRel);
        of.clear();
    }
}
