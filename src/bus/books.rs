//! The books of a bus: what became of every event, at every subscription there is and was.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::durations::Spread;
use super::executor::Lag;
use super::handle::Bus;
use super::remote::Remote;
use super::series::Figures;
use super::subscription::Subscription;
use super::tally::Tally;
use super::waits::Watcher;
use crate::sync::Ordering;

/// The books of a whole bus.
#[derive(Clone, Debug, Serialize)]
pub struct Books {
    /// Events accepted by `publish`.
    pub events: u64,
    /// The sum over all subscriptions there were and are.
    pub total: Tally,
    /// By subscription, in the order in which they subscribed.
    pub subscriptions: Vec<(String, Tally)>,
    /// Events that were published before, by their id, and went nowhere.
    pub duplicates: u64,
    /// What the broker had that was no event, and was set aside.
    pub quarantined: u64,
    /// Replies that came after their request had ended.
    pub late_replies: u64,
    /// Requests that wait for a reply.
    pub pending_requests: usize,
}

impl Bus {
    /// What became of every event, but for what the core's own subscriptions hear.
    pub fn books(&self) -> Books {
        self.books_of(|subscription| !subscription.options().internal)
    }

    /// What became of every event, with the core's own subscriptions as long as they last.
    pub fn all_books(&self) -> Books {
        self.books_of(|_| true)
    }

    fn books_of(&self, counts: impl Fn(&Arc<Subscription>) -> bool) -> Books {
        let core = &self.0;
        let (mut total, active, gone) = {
            let mut ended = core.ended.lock();
            let gone = ended.settle();
            let mut total = ended.tally;
            let retiring = ended.retiring.iter().filter(|s| counts(s));
            retiring.for_each(|subscription| total.add(&subscription.tally()));
            (total, self.subscriptions(), gone)
        };
        drop(gone);
        let subscriptions: Vec<(String, Tally)> = active
            .iter()
            .filter(|subscription| counts(subscription))
            .map(|subscription| {
                let tally = subscription.tally();
                total.add(&tally);
                (subscription.name().to_owned(), tally)
            })
            .collect();
        Books {
            events: core.published.load(Ordering::Relaxed),
            total,
            subscriptions,
            duplicates: core.dedup.as_ref().map_or(0, |dedup| dedup.duplicates())
                + core.remote().map_or(0, Remote::duplicates),
            quarantined: core.remote().map_or(0, Remote::quarantined),
            late_replies: core.requests.late(),
            pending_requests: core.requests.waiting(),
        }
    }

    /// The subscriptions that have something to do yet, those that have ended among them.
    pub fn unfinished(&self) -> Vec<Arc<Subscription>> {
        let ended = self.0.ended.lock();
        let mut all = self.subscriptions();
        all.extend(ended.retiring.iter().cloned());
        drop(ended);
        all.retain(|subscription| !subscription.is_idle());
        all
    }

    /// How late the loops come that run handlers, the worst of each; none if none was measured.
    pub fn lag(&self) -> Option<Lag> {
        worst_of(&self.subscriptions())
    }

    /// The same for the handlers of one component.
    pub fn lag_of(&self, component: &str) -> Option<Lag> {
        worst_of(&self.subscriptions_of(component))
    }

    /// How long events wait for the handlers of one component, the longest of what is new since
    /// `who` last asked, or waits; none where there was nothing to handle.
    pub fn delay_of(&self, component: &str, who: Watcher) -> Option<Duration> {
        let longest = |longest: &mut Option<Duration>, subscription: &Subscription| {
            *longest = (*longest).max(subscription.delay_for(who));
        };
        self.sum_of(component, |_| None, longest)
    }

    /// What became of the events for one component, over all subscriptions that it has and had.
    pub fn tally_of(&self, component: &str) -> Tally {
        self.sum_of(component, |past| past.tally, |total, s| total.add(&s.tally()))
    }

    /// How long the handlers of one component took, over all subscriptions that it has and had.
    pub fn durations_of(&self, component: &str) -> Spread {
        self.sum_of(component, |past| past.durations.clone(), |sum, s| sum.add(&s.durations()))
    }

    fn sum_of<T: Default>(
        &self,
        component: &str,
        past: impl FnOnce(&Figures) -> T,
        add: impl Fn(&mut T, &Subscription),
    ) -> T {
        let own = |subscription: &&Arc<Subscription>| {
            subscription.component().is_some_and(|name| **name == *component)
        };
        let (mut total, active, gone) = {
            let mut ended = self.0.ended.lock();
            let gone = ended.settle();
            let mut total = ended.by_component.get(component).map(past).unwrap_or_default();
            ended.retiring.iter().filter(own).for_each(|s| add(&mut total, s));
            (total, self.subscriptions_of(component), gone)
        };
        drop(gone);
        active.iter().for_each(|s| add(&mut total, s));
        total
    }
}

fn worst_of(subscriptions: &[Arc<Subscription>]) -> Option<Lag> {
    subscriptions.iter().filter_map(|subscription| subscription.executor().lag()).reduce(Lag::max)
}
