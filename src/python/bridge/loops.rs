//! An asyncio loop as the core sees it: where work is brought, from any thread, without the GIL.
//!
//! A wake-up writes to a file descriptor that the loop watches (`add_reader`); it costs one
//! system call for a whole batch of work, and a thread without the GIL need not wait for it.
//! Where a loop cannot watch descriptors (Windows' proactor), `call_soon_threadsafe` is used.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::ThreadId;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyInt, PyWeakrefReference};

use super::door::with_python;
use super::ffi::integer;
use super::runtime;
use super::tasks::Tasks;
use super::thread::{Thread, thread_ident};

thread_local! {
    /// The loop that runs what this thread is at, as far as we know.
    static RUNNING: Cell<*const Loop> = const { Cell::new(std::ptr::null()) };

    /// The loop that was found running on this thread last.
    static LAST: RefCell<Last> = const { RefCell::new(Last { event_loop: Weak::new(), thread: 0 }) };

    /// What identifies this thread: asking the library counts a reference up and down.
    static HERE: ThreadId = std::thread::current().id();
}

/// A loop that was found running on a thread.
struct Last {
    event_loop: Weak<Loop>,
    /// What the loop calls that thread.
    thread: u64,
}

/// As long as this exists, its loop runs on this thread.
pub(crate) struct Running(*const Loop);

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}

type Job = Box<dyn for<'py> FnOnce(Python<'py>, &Bound<'py, PyAny>) -> PyResult<()> + Send>;

/// A handle to one asyncio loop. It does not keep the loop alive.
pub(crate) struct Loop {
    reference: Py<PyWeakrefReference>,
    thread: ThreadId,
    /// The same, as Python and the system know it.
    place: Thread,
    wake: Option<WakeFd>,
    jobs: Mutex<VecDeque<Job>>,
    woken: AtomicBool,
    gone: AtomicBool,
    drain: Mutex<Option<Py<PyAny>>>,
    extension: Mutex<Option<Weak<dyn Any + Send + Sync>>>,
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loop({:?}, gone: {})", self.thread, self.gone.load(Ordering::Relaxed))
    }
}

static LOOPS: Mutex<Option<HashMap<usize, Arc<Loop>, RandomState>>> = Mutex::new(None);

impl Loop {
    /// The handle of the loop that runs on this thread, if one does.
    pub(crate) fn running(py: Python<'_>) -> PyResult<Option<Arc<Loop>>> {
        // What asyncio knows costs a system call (up to Python 3.11). A loop that says it runs on
        // the thread on which it was found before runs there again, inside or around another
        // one perhaps, but for the only one in this process of which a task runs.
        let last = LAST.with_borrow(|last| Some((last.event_loop.upgrade()?, last.thread)));
        if let Some((last, thread)) = last
            && let Some(event_loop) = last.get(py)
            && runs_on(&event_loop) == Some(thread)
            && Tasks::get(py)?.runs_alone(&event_loop)
        {
            return Ok(Some(last));
        }
        let running = Loop::ask(py)?;
        if let Some(running) = &running
            && let Some(event_loop) = running.get(py)
            && let Some(thread) = runs_on(&event_loop)
            && thread == thread_ident(py)?
        {
            LAST.set(Last { event_loop: Arc::downgrade(running), thread });
        }
        Ok(running)
    }

    fn ask(py: Python<'_>) -> PyResult<Option<Arc<Loop>>> {
        static ASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let ask = ASK.get_or_try_init(py, || {
            PyResult::Ok(py.import("asyncio")?.getattr("_get_running_loop")?.unbind())
        })?;
        let running = ask.bind(py).call0()?;
        if running.is_none() { Ok(None) } else { Loop::of(&running).map(Some) }
    }

    /// The handle of `event_loop`, which this thread runs or is about to run.
    pub(crate) fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Loop>> {
        let key = event_loop.as_ptr() as usize;
        let known = LOOPS.lock().as_ref().and_then(|loops| loops.get(&key).cloned());
        if let Some(known) = known
            && known.get(event_loop.py()).is_some_and(|other| other.is(event_loop))
        {
            return Ok(known);
        }
        let made = Loop::attach(event_loop)?;
        Loop::keep(event_loop.py(), key, &made);
        Ok(made)
    }

