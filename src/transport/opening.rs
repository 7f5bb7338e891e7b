//! Readings that have not begun: what is published waits for them.

use std::sync::Arc;

use tokio::sync::watch;

use super::reading::Begun;
use crate::error::{Error, Result};

/// How many readings have not begun yet.
pub(super) struct Openings(watch::Sender<usize>);

impl Openings {
    pub fn new() -> Arc<Openings> {
        Arc::new(Openings(watch::channel(0).0))
    }

    /// One more: it tells `begun` when it has.
    pub fn open(self: &Arc<Self>, begun: Begun) -> Opening {
        self.0.send_modify(|count| *count += 1);
        Opening { begun, of: self.clone(), told: std::sync::Once::new() }
    }

    /// Resolves when all have begun.
    pub async fn all_begun(&self) {
        // It cannot close: we hold the sender.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }

    pub fn have_begun(&self) -> bool {
        *self.0.borrow() == 0
    }
}

/// A reading that is to begin.
pub(super) struct Opening {
    begun: Begun,
    of: Arc<Openings>,
    told: std::sync::Once,
}

impl Opening {
    /// What is published from now on is read.
    pub fn begun(&self) {
        self.tell(Ok(()));
    }

    /// It will not begin as it is.
    pub fn failed(&self, error: Error) {
        self.tell(Err(error));
    }

    /// Whether either was said.
    #[cfg(feature = "redis")]
    pub fn is_told(&self) -> bool {
        self.told.is_completed()
    }

    fn tell(&self, result: Result<()>) {
        self.told.call_once(|| {
            self.begun.tell(result);
            self.of.0.send_modify(|count| *count -= 1);
        });
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.begun();
    }
}
