//! What trouble with the broker means for the components: they are degraded until it is over.

use std::sync::Arc;

use super::Monitor;
use crate::error::Result;
use crate::registry::Slot;
use crate::registry::record::{BROKER, What};

/// The reason to be degraded.
const KEY: &str = "broker";

impl Monitor {
    /// Looks at once when the transport tells of itself; nothing in memory.
    pub(super) fn watch_broker(&self) -> Result<()> {
        let registry = &self.0.registry;
        if !registry.bus().capabilities().shared {
            return Ok(());
        }
        let inner = Arc::downgrade(&self.0);
        let ear =
            registry.listen("tiebeam.health.broker", ("system.transport.*", false), move |_| {
                let Some(inner) = inner.upgrade() else { return };
                // Elsewhere: whoever tells may be in the middle of its own affairs.
                let monitor = Monitor(inner);
                monitor.0.registry.0.spawner.spawn(Box::pin({
                    let monitor = monitor.clone();
                    async move { monitor.look_at_broker() }
                }));
            })?;
        self.0.ears.lock().push(ear);
        self.look_at_broker();
        Ok(())
    }

    fn look_at_broker(&self) {
        for slot in self.0.registry.slots() {
            self.look_at_broker_for(&slot);
            self.tell(&self.watched(&slot));
        }
    }

    /// A component whose broker is not there, or does not take what it sends, is degraded: it goes
    /// on with what it has, and what it publishes waits.
    pub(super) fn look_at_broker_for(&self, slot: &Slot) {
        let trouble = || self.0.registry.bus().trouble();
        if let Some(why) = trouble() {
            // Again where it was known: it may be another one by now.
            let text = format!("trouble with the broker: {why}");
            slot.degrade(KEY, text, |record| {
                // One trouble, however many components it concerns.
                let same = record.last(BROKER, |_| true).filter(|entry| entry.text == why);
                let known = same.map(|entry| entry.id);
                Some(known.unwrap_or_else(|| record.note(BROKER, What::Broker, why, None)))
            });
        }
        // It may have come to its end just now, and whoever was told of that may have been quicker.
        if trouble().is_none() && slot.relieve(KEY) {
            let record = self.0.registry.record();
            let back = "the broker is there again";
            if let Some(last) = record.last(BROKER, |_| true).filter(|last| last.text != back) {
                record.note(BROKER, What::Broker, back, Some(last.id));
            }
        }
    }
}