    /// The handle of a loop that a thread of ours runs: `starter.call(f)` runs `f` there, and
    /// waits for it.
    pub(crate) fn on_other_thread(
        event_loop: &Bound<'_, PyAny>,
        starter: &Bound<'_, PyAny>,
    ) -> PyResult<Arc<Loop>> {
        let py = event_loop.py();
        let made: Arc<Mutex<Option<PyResult<Arc<Loop>>>>> = Arc::default();
        let (result, target) = (made.clone(), event_loop.clone().unbind());
        let attach = PyCFunction::new_closure(py, None, None, move |args, _| {
            let handle = Loop::of(target.bind(args.py()));
            *result.lock() = Some(handle);
        })?;
        starter.call_method1("call", (attach,))?;
        let handle = made.lock().take();
        handle.unwrap_or_else(|| {
            Err(pyo3::exceptions::PyRuntimeError::new_err("the background loop did not start"))
        })
    }

    fn keep(py: Python<'_>, key: usize, made: &Arc<Loop>) {
        // Each holds a descriptor: a program that calls `asyncio.run` again and again must not
        // run out of them. Asked without the lock, because asking runs Python.
        let known: Vec<Arc<Loop>> =
            LOOPS.lock().iter().flat_map(|loops| loops.values().cloned()).collect();
        known.iter().for_each(|other| {
            other.is_gone(py);
        });
        drop(known);
        let dead: Vec<Arc<Loop>> = {
            let mut loops = LOOPS.lock();
            let loops = loops.get_or_insert_default();
            let dead = loops
                .extract_if(|_, other| other.gone.load(Ordering::Acquire))
                .map(|(_, other)| other)
                .collect();
            loops.insert(key, made.clone());
            dead
        };
        drop(dead); // after the lock: they own Python objects
    }

    fn attach(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Loop>> {
        let py = event_loop.py();
        let made = Arc::new(Loop {
            reference: PyWeakrefReference::new(event_loop)?.unbind(),
            thread: std::thread::current().id(),
            place: Thread::here(py),
            wake: WakeFd::new().ok(),
            jobs: Mutex::default(),
            woken: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            drain: Mutex::new(None),
            extension: Mutex::default(),
        });
        let weak = Arc::downgrade(&made);
        let drain = PyCFunction::new_closure(py, Some(c"tiebeam_drain"), None, move |args, _| {
            weak.upgrade().map_or(Ok(()), |this| this.drain(args.py()))
        })?;
        *made.drain.lock() = Some(drain.clone().into_any().unbind());
        #[cfg(unix)]
        if let Some(wake) = &made.wake {
            let add_reader = event_loop.getattr("add_reader")?;
            empty_context(py)?.call_method1("run", (add_reader, wake.number(), drain))?;
        }
        Ok(made)
    }

    /// What a higher layer has for each loop; made where nobody holds one. It may hold its loop.
    pub(crate) fn extension<T: Any + Send + Sync>(&self, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let mut kept = self.extension.lock();
        if let Some(kept) = kept.as_ref().and_then(Weak::upgrade) {
            return kept.downcast().unwrap_or_else(|_| unreachable!("one kind of extension"));
        }
        let made = make();
        let weak: Weak<T> = Arc::downgrade(&made);
        *kept = Some(weak);
        made
    }

    /// The thread that runs it; none once it is known to be gone.
    pub(crate) fn thread(&self) -> Option<ThreadId> {
        (!self.gone.load(Ordering::Acquire)).then_some(self.thread)
    }

    /// The thread that runs it, as Python and the system know it.
    pub(crate) fn place(&self) -> &Thread {
        &self.place
    }

    /// The loop, while it lives.
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        use pyo3::types::PyWeakrefMethods;
        self.reference.bind(py).upgrade()
    }

    /// Whether the calling thread is the loop's own.
    pub(crate) fn is_here(&self) -> bool {
        HERE.with(|here| *here == self.thread)
    }

    /// Says that the loop runs on this thread: one of its callbacks is at work.
    pub(crate) fn now_running(&self) -> Running {
        Running(RUNNING.replace(std::ptr::from_ref(self)))
    }

    /// Whether the loop was closed or has vanished; looked up, and remembered.
    pub(crate) fn is_gone(&self, py: Python<'_>) -> bool {
        self.open(py).is_none()
    }

