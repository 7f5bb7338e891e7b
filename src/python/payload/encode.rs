//! Exact builtin types, written straight into the encoder; everything else takes the slow way of
//! [`convert`], which either finds a documented encoding or refuses with the path.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};

use super::convert::{Converted, convert};
use super::problem::{Found, Problem, short_repr, type_name};
use crate::event::{Encoder, MAX_DEPTH, Payload};
use crate::python::bridge::ffi::integer;

/// The largest buffer that a thread keeps for its next payload.
const KEPT_BUFFER: usize = 256 * 1024;

thread_local! {
    /// One buffer per thread: encoding allocates once per event, for the exact size.
    static BUFFER: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

/// Encodes `value`; at most `limit` bytes.
///
/// # Errors
/// `PayloadError` with the path of the offending value.
pub(in crate::python) fn encode(
    value: &Bound<'_, PyAny>,
    limit: usize,
    root: &str,
) -> PyResult<Payload> {
    let mut walker =
        Walker { encoder: Encoder::reusing(BUFFER.take()), limit, converting: Vec::new() };
    let result = walker.write(value, None);
    let (payload, buffer) = walker.encoder.finish_reusing();
    // One large payload must not hold its memory for ever.
    if buffer.capacity() <= KEPT_BUFFER {
        BUFFER.set(buffer);
    }
    match result {
        Ok(()) => Ok(payload),
        Err(problem) => Err(problem.into_error(root)),
    }
}

/// A container that is being written, and those around it: to tell a cycle from mere depth.
struct Inside<'a> {
    container: *mut pyo3::ffi::PyObject,
    depth: usize,
    around: Outside<'a>,
}

type Outside<'a> = Option<&'a Inside<'a>>;

struct Walker {
    encoder: Encoder,
    limit: usize,
    /// The objects that are being written by way of another one.
    converting: Vec<*mut pyo3::ffi::PyObject>,
}

impl Walker {
    /// Refuses to go on once more than the limit is written.
    fn check_size(&self) -> Result<(), Problem> {
        if self.encoder.len() <= self.limit {
            return Ok(());
        }
        Err(Found::refused(format!(
            "the payload has more than {} bytes; store large data elsewhere and send a \
             reference, or raise `event_bus.max_payload`",
            self.limit
        )))
    }

    fn write(&mut self, value: &Bound<'_, PyAny>, around: Outside<'_>) -> Result<(), Problem> {
        if let Ok(text) = value.cast_exact::<PyString>() {
            return self.text(text);
        }
        if let Ok(number) = value.cast_exact::<PyFloat>() {
            return self.float(number.value());
        }
        if let Ok(number) = value.cast_exact::<PyInt>() {
            return self.int(number);
        }
        if let Ok(dict) = value.cast_exact::<PyDict>() {
            return self.dict(dict, around);
        }
        if value.is_none() {
            self.encoder.null();
            return self.check_size();
        }
        if let Ok(flag) = value.cast_exact::<PyBool>() {
            self.encoder.bool(flag.is_true());
            return self.check_size();
        }
        if let Ok(list) = value.cast_exact::<PyList>() {
            return self.items(value, list.len(), list.iter(), around);
        }
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            return self.items(value, tuple.len(), tuple.iter(), around);
        }
        self.other(value, around)
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> Result<(), Problem> {
        self.encoder.str(utf8(text)?);
        self.check_size()
    }

    fn int(&mut self, number: &Bound<'_, PyInt>) -> Result<(), Problem> {
        match integer(number) {
            Some(value) => self.encoder.int(value),
            None => {
                let value = number.extract::<u64>().map_err(|_| {
                    Found::refused("an integer beyond 64 bits; send it as a string or a Decimal")
                })?;
                self.encoder.uint(value);
            }
        }
        self.check_size()
    }

    fn float(&mut self, value: f64) -> Result<(), Problem> {
        if !value.is_finite() {
            return Err(Found::refused(format!(
                "{value} is not a JSON number; send None where there is no value"
            )));
        }
        self.encoder.float(value);
        self.check_size()
    }

