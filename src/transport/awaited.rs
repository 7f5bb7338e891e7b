//! Waiting for something that is told of by a [`Notify`].

use tokio::sync::Notify;

/// Resolves when it `is_so`; `told` wakes all who wait, each time that it may have become so.
pub(super) async fn until(told: &Notify, is_so: impl Fn() -> bool) {
    loop {
        // What is told while it is looked counts, too.
        let next = told.notified();
        if is_so() {
            return;
        }
        next.await;
    }
}
