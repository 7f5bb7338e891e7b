//! What runs in the background, owned in one place so that it can be ended in order.
//!
//! A tokio runtime in a static that nobody shuts down crashes processes at exit: its threads
//! reach for an interpreter that is being torn down. So there is one owner, made at first use;
//! an `atexit` hook closes the door, lets what is under way finish within a bound, with the GIL
//! released, and ends the threads. A forked child has none of the threads; it gets a clear
//! error, and never touches (or frees) what belongs to its parent.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

const UNUSED: u8 = 0;
const OPEN: u8 = 1;
const CLOSED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(UNUSED);
static OWNER: AtomicU32 = AtomicU32::new(0);
static FORKED: AtomicBool = AtomicBool::new(false);
static RUNTIME: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);
static CLOSERS: Mutex<Vec<Weak<dyn Closer>>> = Mutex::new(Vec::new());

/// How long the end of the process waits for what is under way.
const EXIT_GRACE: Duration = Duration::from_secs(2);

/// How long it waits for the logs to be written.
const LOG_GRACE: Duration = Duration::from_millis(500);

/// Something with threads or waiting work that must end before the interpreter does.
pub(crate) trait Closer: Send + Sync {
    /// Refuse new work from now on.
    fn refuse(&self) {}

    /// Finish or abandon what is under way; called without the GIL.
    fn close(&self, grace: Duration);
}

/// The background threads and the clock of the process.
#[derive(Debug)]
pub(crate) struct Runtime {
    tokio: Mutex<Option<tokio::runtime::Runtime>>,
    handle: tokio::runtime::Handle,
    clock: Clock,
}

impl Runtime {
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn handle(&self) -> &tokio::runtime::Handle {
        &self.handle
    }
}

/// Whether native threads may still enter Python.
pub(super) fn is_open() -> bool {
    STATE.load(Ordering::Acquire) == OPEN && !FORKED.load(Ordering::Acquire)
}

/// Whether this process is a forked child of the one that started the runtime.
pub(super) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Refuses to go on in a forked child.
///
/// # Errors
/// `Kind::ForkedProcess`.
pub(crate) fn check_process() -> Result<()> {
    if !is_forked() {
        return Ok(());
    }
    Err(Error::new(
        Kind::ForkedProcess,
        "use tiebeam",
        format!(
            "this process was forked from process {} after tiebeam had started there; its \
             threads do not exist here. Start tiebeam after the fork, or use the \"spawn\" or \
             \"forkserver\" start method of multiprocessing",
            OWNER.load(Ordering::Relaxed)
        ),
    ))
}

/// The machine's clock, as everything in this process sees it. To look at it starts nothing: who
/// sets a timer asks for the [`runtime`] before, which ends the thread that this takes.
pub(crate) fn real_clock() -> &'static Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::real)
}

/// The runtime of this process, started at first use.
///
/// # Errors
/// `Kind::ForkedProcess` in a forked child, `Kind::Closed` once the interpreter ends.
pub(crate) fn runtime(py: Python<'_>) -> PyResult<Arc<Runtime>> {
    check_process()?;
    if let Some(runtime) = RUNTIME.lock().as_ref() {
        return Ok(runtime.clone());
    }
    if STATE.load(Ordering::Acquire) == CLOSED {
        let error =
            Error::new(Kind::Closed, "use tiebeam", "the interpreter is shutting down already");
        return Err(error.into());
    }
    // Not under the lock: registering the hooks runs Python.
    let hooks_needed = STATE.swap(OPEN, Ordering::AcqRel) == UNUSED;
    if hooks_needed {
        OWNER.store(std::process::id(), Ordering::Relaxed);
        install_hooks(py)?;
    }
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("tiebeam-runtime")
        // For the clients of brokers; our own code waits by the clock alone.
        .enable_all()
        .build()?;
    let made = Arc::new(Runtime {
        handle: tokio.handle().clone(),
        tokio: Mutex::new(Some(tokio)),
        clock: real_clock().clone(),
    });
    Ok(RUNTIME.lock().get_or_insert(made).clone())
}

fn install_hooks(py: Python<'_>) -> PyResult<()> {
    let at_exit = PyCFunction::new_closure(py, Some(c"tiebeam_at_exit"), None, |args, _| {
        close_all(args.py());
    })?;
    py.import("atexit")?.call_method1("register", (at_exit,))?;
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        let after_fork =
            PyCFunction::new_closure(py, Some(c"tiebeam_after_fork"), None, |_, _| {
                FORKED.store(true, Ordering::Release);
                // The log file is the parent's; what the child says goes nowhere near it.
                crate::telemetry::logs::detach_after_fork();
            })?;
        let arguments = pyo3::types::PyDict::new(py);
        arguments.set_item("after_in_child", after_fork)?;
        os.call_method("register_at_fork", (), Some(&arguments))?;
    }
    Ok(())
}

/// Has `closer` closed before the interpreter ends, last registered first.
pub(crate) fn register(closer: Weak<dyn Closer>) {
    let mut closers = CLOSERS.lock();
    closers.retain(|other| other.strong_count() > 0);
    closers.push(closer);
}

/// Takes the last of those that are left off the list.
fn last_registered() -> Option<Arc<dyn Closer>> {
    let mut closers = CLOSERS.lock();
    std::iter::from_fn(|| closers.pop()).find_map(|closer| closer.upgrade())
}

/// Ends everything in order; what `atexit` calls.
fn close_all(py: Python<'_>) {
    if FORKED.load(Ordering::Acquire) {
        // The threads and their locks are the parent's; the runtime is never dropped here.
        return;
    }
    py.detach(|| {
        let closers: Vec<_> = CLOSERS.lock().iter().filter_map(Weak::upgrade).collect();
        let clock = Clock::real();
        let deadline = clock.now().saturating_add(EXIT_GRACE);
        // All of them first: what one still finishes may publish to another.
        closers.into_iter().for_each(|closer| closer.refuse());
        // One after the other, since what is dropped on the way may leave threads to wait for.
        while let Some(closer) = last_registered() {
            closer.close(deadline.saturating_since(clock.now()));
        }
        // What was just said about the end is the last thing that anybody will read.
        crate::telemetry::logs::flush(LOG_GRACE);
        let runtime = RUNTIME.lock().take();
        STATE.store(CLOSED, Ordering::Release);
        if let Some(runtime) = runtime {
            runtime.clock.shutdown();
            let tokio = runtime.tokio.lock().take();
            if let Some(tokio) = tokio {
                tokio.shutdown_timeout(EXIT_GRACE);
            }
        }
    });
}