    fn enter<'a>(
        &self,
        container: &Bound<'_, PyAny>,
        around: Outside<'a>,
    ) -> Result<Inside<'a>, Problem> {
        let container = container.as_ptr();
        let depth = around.map_or(0, |inside| inside.depth) + 1;
        if depth > MAX_DEPTH {
            return Err(self.too_deep(container, around));
        }
        self.check_size()?;
        Ok(Inside { container, depth, around })
    }

    /// Says whether it was a cycle or mere depth: either way we are inside of too much.
    #[cold]
    fn too_deep(&self, pointer: *mut pyo3::ffi::PyObject, around: Outside<'_>) -> Problem {
        let converting = &self.converting;
        let repeated =
            (1..converting.len()).any(|end| converting[..end].contains(&converting[end]));
        let mut open = std::iter::successors(around, |inside| inside.around);
        Found::refused(if repeated || open.any(|inside| inside.container == pointer) {
            "a container that contains itself".to_owned()
        } else {
            format!("more than {MAX_DEPTH} nested containers")
        })
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>, around: Outside<'_>) -> Result<(), Problem> {
        let inside = self.enter(dict, around)?;
        let open = self.encoder.begin_map();
        // Converting a value runs Python code, which may change the dict: looked for before each
        // step, because the iterator itself can only panic.
        let length = dict.len();
        let mut entries = dict.iter();
        let mut count = 0;
        while count < length {
            if dict.len() != length {
                return Err(Found::refused("a dict that changed while it was encoded"));
            }
            let Some((key, value)) = entries.next() else { break };
            let Ok(name) = key.cast::<PyString>() else {
                let kind = type_name(&key);
                return Err(Found::refused(format!(
                    "a key of type {kind}; JSON keys are strings, write {{str(key): ...}}"
                ))
                .under(format!("[{}]", short_repr(&key))));
            };
            let name =
                utf8(name).map_err(|problem| problem.under(format!("[{}]", short_repr(&key))))?;
            self.encoder.key(name);
            self.write(&value, Some(&inside))
                .map_err(|problem| problem.under(format!(".{name}")))?;
            count += 1;
        }
        self.encoder.end(open, count);
        Ok(())
    }

    fn items<'py>(
        &mut self,
        container: &Bound<'py, PyAny>,
        length: usize,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        around: Outside<'_>,
    ) -> Result<(), Problem> {
        let inside = self.enter(container, around)?;
        let open = self.encoder.begin_list();
        let mut count = 0;
        for (index, item) in items.take(length).enumerate() {
            self.write(&item, Some(&inside))
                .map_err(|problem| problem.under(format!("[{index}]")))?;
            count = index + 1;
        }
        self.encoder.end(open, count);
        Ok(())
    }

    /// Everything that is not exactly a builtin: first the documented encodings, then
    /// subclasses of builtins, by their builtin's value.
    fn other(&mut self, value: &Bound<'_, PyAny>, around: Outside<'_>) -> Result<(), Problem> {
        // A conversion can hand out ever new objects (an Enum whose value is another one): the
        // walk ends here where no container ends it.
        if self.converting.len() >= 2 * MAX_DEPTH {
            return Err(self.too_deep(value.as_ptr(), around));
        }
        self.converting.push(value.as_ptr());
        match convert(value)? {
            Converted::As(plain) => self.write(&plain, around)?,
            Converted::Text(text) => {
                self.encoder.str(&text);
                self.check_size()?;
            }
            Converted::Builtin => self.subclass(value, around)?,
            Converted::No(reason) => return Err(Found::refused(reason)),
        }
        self.converting.pop();
        Ok(())
    }

    fn subclass(&mut self, value: &Bound<'_, PyAny>, around: Outside<'_>) -> Result<(), Problem> {
        if let Ok(text) = value.cast::<PyString>() {
            return self.text(text);
        }
        if let Ok(number) = value.cast::<PyFloat>() {
            return self.float(number.value());
        }
        if let Ok(number) = value.cast::<PyInt>() {
            return self.int(number);
        }
        if let Ok(dict) = value.cast::<PyDict>() {
            return self.dict(dict, around);
        }
        if let Ok(list) = value.cast::<PyList>() {
            return self.items(value, list.len(), list.iter(), around);
        }
        if let Ok(tuple) = value.cast::<PyTuple>() {
            return self.items(value, tuple.len(), tuple.iter(), around);
        }
        let plain = PyDict::new(value.py());
        plain.update(value.cast::<PyMapping>().map_err(PyErr::from)?)?;
        self.dict(&plain, around)
    }
}

fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Result<&'a str, Problem> {
    text.to_str()
        .map_err(|_| Found::refused("text with a lone surrogate, which is not valid Unicode"))
}
