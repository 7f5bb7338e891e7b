//! What is to be read from a queue: more and more.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::Error;
use crate::transport::opening::Opening;

/// An exchange, and a key of it.
pub(super) type Binding = (String, String);

/// What is to be read from a queue: more and more.
#[derive(Default)]
pub(super) struct Wants {
    state: Mutex<Wanted>,
    changed: Notify,
}

#[derive(Default)]
struct Wanted {
    bindings: Vec<Binding>,
    fresh: Vec<(Binding, Opening)>,
}

impl Wants {
    /// This, too; `opening` hears when it is so.
    pub fn add(&self, binding: Binding, opening: Opening) {
        self.state.lock().fresh.push((binding, opening));
        self.changed.notify_one();
    }

    /// What the queue was bound to, and is to be again.
    pub fn bindings(&self) -> Vec<Binding> {
        self.state.lock().bindings.clone()
    }

    /// What it is not yet bound to.
    pub fn fresh(&self) -> Fresh<'_> {
        Fresh { left: std::mem::take(&mut self.state.lock().fresh), of: self }
    }

    /// Resolves when there is some of that.
    pub async fn more(&self) {
        let changed = self.changed.notified();
        if self.state.lock().fresh.is_empty() {
            changed.await;
        }
    }

    /// None of that will be as it is; should it be some day, it is wanted yet.
    pub fn refuse(&self, error: &Error) {
        let state = self.state.lock();
        state.fresh.iter().for_each(|(_, opening)| opening.failed(error.again()));
    }

    /// It did not come to it yet.
    fn put_back(&self, mut fresh: Vec<(Binding, Opening)>) {
        let mut state = self.state.lock();
        fresh.append(&mut state.fresh);
        state.fresh = fresh;
    }

    /// It is bound to this.
    pub fn bound(&self, binding: Binding) {
        let mut state = self.state.lock();
        if !state.bindings.contains(&binding) {
            state.bindings.push(binding);
        }
    }
}

/// What is to be bound; what is left of it goes back where it came from.
pub(super) struct Fresh<'a> {
    pub left: Vec<(Binding, Opening)>,
    of: &'a Wants,
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if !self.left.is_empty() {
            self.of.put_back(std::mem::take(&mut self.left));
        }
    }
}
