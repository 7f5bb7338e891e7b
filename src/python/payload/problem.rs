//! What is wrong with a value, and the way there.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::error::{Error, Kind};

/// What is wrong, and the way there, innermost first.
///
/// Boxed, because every step of the walk returns one, or rather does not.
pub(super) type Problem = Box<Found>;

pub(super) struct Found {
    path: Vec<String>,
    reason: Reason,
}

pub(super) enum Reason {
    Refused(String),
    /// A user's own code failed while it was asked for its value.
    Raised(PyErr),
}

impl Found {
    #[cold]
    pub(super) fn refused(reason: impl Into<String>) -> Problem {
        Box::new(Found { path: Vec::new(), reason: Reason::Refused(reason.into()) })
    }

    #[cold]
    pub(super) fn under(mut self: Box<Self>, segment: String) -> Problem {
        self.path.push(segment);
        self
    }

    pub(super) fn into_error(self, root: &str) -> PyErr {
        let mut path = root.to_owned();
        const SHOWN: usize = 8;
        for (index, segment) in self.path.iter().rev().enumerate() {
            if index == SHOWN {
                path.push_str("...");
                break;
            }
            path.push_str(segment);
        }
        let (message, cause) = match self.reason {
            Reason::Refused(reason) => (format!("{path}: {reason}"), None),
            Reason::Raised(error) => {
                // Ctrl-C and the like are no statement about the value.
                if Python::attach(|py| !error.is_instance_of::<PyException>(py)) {
                    return error;
                }
                (format!("{path}: the value could not be read: {error}"), Some(error))
            }
        };
        let error = PyErr::from(Error::new(Kind::Payload, "publish", message).with("path", path));
        if let Some(cause) = cause {
            Python::attach(|py| error.set_cause(py, Some(cause)));
        }
        error
    }
}

impl From<PyErr> for Problem {
    fn from(error: PyErr) -> Self {
        Box::new(Found { path: Vec::new(), reason: Reason::Raised(error) })
    }
}

pub(super) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string())
}

pub(super) fn short_repr(value: &Bound<'_, PyAny>) -> String {
    let text = value.repr().map_or_else(|_| type_name(value), |text| text.to_string_lossy().into());
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
