//! What one bus has under way: calls on threads, suspensions, what left traces, hooks.
//!
//! Handlers say nothing of themselves for this: calls and suspensions are found by their time
//! limits, which number them.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::hook::Hook;
use super::suspect::{Look, Place, Source, Suspect, Suspended, Who};
use super::traces::Standing;
use crate::bus::{Patience, Subscription};
use crate::clock::Instant;
use crate::deadlines::{Fate, Key, Looked};
use crate::python::limits::{Limited, Overdue};
use crate::python::pump::waiting_in;
use crate::python::shared::Shared;

/// What is remembered of a bus between two looks.
#[derive(Default)]
pub(in crate::python) struct UnderWay {
    patience: Option<Patience>,
    /// How many time limits had been set at each look, as far back as matters.
    counts: Mutex<VecDeque<(Look, u64)>>,
    hooks: Mutex<Vec<Weak<Hook>>>,
}

impl UnderWay {
    pub fn new(patience: Option<Patience>) -> UnderWay {
        UnderWay { patience, ..UnderWay::default() }
    }

    /// After how long a step is due; none where nothing is watched.
    pub fn patience(&self) -> Option<Duration> {
        self.patience.map(|patience| patience.step)
    }

    /// A hook is called; none where nothing is watched.
    pub fn begin(
        &self,
        component: &str,
        name: &str,
        function: &Bound<'_, PyAny>,
    ) -> Option<Arc<Hook>> {
        self.patience?;
        let hook = Hook::new(component, name, function);
        let mut hooks = self.hooks.lock();
        if hooks.len() == hooks.capacity() {
            hooks.retain(|hook| hook.strong_count() > 0);
        }
        hooks.push(Arc::downgrade(&hook));
        Some(hook)
    }

    fn hooks(&self) -> Vec<Arc<Hook>> {
        let mut hooks = self.hooks.lock();
        hooks.retain(|hook| hook.strong_count() > 0);
        hooks.iter().filter_map(Weak::upgrade).collect()
    }
}

/// What a time limit that has stood for long is set for.
enum Found {
    Call(Arc<dyn Overdue>, u64),
    Task(usize),
}

impl Source for Shared {
    fn patience(&self) -> Option<Duration> {
        self.under_way.patience()
    }

    fn look(&self, look: Look, standing: &[Standing]) -> Vec<Suspect> {
        let (Some(patience), Some(shared)) = (self.under_way.patience, self.this.upgrade()) else {
            return Vec::new();
        };
        let mut suspects = shared.look_at_limits(look, patience);
        let standing = standing.iter().filter(|one| one.stood(look) >= patience.step / 2);
        suspects.extend(
            shared
                .whose(standing)
                .map(|(standing, whose)| standing.suspect(&shared, whose, look, patience.call)),
        );
        suspects
            .extend(self.under_way.hooks().into_iter().filter_map(|hook| hook.look(&shared, look)));
        suspects
    }
}

