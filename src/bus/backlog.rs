//! What waits in a mailbox, and which of it may be handed out next.
//!
//! Everything that may run stands in the lanes. Beside them wait, with one handler at a time,
//! events of a key that has a retry waiting (`held`); with several, events of a key whose turn
//! another event has ([`Turns`]); where events conflate, the newest of each slot ([`Slots`]); and
//! what a breaker inside of the handler refused ([`Parked`]).

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use super::key::KeyPath;
use super::lanes::{Delivery, Lanes};
use super::parked::{Due, Parked};
use super::slots::{Slot, Slots, Taken};
use super::turns::Turns;
use crate::clock::Instant;
use crate::event::Event;

/// Events that make room for others, to be booked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub conflated: u64,
    pub dropped: u64,
    pub expired: u64,
}

#[derive(Debug, Default)]
pub(super) struct Backlog {
    lanes: Lanes,
    key: Option<KeyPath>,
    /// Events of a key that has a retry waiting: they must not overtake it.
    held: HashMap<Arc<str>, VecDeque<Delivery>>,
    held_count: usize,
    turns: Option<Box<Turns>>,
    slots: Option<Box<Slots>>,
    parked: Parked,
}

impl Backlog {
    /// Finds the key of an event at `key`; without it, the key is the one that the event was
    /// published with. With `turns`, events of one key are handed out one after the other.
    pub fn new(key: Option<KeyPath>, turns: bool, slots: Option<Slots>) -> Backlog {
        Backlog {
            key,
            turns: turns.then(Box::default),
            slots: slots.map(Box::new),
            ..Backlog::default()
        }
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        let turns = self.turns.as_ref().map_or(0, |turns| turns.len());
        let slots = self.slots.as_ref().map_or(0, |slots| slots.waiting());
        self.lanes.len() + self.held_count + turns + slots + self.parked.len()
    }

    /// Since when the first of what may run waits for its first attempt, in Unix milliseconds.
    /// Where events conflate, that says nothing about what will be handed out in its place.
    pub fn first_since(&self) -> Option<i64> {
        if self.slots.is_some() { None } else { self.lanes.first_since() }
    }

    /// Since when the one waits that waits longest for its first attempt, wherever it stands. What
    /// waits for the end of an interval is not to be handled yet.
    pub fn longest_since(&self) -> Option<i64> {
        let held = self.held.values().flat_map(|held| held.iter().find_map(Delivery::waits_since));
        let turns = self.turns.as_ref().and_then(|turns| turns.longest_since());
        let beside = [self.lanes.longest_since(), turns, self.parked.longest_since()];
        held.chain(beside.into_iter().flatten()).min()
    }

    /// Whether there is something to come for.
    pub fn has_work(&self) -> bool {
        if self.is_paused() { self.lanes.has_again() } else { self.lanes.len() > 0 }
    }

    /// Whether nothing new is handed out: where events conflate, the newest of them wait for a
    /// breaker where they are, also as long as the only one that was refused tries it.
    fn is_paused(&self) -> bool {
        self.slots.is_some() && self.parked.has_any()
    }

    /// Whether something waits for a breaker, or has and is not settled yet.
    pub fn waits(&self) -> bool {
        self.parked.waits()
    }

    /// The attempt was refused by `breaker`, which may let it through when it is `due`: it waits
    /// until then, and holds back later events of its key. Returns what a timer is to bring.
    pub fn park(
        &mut self,
        mut delivery: Delivery,
        breaker: &Arc<str>,
        due: Instant,
    ) -> Option<Due> {
        if let Some(probes) = delivery.probes
            && !self.parked.is_of(probes, breaker)
        {
            // The breaker that it was to try has let it pass, or it did not come to that.
            delivery.probes = None;
            self.release(probes);
        }
        self.hold(&delivery);
        self.parked.park(delivery, breaker, due)
    }

