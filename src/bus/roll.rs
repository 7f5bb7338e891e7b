//! Who is subscribed, in the order in which they subscribed; and of which component.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use super::subscription::Subscription;

/// The subscriptions that there are.
#[derive(Debug, Default)]
pub(super) struct Roll {
    all: BTreeMap<u64, Arc<Subscription>>,
    by_component: HashMap<Arc<str>, Vec<Arc<Subscription>>>,
}

impl Roll {
    /// Enters one.
    pub fn insert(&mut self, subscription: &Arc<Subscription>) {
        let id = subscription.id();
        self.all.insert(id, subscription.clone());
        if let Some(component) = subscription.component() {
            let own = self.by_component.entry(component.clone()).or_default();
            // Two that subscribe at once may come here in another order than their numbers'.
            own.insert(own.partition_point(|other| other.id() < id), subscription.clone());
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, id: u64) -> Option<Arc<Subscription>> {
        let found = self.all.remove(&id)?;
        if let Some(component) = found.component()
            && let Some(own) = self.by_component.get_mut(component)
        {
            own.retain(|other| other.id() != id);
            if own.is_empty() {
                self.by_component.remove(component);
            }
        }
        Some(found)
    }

    /// Those of one component.
    pub fn of(&self, component: &str) -> &[Arc<Subscription>] {
        self.by_component.get(component).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Deref for Roll {
    type Target = BTreeMap<u64, Arc<Subscription>>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}
