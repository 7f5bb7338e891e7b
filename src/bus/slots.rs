//! Conflation: of each slot, which is a topic and a key, only the newest event waits.
//!
//! What stands in the lanes for a slot is its place; the event that will be handed out from that
//! place is kept here, so that a newer one takes over without a search. With an interval, a slot
//! that has handed out an event is *shut* until the interval is over, and the newest event waits
//! here meanwhile.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Instant};
use crate::event::Event;
use crate::topic::Topic;

/// What conflates: events of one topic and one key, or of one topic and none.
pub(super) type Slot = (Topic, Option<Arc<str>>);

/// What became of an event that was offered to its slot.
#[derive(Debug)]
pub(super) enum Taken {
    /// Nothing waits in the slot: the event needs a place in the lanes.
    New,
    /// It took over from an older one. If it is more urgent than the place that it took over,
    /// this is the event that stands there.
    Over(Option<Arc<Event>>),
    /// It waits for the interval to end; whether another one did so before it.
    Shut { over: bool },
}

#[derive(Debug)]
struct Place {
    /// What stands in the lanes.
    stands: Arc<Event>,
    newest: Arc<Event>,
}

/// The slots of one mailbox.
#[derive(Debug, Default)]
pub(super) struct Slots {
    places: HashMap<Slot, Place>,
    interval: Option<Interval>,
}

#[derive(Debug)]
struct Interval {
    length: Duration,
    clock: Clock,
    shut: HashMap<Slot, Shut>,
    /// When slots open again, the next one first.
    opening: VecDeque<(Instant, Slot)>,
    waiting: usize,
    armed: bool,
}

#[derive(Debug)]
struct Shut {
    until: Instant,
    newest: Option<Arc<Event>>,
}

impl Slots {
    /// Slots that hand out one event in each `length` of `clock`'s time.
    pub fn sampling(length: Duration, clock: Clock) -> Slots {
        let interval = Interval {
            length,
            clock,
            shut: HashMap::new(),
            opening: VecDeque::new(),
            waiting: 0,
            armed: false,
        };
        Slots { interval: Some(interval), ..Slots::default() }
    }

    /// How many events wait for an interval to end.
    pub fn waiting(&self) -> usize {
        self.interval.as_ref().map_or(0, |interval| interval.waiting)
    }

    /// Whether an event of this slot waits.
    pub fn has(&self, slot: &Slot) -> bool {
        let shut = self.interval.as_ref().and_then(|interval| interval.shut.get(slot));
        self.stands(slot) || shut.is_some_and(|shut| shut.newest.is_some())
    }

    /// Whether an event of this slot has a place in the lanes.
    pub fn stands(&self, slot: &Slot) -> bool {
        self.places.contains_key(slot)
    }

    /// Offers an event to its slot.
    pub fn offer(&mut self, slot: &Slot, event: &Arc<Event>) -> Taken {
        if let Some(place) = self.places.get_mut(slot) {
            std::mem::replace(&mut place.newest, event.clone()).settle();
            let urgent = event.metadata.priority > place.stands.metadata.priority;
            return Taken::Over(urgent.then(|| place.stands.clone()));
        }
        if let Some(interval) = &mut self.interval
            && let Some(shut) = interval.shut.get_mut(slot)
        {
            let before = shut.newest.replace(event.clone());
            let over = before.is_some_and(|before| {
                before.settle();
                true
            });
            interval.waiting += usize::from(!over);
            return Taken::Shut { over };
        }
        Taken::New
    }

    /// `event` stands in the lanes for its slot.
    pub fn put(&mut self, slot: Slot, event: &Arc<Event>) {
        self.places.insert(slot, Place { stands: event.clone(), newest: event.clone() });
    }

    /// The event that is handed out from the slot's place, which is no more.
    pub fn take(&mut self, slot: &Slot) -> Option<Arc<Event>> {
        self.places.remove(slot).map(|place| place.newest)
    }

    /// An event of the slot goes to a handler: the interval begins. Returns what had to be let
    /// go early because more than `most` slots would be shut.
    pub fn shut(&mut self, slot: Slot, most: usize) -> Option<(Slot, Arc<Event>)> {
        let interval = self.interval.as_mut()?;
        let until = interval.clock.now().saturating_add(interval.length);
        let newest = interval.shut.remove(&slot).and_then(|shut| shut.newest);
        interval.shut.insert(slot.clone(), Shut { until, newest });
        interval.opening.push_back((until, slot));
        if interval.shut.len() <= most {
            return None;
        }
        let (_, oldest) = interval.opening.pop_front()?;
        interval.open(oldest)
    }

    /// What the handler was to get was handed back unseen: the slot is open, as if it had not
    /// been handed out. Returns a newer event that waited.
    pub fn reopen(&mut self, slot: &Slot) -> Option<Arc<Event>> {
        let interval = self.interval.as_mut()?;
        let until = interval.shut.get(slot)?.until;
        // From the back: what is handed back was handed out a moment ago.
        if let Some(at) = interval.opening.iter().rposition(|(t, s)| *t == until && s == slot) {
            interval.opening.remove(at);
        }
        interval.open(slot.clone()).map(|(_, event)| event)
    }

    /// The events whose interval is over.
    pub fn due(&mut self) -> Vec<(Slot, Arc<Event>)> {
        let mut due = Vec::new();
        let Some(interval) = &mut self.interval else { return due };
        interval.armed = false;
        let (now, unix_ms) = (interval.clock.now(), interval.clock.unix_ms());
        while interval.opening.front().is_some_and(|(until, _)| *until <= now)
            && let Some((_, slot)) = interval.opening.pop_front()
        {
            // The interval is no wait for the handler: that begins now.
            let opened = interval.open(slot);
            due.extend(opened.map(|(slot, event)| (slot, event.arriving(unix_ms))));
        }
        due
    }

    /// When [`Slots::due`] is to be asked next, if no timer is set for that.
    pub fn arm(&mut self) -> Option<Instant> {
        let interval = self.interval.as_mut().filter(|interval| !interval.armed)?;
        let (until, _) = interval.opening.front()?;
        interval.armed = true;
        Some(*until)
    }

    /// Takes the event that waits longest for the end of its interval.
    pub fn drop_oldest(&mut self) -> Option<Arc<Event>> {
        let Interval { opening, shut, waiting, .. } = self.interval.as_mut()?;
        let found = opening.iter().find_map(|(_, slot)| shut.get_mut(slot)?.newest.take());
        *waiting -= usize::from(found.is_some());
        found
    }

    /// Takes everything that waits for an interval to end.
    pub fn drain(&mut self) -> Vec<Arc<Event>> {
        let Some(interval) = &mut self.interval else { return Vec::new() };
        interval.waiting = 0;
        interval.opening.clear();
        interval.shut.drain().filter_map(|(_, shut)| shut.newest).collect()
    }
}

impl Interval {
    fn open(&mut self, slot: Slot) -> Option<(Slot, Arc<Event>)> {
        let newest = self.shut.remove(&slot)?.newest?;
        self.waiting -= 1;
        Some((slot, newest))
    }
}
