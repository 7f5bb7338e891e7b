//! The figures of subscriptions by component and name, for who keeps series of them: they never go
//! down, whatever ends, and there are only so many.

use std::time::Duration;

use indexmap::IndexMap;

use super::durations::Spread;
use super::handle::Bus;
use super::subscription::Subscription;
use super::tally::Tally;

/// So many names have series of their own, for the life of the bus: the first ones. What more there
/// are is summed up as [`OTHER`]; a scraper that has to keep a series each for what a program makes
/// without end is no help.
const MOST: usize = 1_000;
/// The same for names that belong to components: what is made beside them must not take their room.
const MOST_OWNED: usize = 10_000;
const OTHER: &str = "other";

/// What is counted at a subscription, or at several.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// What became of events.
    pub tally: Tally,
    /// Attempts that failed.
    pub failures: u64,
    /// Those of them that another one follows.
    pub retries: u64,
    /// How long handlers took.
    pub durations: Spread,
}

impl Figures {
    pub(super) fn of(subscription: &Subscription) -> Figures {
        Figures {
            tally: subscription.tally(),
            failures: subscription.failures(),
            retries: subscription.retries(),
            durations: subscription.durations(),
        }
    }

    pub(super) fn add(&mut self, other: &Figures) {
        self.tally.add(&other.tally);
        self.failures += other.failures;
        self.retries += other.retries;
        self.durations.add(&other.durations);
    }
}

/// What waits at the subscriptions of one name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue {
    /// How many events wait.
    pub depth: usize,
    /// How many may wait.
    pub capacity: usize,
    /// How long they do.
    pub delay: Duration,
}

/// All subscriptions of one component and name, those that have ended included.
#[derive(Clone, Debug)]
pub struct Series {
    /// The component; empty for none.
    pub component: String,
    /// The name.
    pub name: String,
    /// What was counted.
    pub figures: Figures,
    /// What waits; none where all have ended.
    pub queue: Option<Queue>,
}

type Key = (String, String);

/// The names, and what those have left that have ended.
#[derive(Debug, Default)]
pub(super) struct Names {
    all: IndexMap<Key, Place>,
    /// How many of them belong to components.
    owned: usize,
}

#[derive(Debug, Default)]
struct Place {
    past: Figures,
    /// What was told last: what an end hands to others of its group is not taken back.
    told: Tally,
}

impl Names {
    /// The place of a subscription, which it has for good once it was looked for.
    fn at(&mut self, subscription: &Subscription) -> usize {
        let component = subscription.component().map_or("", |name| name);
        let mut key = (component.to_owned(), subscription.name().to_owned());
        if let Some(index) = self.all.get_index_of(&key) {
            return index;
        }
        let owned = !component.is_empty();
        let full = match owned {
            true => self.owned >= MOST_OWNED,
            false => self.all.len() - self.owned >= MOST,
        };
        if full {
            key = (OTHER.to_owned(), OTHER.to_owned());
        } else {
            self.owned += usize::from(owned);
        }
        let entry = self.all.entry(key);
        let index = entry.index();
        entry.or_default();
        index
    }

    /// Somebody subscribes.
    pub fn enter(&mut self, subscription: &Subscription) {
        if !subscription.options().internal {
            self.at(subscription);
        }
    }

    /// A subscription has ended, and leaves this.
    pub fn leave(&mut self, subscription: &Subscription, figures: &Figures) {
        let at = self.at(subscription);
        self.all[at].past.add(figures);
    }
}

impl Bus {
    /// The figures by component and name, in the order in which the first of each subscribed.
    pub fn series(&self) -> Vec<Series> {
        let mut ended = self.0.ended.lock();
        let gone = ended.settle();
        let (retiring, active) = (ended.retiring.clone(), self.subscriptions());
        let names = &mut ended.names;
        let at: Vec<_> = retiring
            .iter()
            .chain(&active)
            .filter(|subscription| !subscription.options().internal)
            .map(|subscription| (names.at(subscription), subscription))
            .collect();
        let series = names.all.iter().map(|((component, name), place)| Series {
            component: component.clone(),
            name: name.clone(),
            figures: place.past.clone(),
            queue: None,
        });
        let mut series: Vec<Series> = series.collect();
        for (at, subscription) in at {
            let Series { figures, queue, .. } = &mut series[at];
            figures.add(&Figures::of(subscription));
            let queue = queue.get_or_insert_default();
            queue.depth += subscription.depth();
            queue.capacity = queue.capacity.saturating_add(subscription.limits().0);
            queue.delay = queue.delay.max(subscription.delay());
        }
        for (one, place) in series.iter_mut().zip(names.all.values_mut()) {
            place.told = one.figures.tally.at_least(&place.told);
            one.figures.tally = place.told;
        }
        drop(ended); // before what these may be the last to hold
        drop((gone, retiring, active));
        series
    }
}
