//! An object that is used again for its next content, once nobody else has it.

use pyo3::prelude::*;

use super::cell::{GilCell, Vessel, exchange};

/// The object that was handed out last. Most are dropped before the next one is needed, which is
/// then the same object; where somebody kept it, a new one takes its place here.
pub(crate) struct Spare<T>(GilCell<Py<T>>);

impl<T> Spare<T>
where
    T: Vessel + From<T::Held> + Into<PyClassInitializer<T>>,
{
    pub(crate) const fn new() -> Spare<T> {
        Spare(GilCell::empty())
    }

    /// An object that holds `content`. What it held before is dropped now.
    pub(crate) fn make(&self, py: Python<'_>, content: T::Held) -> PyResult<Py<T>> {
        let mut content = content;
        if let Some(last) = self.0.take(py) {
            match exchange(last.bind(py), 1, content) {
                Ok(before) => {
                    drop(self.0.put(py, last.clone_ref(py)));
                    drop(before); // which may run anybody's code
                    return Ok(last);
                }
                Err(back) => content = back,
            }
        }
        let made = Py::new(py, T::from(content))?;
        drop(self.0.put(py, made.clone_ref(py)));
        Ok(made)
    }
}
