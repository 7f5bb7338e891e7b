//! Deliveries that wait for a breaker inside of their handler.
//!
//! When it may let them through, the first of them tries it: the probe. The others follow in their
//! order when that has succeeded; so what waits is not tried all over again, each time, while the
//! breaker stays open.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::lanes::{Delivery, Lanes};
use crate::clock::Instant;

/// What waits, by breaker.
#[derive(Debug, Default)]
pub(super) struct Parked {
    groups: Vec<Group>,
    /// The number that was given last.
    last: u16,
    /// How many deliveries were refused before and are not settled, wherever they are.
    again: usize,
}

#[derive(Debug)]
struct Group {
    number: NonZeroU16,
    breaker: Arc<str>,
    /// In the order in which they were refused.
    waiting: VecDeque<Delivery>,
    due: Instant,
    /// Whether one of them is trying.
    probing: bool,
}

/// When somebody is to try a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    number: NonZeroU16,
    pub at: Instant,
}

impl Parked {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.waiting.len()).sum()
    }

    /// Whether something waits, or tries the breaker that it has waited for.
    pub fn has_any(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Whether something waits, or has and is not settled.
    pub fn waits(&self) -> bool {
        self.again > 0
    }

    /// Whether a group waits for this breaker.
    pub fn is_of(&self, number: NonZeroU16, breaker: &Arc<str>) -> bool {
        self.groups.iter().any(|group| group.number == number && group.breaker == *breaker)
    }

    /// Has `delivery` wait for `breaker`, which may let it through when it is `due`. Returns when
    /// that is to be tried, if nobody is there to do so.
    pub fn park(&mut self, delivery: Delivery, breaker: &Arc<str>, due: Instant) -> Option<Due> {
        self.again += usize::from(delivery.waits == 0);
        let probed = delivery.probes.is_some();
        let waits = delivery.waits.wrapping_add(1).max(1);
        let delivery = Delivery { waits, probes: None, ..delivery };
        if let Some(group) = self.groups.iter_mut().find(|group| group.breaker == *breaker) {
            if !probed {
                group.waiting.push_back(delivery);
                return None;
            }
            group.waiting.push_front(delivery);
            (group.probing, group.due) = (false, due);
            return Some(Due { number: group.number, at: due });
        }
        self.last = self.last.wrapping_add(1).max(1);
        let number = NonZeroU16::new(self.last).unwrap_or(NonZeroU16::MIN);
        let (breaker, waiting) = (breaker.clone(), VecDeque::from([delivery]));
        self.groups.push(Group { number, breaker, waiting, due, probing: false });
        Some(Due { number, at: due })
    }

    /// The one that tries the breaker, if it is time for that.
    pub fn probe(&mut self, due: Due) -> Option<Delivery> {
        let ready = |group: &&mut Group| {
            group.number == due.number && group.due == due.at && !group.probing
        };
        let group = self.groups.iter_mut().find(ready)?;
        let delivery = group.waiting.pop_front()?;
        group.probing = true;
        Some(Delivery { probes: Some(group.number), ..delivery })
    }

    /// A probe ended without a verdict: another one, if there is any.
    pub fn next_probe(&mut self, number: NonZeroU16) -> Option<Delivery> {
        let at = self.groups.iter().position(|group| group.number == number)?;
        let Some(delivery) = self.groups[at].waiting.pop_front() else {
            self.groups.swap_remove(at);
            return None;
        };
        Some(Delivery { probes: Some(number), ..delivery })
    }

    /// Lets a group go.
    pub fn release(&mut self, number: NonZeroU16) -> VecDeque<Delivery> {
        let at = self.groups.iter().position(|group| group.number == number);
        at.map(|at| self.groups.swap_remove(at).waiting).unwrap_or_default()
    }

    /// Since when the one waits that waits longest for its first attempt: a refused one was none.
    pub fn longest_since(&self) -> Option<i64> {
        let all = self.groups.iter().flat_map(|group| &group.waiting);
        all.filter_map(Delivery::waits_since).min()
    }

    /// One that was refused before is settled, or begins anew.
    pub fn over(&mut self) {
        self.again = self.again.saturating_sub(1);
    }

    /// Takes the oldest of the least urgent that wait, unless one that stands in line is less
    /// urgent than that: in the `least` urgent lane.
    pub fn take_oldest(&mut self, least: Option<usize>) -> Option<Delivery> {
        let all = self.groups.iter().flat_map(|group| &group.waiting);
        let lane =
            all.map(Lanes::of).max().filter(|lane| least.is_none_or(|least| *lane >= least))?;
        let is_it = |delivery: &Delivery| Lanes::of(delivery) == lane;
        let group = self.groups.iter_mut().find(|group| group.waiting.iter().any(is_it))?;
        let at = group.waiting.iter().position(is_it)?;
        let taken = group.waiting.remove(at);
        self.groups.retain(|group| group.probing || !group.waiting.is_empty());
        taken
    }

    /// Takes all.
    pub fn drain(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.groups).into_iter().flat_map(|group| group.waiting).collect()
    }
}
