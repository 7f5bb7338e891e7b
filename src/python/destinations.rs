//! Where events go, by the very object that names their type: code names it by the same object
//! each time.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::bridge::ffi::{GilCell, references};
use crate::bus::{Bus, Destination, WeakDestination};

/// How many places there are at first, as a power of two.
const FEW: u32 = 10;

/// And at most.
const MANY: u32 = 16;

/// The destinations looked up last, each at one of two places. They are not kept alive: a
/// subscription that has ended is not held by somebody who once published to it.
pub(super) struct Destinations(GilCell<Places>);

#[derive(Default)]
struct Places {
    all: Vec<Option<Known>>,
    /// How often one that somebody may ask for again had to make room since the last growth.
    crowded: usize,
}

struct Known {
    event_type: Py<PyString>,
    destination: WeakDestination,
    /// The state of the bus's routing that it is of.
    version: u64,
}

impl Destinations {
    pub(super) const fn new() -> Destinations {
        Destinations(GilCell::empty())
    }

    /// Where events of `event_type` go.
    pub(super) fn find(
        &self,
        bus: &Bus,
        event_type: &Bound<'_, PyString>,
    ) -> PyResult<Destination> {
        let py = event_type.py();
        // Asked first: what changes while we look is seen the next time.
        let version = bus.routing();
        let mut places = self.0.take(py).unwrap_or_default();
        let found = match places.get(event_type, version) {
            Some(found) => Ok(found),
            None => look_up(bus, event_type, version, &mut places),
        };
        drop(self.0.put(py, places));
        found
    }
}

impl Places {
    #[inline]
    fn get(&self, event_type: &Bound<'_, PyString>, version: u64) -> Option<Destination> {
        let spread = spread(event_type);
        self.at(spread, event_type, version).or_else(|| self.at(other(spread), event_type, version))
    }

    #[inline]
    fn at(
        &self,
        spread: u64,
        event_type: &Bound<'_, PyString>,
        version: u64,
    ) -> Option<Destination> {
        let known = self.all.get(self.place(spread))?.as_ref()?;
        let is_it = known.event_type.is(event_type) && known.version == version;
        is_it.then(|| known.destination.upgrade())?
    }

    /// Keeps what was looked up, at the expense of another one if need be.
    fn keep(&mut self, py: Python<'_>, new: Known) {
        if self.all.is_empty() {
            self.all.resize_with(1 << FEW, || None);
        }
        if self.crowded > self.all.len() / 4 && self.all.len() < 1 << MANY {
            self.grow(py);
        }
        let [first, second] = self.places_of(new.event_type.bind(py));
        // Worth its place: of the present routing, and the name is held by somebody but us; one
        // that was put together for one event is not.
        let is_kept = |place: usize| {
            self.all[place].as_ref().is_some_and(|known| {
                known.version == new.version
                    && !known.event_type.is(&new.event_type)
                    && references(known.event_type.bind(py).as_any()) > 1
            })
        };
        let place = match (is_kept(first), is_kept(second)) {
            (false, _) => first,
            (true, false) => second,
            (true, true) => {
                self.crowded += 1;
                if self.crowded.is_multiple_of(2) { first } else { second }
            }
        };
        self.all[place] = Some(new);
    }

    fn grow(&mut self, py: Python<'_>) {
        let double = self.all.len() * 2;
        let before = std::mem::take(&mut self.all);
        self.all.resize_with(double, || None);
        self.crowded = 0;
        for known in before.into_iter().flatten() {
            let [first, second] = self.places_of(known.event_type.bind(py));
            let place = if self.all[first].is_none() { first } else { second };
            self.all[place] = Some(known);
        }
    }

    fn places_of(&self, event_type: &Bound<'_, PyString>) -> [usize; 2] {
        let spread = spread(event_type);
        [self.place(spread), self.place(other(spread))]
    }

    #[inline]
    fn place(&self, spread: u64) -> usize {
        // There are two to the power of something.
        (spread >> 32) as usize & self.all.len().wrapping_sub(1)
    }
}

/// Objects that are allocated one after the other get places far from each other.
#[inline]
fn spread(event_type: &Bound<'_, PyString>) -> u64 {
    (event_type.as_ptr().addr() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// For the other one of two places.
#[inline]
fn other(spread: u64) -> u64 {
    spread.rotate_left(16)
}

#[cold]
fn look_up(
    bus: &Bus,
    event_type: &Bound<'_, PyString>,
    version: u64,
    places: &mut Places,
) -> PyResult<Destination> {
    let py = event_type.py();
    let found = bus.destination(event_type.to_str()?)?;
    let event_type = event_type.clone().unbind();
    places.keep(py, Known { event_type, destination: found.downgrade(), version });
    Ok(found)
}