    /// The loop, unless it was closed or has vanished; that is looked up, and remembered.
    pub(crate) fn open<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if self.gone.load(Ordering::Acquire) {
            return None;
        }
        if RUNNING.get() == std::ptr::from_ref(self) {
            return self.get(py); // what runs cannot be closed
        }
        let open = self.get(py).filter(|event_loop| {
            let closed = event_loop.call_method0(pyo3::intern!(py, "is_closed"));
            closed.and_then(|closed| closed.is_truthy()).is_ok_and(|closed| !closed)
        });
        if open.is_none() {
            self.gone.store(true, Ordering::Release);
        }
        open
    }

    /// Has `job` run on the loop's thread, soon. From any thread, with or without the GIL.
    pub(crate) fn call(
        self: &Arc<Self>,
        job: impl for<'py> FnOnce(Python<'py>, &Bound<'py, PyAny>) -> PyResult<()> + Send + 'static,
    ) {
        if runtime::is_forked() {
            // The descriptor is the parent's too, and what the job owns belongs to its threads.
            std::mem::forget(job);
            return;
        }
        self.jobs.lock().push_back(Box::new(job));
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let woken = self.wake.as_ref().is_some_and(|wake| wake.write());
        if !woken {
            self.wake_through_python();
        }
    }

    fn wake_through_python(&self) {
        with_python(|py| {
            let drain = self.drain.lock().as_ref().map(|drain| drain.clone_ref(py));
            if let (Some(event_loop), Some(drain)) = (self.open(py), drain)
                && event_loop.call_method1("call_soon_threadsafe", (drain,)).is_err()
            {
                self.gone.store(true, Ordering::Release);
            }
        });
    }

    /// Runs what was brought. An error that nobody may swallow, such as `SystemExit`, is the
    /// loop's affair, as it is when a task raises it.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(wake) = &self.wake {
            wake.clear();
        }
        self.woken.store(false, Ordering::Release);
        let Some(event_loop) = self.get(py) else { return Ok(()) };
        let _running = self.now_running();
        let jobs = std::mem::take(&mut *self.jobs.lock());
        let mut fatal = Ok(());
        for job in jobs {
            match super::guarded("run on loop", || job(py, &event_loop)) {
                Err(error) if fatal.is_ok() && !error.is_instance_of::<PyException>(py) => {
                    fatal = Err(error);
                }
                Err(error) => error.write_unraisable(py, Some(&event_loop)),
                Ok(()) => {}
            }
        }
        fatal
    }
}

/// The thread that an asyncio loop says it runs on; loops of other makes say nothing.
fn runs_on(event_loop: &Bound<'_, PyAny>) -> Option<u64> {
    let thread = event_loop.getattr_opt(pyo3::intern!(event_loop.py(), "_thread_id"));
    let thread = thread.ok()??.cast_into::<PyInt>().ok()?;
    integer(&thread).and_then(|thread| u64::try_from(thread).ok())
}

/// A context without values, for what outlives whoever happens to need it first.
pub(crate) fn empty_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("contextvars")?.getattr("Context")?.call0()
}

/// A descriptor that becomes readable when it is written to.
struct WakeFd {
    #[cfg(target_os = "linux")]
    event: std::os::fd::OwnedFd,
    #[cfg(all(unix, not(target_os = "linux")))]
    pipe: (std::os::fd::OwnedFd, std::os::fd::OwnedFd),
}

#[cfg(target_os = "linux")]
impl WakeFd {
    fn new() -> std::io::Result<WakeFd> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(WakeFd { event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    fn number(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.event.as_raw_fd()
    }

    fn write(&self) -> bool {
        rustix::io::write(&self.event, &1u64.to_ne_bytes()).is_ok()
    }

    fn clear(&self) {
        // Empty is as good as cleared.
        let _ = rustix::io::read(&self.event, &mut [0u8; 8]);
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
impl WakeFd {
    fn new() -> std::io::Result<WakeFd> {
        use rustix::fs::{OFlags, fcntl_setfl};
        let pipe = rustix::pipe::pipe()?;
        fcntl_setfl(&pipe.0, OFlags::NONBLOCK)?;
        fcntl_setfl(&pipe.1, OFlags::NONBLOCK)?;
        Ok(WakeFd { pipe })
    }

    fn number(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.pipe.0.as_raw_fd()
    }

    fn write(&self) -> bool {
        // A full pipe is readable already.
        !matches!(rustix::io::write(&self.pipe.1, &[1]), Err(e) if e != rustix::io::Errno::AGAIN)
    }

    fn clear(&self) {
        while matches!(rustix::io::read(&self.pipe.0, &mut [0u8; 64]), Ok(read) if read > 0) {}
    }
}

#[cfg(not(unix))]
impl WakeFd {
    fn new() -> std::io::Result<WakeFd> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn write(&self) -> bool {
        false
    }

    fn clear(&self) {}
}
