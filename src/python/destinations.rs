//! Where events go, by the very object that names their type: code names it by the same object
//! each time.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::bridge::ffi::GilCell;
use crate::bus::{Bus, Destination, WeakDestination};

/// How many types are kept; those that fall on the same place take turns.
const KEPT: usize = 1024;

/// The destinations looked up last. They are not kept alive: a subscription that has ended is
/// not held by somebody who once published to it.
pub(super) struct Destinations(GilCell<Vec<Option<Known>>>);

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
        if places.is_empty() {
            places.resize_with(KEPT, || None);
        }
        let place = &mut places[place_of(event_type)];
        let known = place
            .as_ref()
            .filter(|known| known.version == version && known.event_type.is(event_type))
            .and_then(|known| known.destination.upgrade());
        let found = match known {
            Some(destination) => Ok(destination),
            None => look_up(bus, event_type, version, place),
        };
        drop(self.0.put(py, places));
        found
    }
}

#[cold]
fn look_up(
    bus: &Bus,
    event_type: &Bound<'_, PyString>,
    version: u64,
    place: &mut Option<Known>,
) -> PyResult<Destination> {
    let found = bus.destination(event_type.to_str()?)?;
    let event_type = event_type.clone().unbind();
    *place = Some(Known { event_type, destination: found.downgrade(), version });
    Ok(found)
}

/// Objects that are allocated one after the other get places far from each other.
fn place_of(object: &Bound<'_, PyString>) -> usize {
    let address = object.as_ptr().addr() as u64;
    (address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54) as usize
}
