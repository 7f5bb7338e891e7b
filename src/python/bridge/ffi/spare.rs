//! Objects that are used again for their next content, once nobody else has them.

use pyo3::prelude::*;

use super::cell::{GilCell, Vessel, exchange};

/// The objects that were handed out last, at most so many. Most are dropped before they have their
/// turn again, and are then handed out again; where somebody kept one, a new one takes its place.
pub(crate) struct Spare<T> {
    ring: GilCell<Ring<T>>,
    most: usize,
}

struct Ring<T> {
    all: Vec<Py<T>>,
    /// The one that was handed out first.
    oldest: usize,
}

impl<T> Ring<T> {
    fn advance(&mut self) {
        self.oldest += 1;
        if self.oldest >= self.all.len() {
            self.oldest = 0;
        }
    }
}

impl<T> Spare<T>
where
    T: Vessel + From<T::Held> + Into<PyClassInitializer<T>>,
{
    pub(crate) const fn new(most: usize) -> Spare<T> {
        Spare { ring: GilCell::empty(), most }
    }

    /// An object that holds `content`. What it held before is dropped now.
    pub(crate) fn make(&self, py: Python<'_>, content: T::Held) -> PyResult<Py<T>> {
        let mut ring = self.ring.take(py).unwrap_or(Ring { all: Vec::new(), oldest: 0 });
        let mut content = content;
        if let Some(oldest) = ring.all.get(ring.oldest) {
            match exchange(oldest.bind(py), 1, content) {
                Ok(before) => {
                    let oldest = oldest.clone_ref(py);
                    ring.advance();
                    drop(self.ring.put(py, ring));
                    drop(before); // which may run anybody's code
                    return Ok(oldest);
                }
                Err(back) => content = back,
            }
        }
        let made = Py::new(py, T::from(content));
        let mut kept = None;
        if let Ok(made) = &made {
            let made = made.clone_ref(py);
            if ring.all.len() < self.most {
                ring.all.insert(ring.oldest, made);
            } else if let Some(oldest) = ring.all.get_mut(ring.oldest) {
                kept = Some(std::mem::replace(oldest, made));
            }
            ring.advance();
        }
        drop(self.ring.put(py, ring));
        drop(kept); // with everything in place again
        made
    }
}
