//! The queue of a mailbox: one lane for each priority, none of which starves.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::event::{Event, Priority};

/// One event on its way to one handler.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What is delivered.
    pub event: Arc<Event>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Whether it has the turn of its key, which is to be passed on when it is settled.
    pub(super) keyed: bool,
    /// How often a breaker inside of the handler refused this attempt, which waited for it.
    pub(super) waits: u8,
    /// What waits for the end of this one, which finds out whether the breaker lets it through.
    pub(super) probes: Option<NonZeroU16>,
}

impl Delivery {
    /// The first attempt.
    pub(super) fn first(event: Arc<Event>) -> Delivery {
        Delivery { event, attempt: 1, keyed: false, waits: 0, probes: None }
    }

    /// Since when it waits for its first attempt, in Unix milliseconds; none if it has had that.
    pub(super) fn waits_since(&self) -> Option<i64> {
        (self.attempt == 1).then(|| self.event.arrived())
    }

    /// Whether a handler has had it before: it stands for itself, and comes before what is new.
    pub(super) fn comes_again(&self) -> bool {
        self.attempt > 1 || self.waits > 0
    }
}

/// A delivery without its event, which is elsewhere meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    number: u32,
    keyed: bool,
    waits: u8,
    probes: Option<NonZeroU16>,
    /// Whether the event is to be settled where it was read from.
    leased: bool,
}

impl Delivery {
    /// The event, and what else there is to it.
    pub fn split(self) -> (Arc<Event>, Attempt) {
        let leased = self.event.lease().is_some();
        let Delivery { event, attempt: number, keyed, waits, probes } = self;
        (event, Attempt { number, keyed, waits, probes, leased })
    }
}

impl Attempt {
    /// Which one this is, from 1.
    pub fn number(self) -> u32 {
        self.number
    }

    /// Whether nothing is to be done after its success but to count it.
    pub fn is_plain(self) -> bool {
        !self.keyed && !self.leased && self.waits == 0
    }

    /// The delivery again.
    pub fn of(self, event: Arc<Event>) -> Delivery {
        let Attempt { number: attempt, keyed, waits, probes, .. } = self;
        Delivery { event, attempt, keyed, waits, probes }
    }
}

/// How many events of each lane are served before less urgent ones get their turn.
const WEIGHTS: [u8; 4] = [8, 4, 2, 1];

/// Deliveries that wait, by urgency.
#[derive(Debug)]
pub(super) struct Lanes {
    /// The most urgent first.
    by_urgency: [VecDeque<Delivery>; 4],
    credits: [u8; 4],
    queued: usize,
}

impl Default for Lanes {
    fn default() -> Self {
        Lanes { by_urgency: Default::default(), credits: WEIGHTS, queued: 0 }
    }
}

impl Lanes {
    /// How many wait, over all lanes.
    pub fn len(&self) -> usize {
        self.queued
    }

    /// The lane of a delivery; the least urgent is the last.
    pub fn of(delivery: &Delivery) -> usize {
        Self::lane(&delivery.event)
    }

    fn lane(event: &Event) -> usize {
        Priority::Critical as usize - event.metadata.priority as usize
    }

    pub fn push_back(&mut self, delivery: Delivery) {
        self.by_urgency[Self::of(&delivery)].push_back(delivery);
        self.queued += 1;
    }

    pub fn push_front(&mut self, delivery: Delivery) {
        self.by_urgency[Self::of(&delivery)].push_front(delivery);
        self.queued += 1;
    }

    /// Before all that is new, but after the retries that came due before it.
    pub fn push_behind_retries(&mut self, delivery: Delivery) {
        let lane = &mut self.by_urgency[Self::of(&delivery)];
        let retries = lane.iter().take_while(|waiting| waiting.comes_again()).count();
        lane.insert(retries, delivery);
        self.queued += 1;
    }

    /// Before all that is new, in this order, but after the retries that are there.
    pub fn push_before_new(&mut self, deliveries: Vec<Delivery>) {
        self.queued += deliveries.len();
        let mut new: [VecDeque<Delivery>; 4] = Default::default();
        for delivery in deliveries {
            new[Self::of(&delivery)].push_back(delivery);
        }
        for (lane, mut new) in self.by_urgency.iter_mut().zip(new) {
            if new.is_empty() {
                continue;
            }
            let retries = lane.iter().take_while(|waiting| waiting.comes_again()).count();
            new.extend(lane.drain(retries..));
            lane.append(&mut new);
        }
    }

    /// The most urgent event, but every lane gets its share: weighted round robin.
    pub fn pop(&mut self) -> Option<Delivery> {
        if self.queued == 0 {
            return None;
        }
        self.queued -= 1;
        loop {
            for lane in 0..4 {
                if self.credits[lane] > 0
                    && let Some(delivery) = self.by_urgency[lane].pop_front()
                {
                    self.credits[lane] -= 1;
                    return Some(delivery);
                }
            }
            self.credits = WEIGHTS;
        }
    }

    /// The most urgent event that comes again.
    pub fn pop_again(&mut self) -> Option<Delivery> {
        let lane = self.by_urgency.iter_mut().find(|lane| begins_again(lane))?;
        self.queued -= 1;
        lane.pop_front()
    }

    /// Whether there is one.
    pub fn has_again(&self) -> bool {
        self.by_urgency.iter().any(begins_again)
    }

    /// The least urgent lane that has an event.
    pub fn least_urgent(&self) -> Option<usize> {
        self.by_urgency.iter().rposition(|lane| !lane.is_empty())
    }

    /// Takes the oldest event of the least urgent lane that has one.
    pub fn drop_oldest(&mut self) -> Option<Delivery> {
        let dropped = self.by_urgency.iter_mut().rev().find_map(VecDeque::pop_front);
        self.queued -= usize::from(dropped.is_some());
        dropped
    }

    /// Since when the first ones of the lanes wait for their first attempt, the longest of them.
    pub fn first_since(&self) -> Option<i64> {
        self.by_urgency.iter().filter_map(|lane| lane.front()?.waits_since()).min()
    }

    /// Since when the one waits that waits longest for its first attempt.
    pub fn longest_since(&self) -> Option<i64> {
        let first = |lane: &VecDeque<Delivery>| lane.iter().find_map(Delivery::waits_since);
        self.by_urgency.iter().filter_map(first).min()
    }

    /// Takes the delivery of this very event out of its lane.
    pub fn remove(&mut self, event: &Arc<Event>) -> Option<Delivery> {
        let lane = &mut self.by_urgency[Self::lane(event)];
        let at = lane.iter().position(|waiting| Arc::ptr_eq(&waiting.event, event))?;
        self.queued -= 1;
        lane.remove(at)
    }
}

fn begins_again(lane: &VecDeque<Delivery>) -> bool {
    lane.front().is_some_and(Delivery::comes_again)
}
