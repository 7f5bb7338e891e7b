//! From a topic to the subscriptions that match it, cached per topic.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::subscription::Subscription;
use crate::error::Result;
use crate::topic::{Topic, Trie};

/// More topics than any system names; beyond it the cache starts anew instead of growing.
const CACHED_TOPICS: usize = 65_536;

/// Where the events of one topic go.
#[derive(Debug)]
pub(super) struct Route {
    pub topic: Topic,
    /// In the order in which they subscribed.
    pub targets: Box<[Arc<Subscription>]>,
}

#[derive(Debug, Default)]
pub(super) struct Router {
    routes: RwLock<HashMap<Box<str>, Arc<Route>, foldhash::fast::RandomState>>,
    /// Never locked while `routes` is.
    trie: Mutex<Trie<Arc<Subscription>>>,
}

impl Router {
    /// The route of `topic`.
    ///
    /// # Errors
    /// `Kind::Topic` for a malformed one.
    pub fn route(&self, topic: &str) -> Result<Arc<Route>> {
        if let Some(route) = self.routes.read().get(topic) {
            return Ok(route.clone());
        }
        let topic = Topic::parse(topic)?;
        // Held to the end, so that no subscription slips in between looking up and caching.
        let trie = self.trie.lock();
        let mut targets = trie.find(&topic);
        targets.retain(|subscription| subscription.wants(&topic));
        targets.sort_unstable_by_key(|subscription| subscription.id());
        targets.dedup_by_key(|subscription| subscription.id());
        let route = Arc::new(Route { topic: topic.clone(), targets: targets.into() });
        let mut routes = self.routes.write();
        if routes.len() >= CACHED_TOPICS {
            routes.clear();
        }
        routes.insert(topic.as_str().into(), route.clone());
        Ok(route)
    }

    pub fn insert(&self, subscription: &Arc<Subscription>) {
        let mut trie = self.trie.lock();
        trie.insert(subscription.pattern(), subscription.clone());
        self.forget_routes(subscription);
    }

    pub fn remove(&self, subscription: &Arc<Subscription>) {
        let mut trie = self.trie.lock();
        trie.remove(subscription.pattern(), |other| other.id() == subscription.id());
        self.forget_routes(subscription);
    }

    /// A literal pattern concerns one route, any other may concern them all.
    fn forget_routes(&self, subscription: &Subscription) {
        let pattern = subscription.pattern();
        let mut routes = self.routes.write();
        if pattern.is_literal() {
            routes.remove(pattern.as_str());
        } else {
            routes.retain(|_, route| !pattern.matches(&route.topic));
        }
    }
}