    /// The time has come: the first of those that wait for a breaker tries it.
    pub fn unpark(&mut self, due: Due) {
        if let Some(probe) = self.parked.probe(due) {
            self.requeue(probe);
        }
    }

    /// An attempt ended that may have been refused before; another one may follow. Where it was a
    /// probe, nobody knows what the breaker makes of that: the next one is to try.
    pub fn over(&mut self, delivery: &Delivery) {
        if delivery.waits == 0 {
            return;
        }
        self.parked.over();
        if let Some(probe) = delivery.probes.and_then(|probes| self.parked.next_probe(probes)) {
            self.requeue(probe);
        }
    }

    /// The attempt has succeeded: where it was a probe, the others may run.
    pub fn came_through(&mut self, delivery: &Delivery) {
        if let Some(probes) = delivery.probes {
            self.release(probes);
        }
    }

    /// What waits for the end of a probe may run.
    fn release(&mut self, probes: NonZeroU16) {
        for delivery in self.parked.release(probes) {
            self.requeue(delivery);
        }
    }

    /// Adds a new event, behind all others.
    pub fn push(&mut self, event: &Arc<Event>) {
        let delivery = Delivery::first(event.clone());
        if let Some(delivery) = self.enter(delivery) {
            self.lanes.push_back(delivery);
        }
    }

    /// Adds a new event where events conflate.
    pub fn conflate(&mut self, event: &Arc<Event>, capacity: usize) -> Lost {
        let mut lost = Lost::default();
        let slot = self.slot_of(event);
        let Some(slots) = &mut self.slots else { return lost };
        match slots.offer(&slot, event) {
            Taken::Over(stands) => {
                lost.conflated = 1;
                // Where it stands behind others of its key it stays: they are what holds it up.
                if let Some(stands) = stands
                    && let Some(place) = self.lanes.remove(&stands)
                {
                    slots.put(slot, event);
                    self.lanes.push_back(Delivery { event: event.clone(), ..place });
                }
            }
            Taken::Shut { over: true } => lost.conflated = 1,
            Taken::Shut { over: false } => {
                if self.len() > capacity {
                    self.drop_oldest();
                    lost.dropped = 1;
                }
            }
            Taken::New => {
                if self.len() >= capacity {
                    lost.dropped = 1;
                    if !self.drop_oldest() {
                        event.settle();
                        return lost;
                    }
                }
                self.place(slot, event);
            }
        }
        lost
    }

    /// The next delivery that may run. What is past its deadline by `now` is lost.
    pub fn pop(
        &mut self,
        now: &mut impl FnMut() -> i64,
        most: usize,
        lost: &mut Lost,
    ) -> Option<Delivery> {
        while let Some(mut delivery) = self.next() {
            let slot = self.leave_place(&mut delivery);
            if delivery.event.deadline().is_some_and(|deadline| now() >= deadline) {
                lost.expired += 1;
                delivery.event.settle();
                self.pass(&delivery);
                continue;
            }
            // A probe is waited for by others, perhaps by the very one that holds its key back.
            if !self.held.is_empty()
                && delivery.probes.is_none()
                && let Some(key) = key_of(self.key.as_ref(), &delivery.event)
                && let Some(held) = self.held.get_mut(&*key)
            {
                if let (Some(slots), Some(slot)) = (&mut self.slots, slot) {
                    slots.put(slot, &delivery.event);
                }
                drop(key);
                held.push_back(delivery);
                self.held_count += 1;
                continue;
            }
            if let (Some(slots), Some(slot)) = (&mut self.slots, slot)
                && let Some((slot, early)) = slots.shut(slot, most)
            {
                self.place(slot, &early);
            }
            return Some(delivery);
        }
        None
    }

    fn next(&mut self) -> Option<Delivery> {
        if self.is_paused() { self.lanes.pop_again() } else { self.lanes.pop() }
    }

