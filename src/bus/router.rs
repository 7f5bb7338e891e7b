//! From a topic to the subscriptions that match it, cached per topic.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::{Arc, Weak};

use super::group::{Group, Rivals};
use super::subscription::Subscription;
use crate::error::Result;
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock};
use crate::topic::{Topic, Trie};

/// More topics than any system names; beyond it the cache starts anew instead of growing.
const CACHED_TOPICS: usize = 65_536;

/// Where the events of one topic go.
#[derive(Debug)]
pub(super) struct Route {
    pub topic: Topic,
    /// In the order in which they subscribed.
    pub targets: Targets,
    /// Groups of which several members want the topic; a single one is a target like others.
    pub rivals: Option<Box<[Rivals]>>,
}

/// Subscriptions; a single one, as there is of most topics, is not looked for elsewhere.
#[derive(Debug)]
pub(super) enum Targets {
    One(Arc<Subscription>),
    Several(Box<[Arc<Subscription>]>),
}

impl From<Vec<Arc<Subscription>>> for Targets {
    fn from(mut all: Vec<Arc<Subscription>>) -> Targets {
        match all.pop() {
            Some(only) if all.is_empty() => Targets::One(only),
            last => {
                all.extend(last);
                Targets::Several(all.into())
            }
        }
    }
}

impl Deref for Targets {
    type Target = [Arc<Subscription>];

    fn deref(&self) -> &[Arc<Subscription>] {
        match self {
            Targets::One(only) => std::slice::from_ref(only),
            Targets::Several(all) => all,
        }
    }
}

impl Route {
    /// Whether events of the topic reach nobody.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.rivals.is_none()
    }

    fn new(topic: Topic, all: Vec<Arc<Subscription>>) -> Route {
        let (grouped, mut targets): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|subscription| subscription.group().is_some());
        if grouped.is_empty() {
            return Route { topic, targets: targets.into(), rivals: None };
        }
        let mut groups: BTreeMap<Arc<str>, Vec<Arc<Subscription>>> = BTreeMap::new();
        for subscription in grouped {
            if let Some(name) = subscription.group().map(|group| group.name.clone()) {
                groups.entry(name).or_default().push(subscription);
            }
        }
        let mut rivals = Vec::new();
        for members in groups.into_values() {
            match members[0].group() {
                Some(group) if members.len() > 1 => {
                    rivals.push(Rivals { group: group.clone(), members: members.into() });
                }
                _ => targets.extend(members),
            }
        }
        targets.sort_unstable_by_key(|subscription| subscription.id());
        let rivals = (!rivals.is_empty()).then(|| rivals.into());
        Route { topic, targets: targets.into(), rivals }
    }
}

#[derive(Debug, Default)]
pub(super) struct Router {
    routes: RwLock<HashMap<Box<str>, Arc<Route>, foldhash::fast::RandomState>>,
    /// Never locked while `routes` is.
    trie: Mutex<Trie<Arc<Subscription>>>,
    groups: Mutex<HashMap<Arc<str>, Weak<Group>>>,
    /// Rises with each change: a route looked up before may be out of date.
    version: AtomicU64,
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
        let route = Arc::new(Route::new(topic.clone(), targets));
        let mut routes = self.routes.write();
        if routes.len() >= CACHED_TOPICS {
            routes.clear();
        }
        routes.insert(topic.as_str().into(), route.clone());
        Ok(route)
    }

    /// Rises with each change. Asked before a route is looked up, it is that route's.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The group of this name, as long as it has members the same one.
    pub fn group(&self, name: &Arc<str>) -> Arc<Group> {
        let mut groups = self.groups.lock();
        if let Some(group) = groups.get(name).and_then(Weak::upgrade) {
            return group;
        }
        groups.retain(|_, group| group.strong_count() > 0);
        let group = Arc::new(Group::new(name.clone()));
        groups.insert(name.clone(), Arc::downgrade(&group));
        group
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
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}
