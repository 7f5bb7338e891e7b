//! Threads, as Python and as the system know them.

use std::cell::OnceCell;
use std::sync::Arc;

use pyo3::prelude::*;

use super::ffi;

/// What identifies a thread.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    /// As `threading.get_ident` does.
    pub ident: u64,
    /// As the system does, where it says so.
    pub native: Option<u32>,
    /// Its name, as it was when it was first asked for.
    pub name: Arc<str>,
    /// What the interpreter knew it by then.
    pub state: usize,
    /// Whether it is not Python's: the interpreter then knows it by something else each time.
    pub foreign: bool,
}

impl Thread {
    /// The calling thread.
    pub(crate) fn here(py: Python<'_>) -> Thread {
        thread_local! {
            static HERE: OnceCell<Thread> = const { OnceCell::new() };
        }
        let state = ffi::thread_state(py);
        HERE.with(|here| {
            let known = here.get_or_init(|| {
                let ident = thread_ident(py).unwrap_or_default();
                let named = name(py, ident);
                let foreign = named.is_err();
                let name = named.unwrap_or_else(|_| format!("thread {ident}"));
                Thread { ident, native: native_thread(), name: name.into(), state, foreign }
            });
            Thread { state, ..known.clone() }
        })
    }
}

/// What Python calls this thread.
pub(super) fn thread_ident(py: Python<'_>) -> PyResult<u64> {
    py.import("threading")?.call_method0("get_ident")?.extract()
}

/// The name of a thread that Python knows: to ask for `current_thread` would make one known.
fn name(py: Python<'_>, ident: u64) -> PyResult<String> {
    let known = py.import("threading")?.getattr("_active")?.get_item(ident)?;
    known.getattr("name")?.extract()
}

/// The calling thread, as the system knows it: Linux shows each thread itself as
/// `<process>/task/<thread>`.
pub(crate) fn native_thread() -> Option<u32> {
    let own = std::fs::read_link("/proc/thread-self").ok()?;
    own.file_name()?.to_str()?.parse().ok()
}