    /// Takes back what was handed out and not begun, before all others.
    pub fn put_back(&mut self, mut delivery: Delivery) -> Lost {
        let mut lost = Lost::default();
        if self.slots.is_some() && !delivery.comes_again() {
            let slot = self.slot_of(&delivery.event);
            let Some(slots) = &mut self.slots else { return lost };
            if slots.stands(&slot) {
                lost.conflated = 1;
                delivery.event.settle();
                self.pass(&delivery);
                return lost;
            }
            if let Some(newer) = slots.reopen(&slot) {
                lost.conflated = 1;
                std::mem::replace(&mut delivery.event, newer).settle();
            }
            slots.put(slot, &delivery.event);
            // What comes again stands first in its lane: all may wait for a probe among it.
            self.lanes.push_behind_retries(delivery);
        } else {
            self.lanes.push_front(delivery);
        }
        lost
    }

    /// Takes what another mailbox had, or what was given up on, before what is new here and in
    /// the order in which it is given.
    pub fn adopt(&mut self, deliveries: Vec<Delivery>) -> Lost {
        let mut lost = Lost::default();
        let free = |it| Delivery { keyed: false, waits: 0, probes: None, ..it };
        let mut stay: Vec<Delivery> = deliveries.into_iter().map(free).collect();
        if self.slots.is_some() {
            // The last of each slot stays: from the last to the first.
            stay = stay.into_iter().rev().filter(|it| self.take_slot(it, &mut lost)).collect();
            stay.reverse();
        }
        let may_run: Vec<Delivery> = stay.into_iter().filter_map(|it| self.enter(it)).collect();
        self.lanes.push_before_new(may_run);
        lost
    }

    /// Has an adopted delivery stand for its slot; false where it needs no place.
    fn take_slot(&mut self, delivery: &Delivery, lost: &mut Lost) -> bool {
        if delivery.comes_again() {
            return true;
        }
        let slot = self.slot_of(&delivery.event);
        let Some(slots) = &mut self.slots else { return true };
        if slots.has(&slot) {
            lost.conflated += 1; // by what is newer here
            delivery.event.settle();
            return false;
        }
        if let Taken::Shut { .. } = slots.offer(&slot, &delivery.event) {
            return false;
        }
        slots.put(slot, &delivery.event);
        true
    }

    /// `delivery` goes to wait for its retry, and holds back later events of its key.
    pub fn hold(&mut self, delivery: &Delivery) {
        if self.turns.is_none()
            && let Some(key) = key_of(self.key.as_ref(), &delivery.event)
        {
            self.held.entry(key.into()).or_default();
        }
    }

    /// The wait is over: the retry comes before all that is new.
    pub fn requeue(&mut self, delivery: Delivery) {
        // In reverse: the retry itself ends up before those it held back.
        self.let_go(&delivery);
        self.lanes.push_behind_retries(delivery);
    }

    /// What `delivery` held back may run.
    fn let_go(&mut self, delivery: &Delivery) {
        let key = key_of(self.key.as_ref(), &delivery.event);
        if let Some(held) = key.and_then(|key| self.held.remove(&*key)) {
            self.held_count -= held.len();
            held.into_iter().rev().for_each(|delivery| self.lanes.push_behind_retries(delivery));
        }
    }

    /// `delivery` was settled: if it had the turn of its key, the next one has it now.
    pub fn pass(&mut self, delivery: &Delivery) {
        self.over(delivery);
        if delivery.keyed
            && let Some(turns) = &mut self.turns
            && let Some(key) = key_of(self.key.as_ref(), &delivery.event)
            && let Some(next) = turns.pass(&key)
        {
            self.lanes.push_back(next);
        }
    }

    /// `delivery` was handed out, and lost its worth before a handler saw it.
    pub fn expire(&mut self, delivery: &Delivery) {
        self.pass(delivery);
        if self.slots.is_some() && !delivery.comes_again() {
            let slot = self.slot_of(&delivery.event);
            if let Some(newer) = self.slots.as_mut().and_then(|slots| slots.reopen(&slot)) {
                self.place(slot, &newer);
            }
        }
    }

