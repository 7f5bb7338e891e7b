//! Listening on the bus from inside the core.

use std::fmt;
use std::sync::Arc;

use crate::bus::{Executor, Options, Subscription};
use crate::error::Result;
use crate::event::Event;
use crate::registry::Registry;

/// What is called with each event: inside `publish`, or where the transport brings what it reads.
/// It has to be short.
struct Ear<F>(F);

impl<F> fmt::Debug for Ear<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ear")
    }
}

impl<F: Fn(&Event) + Send + Sync + 'static> Executor for Ear<F> {
    fn schedule(&self, _subscription: &Arc<Subscription>) {}

    fn is_inline(&self) -> bool {
        true
    }

    fn run_inline(&self, subscription: &Arc<Subscription>, event: &Arc<Event>) {
        (self.0)(event);
        subscription.handled_inline(event);
    }

    fn describe(&self) -> &'static str {
        "core"
    }
}

impl Registry {
    /// Has `hear` called with what `pattern` matches; where `abroad`, that of other processes too.
    ///
    /// # Errors
    /// As [`Bus::subscribe`](crate::bus::Bus::subscribe).
    pub(super) fn listen(
        &self,
        name: &str,
        (pattern, abroad): (&str, bool),
        hear: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Result<Arc<Subscription>> {
        let options = Options { capacity: 1, internal: true, abroad, ..Options::named(name) };
        self.bus().subscribe(pattern, options, Arc::new(Ear(hear)))
    }
}
