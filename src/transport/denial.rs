//! A broker that will not have us is not asked again and again: many lock an account for that.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Instant};

/// How long what a broker said to us stands, unless we come as somebody else.
const STANDS: Duration = Duration::from_secs(30);

/// Who would not have us lately, by address, and what was said.
pub(super) struct Denial<E> {
    clock: Clock,
    of: Mutex<HashMap<String, (Instant, E)>>,
}

impl<E: Clone> Denial<E> {
    pub fn new(clock: &Clock) -> Denial<E> {
        Denial { clock: clock.clone(), of: Mutex::default() }
    }

    /// What `whom` would say now, too.
    pub fn stands(&self, whom: &str) -> Option<E> {
        let of = self.of.lock();
        let (until, said) = of.get(whom)?;
        (self.clock.now() < *until).then(|| said.clone())
    }

    /// `whom` would not have us.
    pub fn note(&self, whom: &str, said: E) {
        let until = self.clock.now().saturating_add(STANDS);
        self.of.lock().insert(whom.to_owned(), (until, said));
    }

    /// We come as somebody else.
    pub fn over(&self) {
        self.of.lock().clear();
    }
}
