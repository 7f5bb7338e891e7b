//! Who stands still, and where; and who looks for such.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use super::hook::Hook;
use super::traces::Standing;
use crate::bus::Subscription;
use crate::clock::Instant;
use crate::event::Event;
use crate::python::bridge::{Loop, Thread};
use crate::python::shared::Shared;

/// Names one step of one thing under way: where it was found, what it is, and which step.
pub(in crate::python) type Key = (usize, u64, u64);

/// Whose code it is.
#[derive(Clone)]
pub(in crate::python) enum Who {
    Handler(Arc<Subscription>),
    Hook(Arc<Hook>),
}

/// A task that is suspended.
pub(in crate::python) struct Suspended<'py> {
    pub task: Bound<'py, PyAny>,
    /// The coroutine in it, if it is not the task's own.
    pub coroutine: Option<Bound<'py, PyAny>>,
    pub event: Option<Arc<Event>>,
}

/// Says which event it is that something is at.
pub(in crate::python) type Asks = Box<dyn Fn(Python<'_>) -> Option<Arc<Event>> + Send + Sync>;

/// Where it stands.
pub(in crate::python) enum Place {
    /// On an event loop, whose thread it keeps.
    Loop(Arc<Loop>),
    /// On a thread of its own.
    Thread(Thread),
    /// Nowhere: it waits.
    Task(Box<dyn for<'py> Fn(Python<'py>) -> Option<Suspended<'py>> + Send + Sync>),
}

/// Something that stands still.
pub(in crate::python) struct Suspect {
    pub key: Key,
    pub who: Who,
    pub shared: Arc<Shared>,
    pub place: Place,
    /// How many calls on its thread it is inside of.
    pub depth: usize,
    /// Since when, as far as it was seen.
    pub since: Instant,
    /// How long it has been looked at since.
    pub stood: Duration,
    /// Whether that is too long. If not, it may yet be what holds the GIL.
    pub due: bool,
    pub event: Option<Arc<Event>>,
    /// Who knows the event, with the GIL, where that is not known before.
    pub asks: Option<Asks>,
    /// Whether it is the fallback of the handler.
    pub fallback: bool,
    /// Whether it still does.
    pub still: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Suspect {
    /// The thread that it keeps, where that is known.
    pub fn thread(&self) -> Option<&Thread> {
        match &self.place {
            Place::Loop(event_loop) => Some(event_loop.place()),
            Place::Thread(thread) => Some(thread),
            Place::Task(_) => None,
        }
    }

    /// For people.
    pub fn named(&self) -> String {
        match &self.who {
            Who::Handler(subscription) if self.fallback => {
                format!("the fallback of the handler {}", subscription.name())
            }
            Who::Handler(subscription) => format!("the handler {}", subscription.name()),
            Who::Hook(hook) => format!("{} of the component {}", hook.name, hook.component),
        }
    }

    /// Whether this one is called by `other`, in which it has been nearly from the beginning of
    /// that: whatever keeps the other one is in here.
    fn keeps(&self, other: &Suspect) -> bool {
        let same = |one: &Thread, another: &Thread| one.ident == another.ident;
        self.depth > other.depth
            && self.thread().zip(other.thread()).is_some_and(|(a, b)| same(a, b))
            && self.stood * 2 >= other.stood
    }

    /// Whether it may hold the GIL.
    pub fn runs(&self) -> bool {
        !matches!(self.place, Place::Task(_))
    }
}

/// Leaves out those that are only kept by what they call. Whoever keeps an event loop by that is due
/// as soon as the one that it was called by would have been.
pub(super) fn innermost(mut suspects: Vec<Suspect>) -> Vec<Suspect> {
    let keeper = |kept: &Suspect| suspects.iter().position(|other| other.keeps(kept));
    let keepers: Vec<_> = suspects.iter().map(keeper).collect();
    let last = |mut at: usize| {
        while let Some(deeper) = keepers[at] {
            at = deeper;
        }
        at
    };
    for (kept, _) in keepers.iter().enumerate().filter(|(_, keeper)| keeper.is_some()) {
        if let Place::Loop(event_loop) = &suspects[kept].place {
            let (event_loop, by) = (event_loop.clone(), &mut suspects[last(kept)]);
            by.due |= by.shared.under_way.patience().is_some_and(|step| by.stood >= step);
            by.place = Place::Loop(event_loop);
        }
    }
    let mut keepers = keepers.into_iter();
    suspects.retain(|_| keepers.next().flatten().is_none());
    suspects
}

/// One look.
#[derive(Clone, Copy)]
pub(in crate::python) struct Look {
    /// For how long everything has been looked at, without the times when this process stood.
    pub watched: Duration,
    pub now: Instant,
}

/// Who knows of something under way.
pub(in crate::python) trait Source: Send + Sync {
    /// What stands still: from half of the patience with steps on, so that it is known what it was
    /// at before it is due. Without the GIL, and short.
    /// `standing` is what threads have been at since an earlier look.
    fn look(&self, look: Look, standing: &[Standing]) -> Vec<Suspect>;

    /// After how long one of its suspects may be due.
    fn patience(&self) -> Option<Duration> {
        None
    }
}