impl Shared {
    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Those of the calls that are ours, and whose they are.
    fn whose<'a>(
        &self,
        standing: impl Iterator<Item = &'a Standing>,
    ) -> impl Iterator<Item = (&'a Standing, Arc<Subscription>)> {
        let mut standing = standing.peekable();
        let all = if standing.peek().is_none() { Vec::new() } else { self.bus.unfinished() };
        standing.filter_map(move |one| {
            let found = all.iter().find(|subscription| one.is_of(subscription))?;
            Some((one, found.clone()))
        })
    }

    /// Calls and suspensions whose time limits were set long ago.
    fn look_at_limits(self: &Arc<Self>, look: Look, patience: Patience) -> Vec<Suspect> {
        let (early, late, first_seen) = {
            let mut counts = self.under_way.counts.lock();
            counts.push_back((look, self.limits.count()));
            let least = (patience.step / 2).min(patience.suspension);
            let most = patience.call.max(patience.suspension);
            let count = |limit: Duration| {
                let long_ago = |entry: &&(Look, u64)| look.watched - entry.0.watched >= limit;
                counts.iter().rev().find(long_ago).map_or(0, |(_, count)| *count)
            };
            let early = count(least);
            let late = [count(patience.call), count(patience.suspension), count(patience.step / 2)];
            // One more than is needed says when the oldest was seen first.
            let old = |entry: &(Look, u64)| look.watched - entry.0.watched > most;
            while counts.len() > 1 && old(&counts[1]) {
                counts.pop_front();
            }
            let first_seen: Vec<(Look, u64)> = counts.iter().copied().collect();
            (early, late, first_seen)
        };
        let [call, suspension, step] = late;
        if early == 0 {
            return Vec::new();
        }
        let mut found = self.limits.pick(early, |key, number, limited| match limited {
            Limited::Call { call, turn } if number <= step => {
                Some((number, key, Found::Call(call.clone(), *turn)))
            }
            Limited::Task(task) if number <= suspension => {
                Some((number, key, Found::Task(task.subscription)))
            }
            _ => None,
        });
        found.sort_unstable_by_key(|(number, ..)| *number);
        let mut waiting = HashSet::new();
        let since = |number: u64| {
            let seen = first_seen.iter().find(|(_, count)| *count >= number);
            seen.map_or(look, |(seen, _)| *seen)
        };
        let stood = |number: u64| look.watched - since(number).watched;
        found
            .into_iter()
            .filter_map(|(number, key, found)| match found {
                Found::Call(running, turn) => {
                    let (since, stood) = (since(number).now, stood(number));
                    self.call_suspect(key, &running, turn, (since, stood), number <= call)
                }
                // Of many that wait at the same place, one says enough.
                Found::Task(address) => waiting
                    .insert(address)
                    .then(|| self.task_suspect(key, address, (since(number).now, stood(number))))
                    .flatten(),
            })
            .collect()
    }

    fn call_suspect(
        self: &Arc<Self>,
        key: Key,
        running: &Arc<dyn Overdue>,
        turn: u64,
        (since, stood): (Instant, Duration),
        due: bool,
    ) -> Option<Suspect> {
        let (thread, subscription, event) = running.at(turn)?;
        let running = running.clone();
        Some(Suspect {
            key: (self.address(), Arc::as_ptr(&subscription) as usize as u64, key.number()),
            who: Who::Handler(subscription),
            shared: self.clone(),
            place: Place::Thread(thread),
            depth: 0,
            since,
            stood,
            due,
            event: Some(event),
            asks: None,
            fallback: false,
            still: Box::new(move || running.is_at(turn)),
        })
    }

    fn task_suspect(
        self: &Arc<Self>,
        key: Key,
        address: usize,
        (since, stood): (Instant, Duration),
    ) -> Option<Suspect> {
        let all = self.bus.unfinished();
        let subscription = all.into_iter().find(|s| Arc::as_ptr(s) as usize == address)?;
        let (there, shared) = (self.clone(), self.clone());
        Some(Suspect {
            key: (self.address(), address as u64, key.number()),
            who: Who::Handler(subscription),
            shared: self.clone(),
            place: Place::Task(Box::new(move |py| shared.suspended(py, key))),
            depth: 0,
            since,
            stood,
            due: true,
            event: None,
            asks: None,
            fallback: false,
            still: Box::new(move || {
                let looked = there.limits.look(key, |_| Fate::Stays(()));
                matches!(looked, Some(Looked::Kept(())))
            }),
        })
    }

    /// The task of the handler whose time limit this is, and its coroutine.
    fn suspended<'py>(&self, py: Python<'py>, key: Key) -> Option<Suspended<'py>> {
        let looked = self.limits.look(key, |limited| {
            Fate::Stays(match limited {
                Limited::Task(suspended) => Some(suspended.task.clone_ref(py)),
                Limited::Call { .. } => None,
            })
        });
        let Some(Looked::Kept(Some(task))) = looked else { return None };
        let task = task.into_bound(py);
        let (coroutine, event) = waiting_in(&task).unzip();
        Some(Suspended { task, coroutine, event })
    }
}