    /// Drops the oldest event of the least urgent lane, or else one of those that wait beside
    /// the lanes; false when there is none but what a retry holds back.
    pub fn drop_oldest(&mut self) -> bool {
        if let Some(dropped) = self.parked.take_oldest(self.lanes.least_urgent()) {
            dropped.event.settle();
            self.let_go(&dropped);
            self.pass(&dropped);
            return true;
        }
        if let Some(mut dropped) = self.lanes.drop_oldest() {
            self.leave_place(&mut dropped);
            dropped.event.settle();
            self.pass(&dropped);
            return true;
        }
        if let Some(mut dropped) = self.turns.as_mut().and_then(|turns| turns.drop_oldest()) {
            self.leave_place(&mut dropped);
            dropped.event.settle();
            return true;
        }
        let dropped = self.slots.as_mut().and_then(|slots| slots.drop_oldest());
        dropped.is_some_and(|dropped| {
            dropped.settle();
            true
        })
    }

    /// Gives places to the events whose interval is over; returns whether there were any.
    pub fn open_due(&mut self) -> bool {
        let due = self.slots.as_mut().map(|slots| slots.due()).unwrap_or_default();
        let some = !due.is_empty();
        due.into_iter().for_each(|(slot, event)| self.place(slot, &event));
        some
    }

    /// When `open_due` is to be called next, if no timer is set for that.
    pub fn arm(&mut self) -> Option<Instant> {
        self.slots.as_mut()?.arm()
    }

    /// Takes everything.
    pub fn drain(&mut self) -> Vec<Delivery> {
        let mut left = Vec::with_capacity(self.len());
        left.extend(self.parked.drain());
        left.extend(std::iter::from_fn(|| self.lanes.pop()));
        left.extend(self.held.drain().flat_map(|(_, held)| held));
        self.held_count = 0;
        left.extend(self.turns.as_mut().into_iter().flat_map(|turns| turns.drain()));
        left.iter().for_each(|delivery| self.over(delivery));
        if self.slots.is_some() {
            left.iter_mut().for_each(|delivery| drop(self.leave_place(delivery)));
        }
        let shut = self.slots.as_mut().map(|slots| slots.drain()).unwrap_or_default();
        left.extend(shut.into_iter().map(Delivery::first));
        left
    }

    /// Has `delivery` wait for the turn of its key, unless that is free, or it needs none.
    fn enter(&mut self, delivery: Delivery) -> Option<Delivery> {
        let Some(turns) = &mut self.turns else { return Some(delivery) };
        let event = delivery.event.clone(); // the key may live in it
        match key_of(self.key.as_ref(), &event) {
            Some(key) => turns.enter(&key, delivery),
            None => Some(delivery),
        }
    }

    /// Makes a place for the first event of a slot.
    fn place(&mut self, slot: Slot, event: &Arc<Event>) {
        if let Some(slots) = &mut self.slots {
            slots.put(slot, event);
        }
        self.push(event);
    }

    /// Where events conflate, has `delivery` carry the newest event of the slot for which it
    /// stood. Retries stand for themselves.
    fn leave_place(&mut self, delivery: &mut Delivery) -> Option<Slot> {
        if self.slots.is_none() || delivery.comes_again() {
            return None;
        }
        let slot = self.slot_of(&delivery.event);
        if let Some(newest) = self.slots.as_mut()?.take(&slot) {
            delivery.event = newest;
        }
        Some(slot)
    }

    fn slot_of(&self, event: &Event) -> Slot {
        (event.topic.clone(), key_of(self.key.as_ref(), event).map(Arc::from))
    }
}

/// Asked only where it matters: the path may lead deep into the payload.
pub(super) fn key_of<'a>(path: Option<&KeyPath>, event: &'a Event) -> Option<Cow<'a, str>> {
    match path {
        Some(path) => path.key_of(event),
        None => event.key().map(|key| Cow::Borrowed(&**key)),
    }
}
