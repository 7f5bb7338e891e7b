//! Handlers on an asyncio loop: a pool of driver tasks that step coroutines in batches.
//!
//! A *driver* is a coroutine written in Rust. As long as handlers come to their end without
//! waiting, one driver steps one after the other in a single step of its task. When a handler
//! waits, the driver's task waits with it and stays bound to it, so that `current_task`,
//! `asyncio.timeout` and task groups behave as in a task of the handler's own; another driver
//! takes over the rest. What a handler cancels dies with its task: that driver takes no other
//! event.

mod driver;
pub(super) mod eager;
mod parked;
pub(super) mod pause;
mod slice;
mod stall;
mod stand_in;
mod watch;
mod work;

pub(super) use self::driver::waiting_in;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use self::driver::{Driver, DriverCell};
use self::parked::Parking;
use self::watch::{PATIENCE, Watch};
use self::work::Work;
use super::bridge::ffi::GilCell;
use super::bridge::{Loop, Runtime, empty_context, runtime, with_python};
use super::handler::Handler;
use super::shared::{Ready, Shared};
use super::watchdog::Watchdog;
use crate::bus::{Executor, Lag, ReadyList, Rows, Subscription};

/// Runs one subscription's handler on one loop.
pub(super) struct LoopExecutor {
    pump: Arc<Pump>,
    handler: Arc<Handler>,
    shared: Weak<Shared>,
}

impl LoopExecutor {
    pub(super) fn new(pump: Arc<Pump>, handler: Arc<Handler>, shared: Weak<Shared>) -> Self {
        pump.users.fetch_add(1, Ordering::AcqRel);
        pump.watch.stood.serve(&shared);
        LoopExecutor { pump, handler, shared }
    }

    pub(super) fn handler(&self) -> &Handler {
        &self.handler
    }
}

impl Drop for LoopExecutor {
    fn drop(&mut self) {
        if self.pump.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.pump.dismiss();
        }
    }
}

impl std::fmt::Debug for LoopExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoopExecutor")
    }
}

impl Executor for LoopExecutor {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        if let Some(shared) = self.shared.upgrade() {
            let ready =
                Ready { subscription: subscription.clone(), handler: self.handler.clone(), shared };
            if let Some(ready) = eager::catch(&self.pump, ready) {
                self.pump.schedule(ready);
            }
        }
    }

    fn thread(&self) -> Option<std::thread::ThreadId> {
        self.pump.event_loop.thread()
    }

    fn lag(&self) -> Option<Lag> {
        self.pump.lag()
    }

    fn describe(&self) -> &'static str {
        "loop"
    }
}

/// The ready list of one loop, and the drivers that work on it.
pub(super) struct Pump {
    this: Weak<Pump>,
    event_loop: Arc<Loop>,
    /// Looked up once: a timer must not wait for the GIL.
    runtime: Arc<Runtime>,
    /// Who has work; its leader is a driver.
    ready: ReadyList<Ready>,
    /// Every driver there is, to be ended when the loop is gone.
    drivers: Mutex<HashMap<u64, Weak<DriverCell>, RandomState>>,
    last_driver: AtomicU64,
    /// What is seen of it from elsewhere.
    watch: Watch,
    /// Whether a timer is set for the sake of drivers that sleep.
    sleepers_watched: AtomicBool,
    /// And one for those that are to end.
    dismissing: AtomicBool,
    /// Driver tasks without work.
    parked: Parking,
    /// How many executors there are that may need a driver.
    users: AtomicUsize,
    /// The requests that were served at once since the loop had its turn.
    rows: GilCell<Rows>,
}

impl Pump {
    pub(super) fn of(py: Python<'_>, event_loop: &Arc<Loop>) -> PyResult<Arc<Pump>> {
        let runtime = runtime(py)?;
        Ok(event_loop.extension(|| {
            let watchdog = Watchdog::get(&runtime).clone();
            let pump = Arc::new_cyclic(|this| Pump {
                this: this.clone(),
                event_loop: event_loop.clone(),
                runtime,
                ready: ReadyList::default(),
                drivers: Mutex::default(),
                last_driver: AtomicU64::new(0),
                watch: Watch::default(),
                sleepers_watched: AtomicBool::new(false),
                dismissing: AtomicBool::new(false),
                parked: Parking::new(),
                users: AtomicUsize::new(0),
                rows: GilCell::empty(),
            });
            let source: Weak<Pump> = Arc::downgrade(&pump);
            watchdog.add(source);
            pump
        }))
    }

    fn schedule(self: &Arc<Self>, ready: Ready) {
        if self.ready.push(ready) {
            self.start_driver();
        }
    }

    /// Starts a task for a new driver that leads.
    fn start_driver(self: &Arc<Self>) {
        let pump = self.clone();
        self.watch_loop();
        self.wakes();
        if self.event_loop.is_here() {
            // Asked first: uvloop crashes the process when a closed loop is given a task.
            with_python(|py| match pump.event_loop.open(py) {
                Some(event_loop) => {
                    if let Err(error) = pump.lead(py, &event_loop) {
                        error.write_unraisable(py, None);
                        pump.ready.leaderless();
                    }
                }
                None => pump.orphan_all(py),
            });
            return;
        }
        self.event_loop.call(move |py, event_loop| pump.lead_here(py, event_loop));
    }

    fn create_task(
        self: &Arc<Self>,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        work: Option<Work>,
    ) -> PyResult<()> {
        let driver = Py::new(py, Driver::new(self, work))?;
        self.create_driver_task(py, event_loop, driver).map(drop)
    }

    /// Has a driver serve the ready list: one that sleeps, or a new one.
    fn lead(self: &Arc<Self>, py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.parked.pop(py) {
            Some(parked) => parked.lead(py),
            None => self.create_task(py, event_loop, None),
        }
    }

    fn create_driver_task(
        &self,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        driver: Py<Driver>,
    ) -> PyResult<Py<PyAny>> {
        static TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = TASK.get_or_try_init(py, || {
            PyResult::Ok(py.import("tiebeam._driver")?.getattr("DriverTask")?.unbind())
        })?;
        let options = PyDict::new(py);
        options.set_item(pyo3::intern!(py, "loop"), event_loop)?;
        // In a context of its own: handlers have theirs, and it lives longer than who starts it.
        let context = empty_context(py)?;
        Ok(context.call_method("run", (class, driver), Some(&options))?.unbind())
    }

    /// The loop is gone: whoever was served by it must hear of it, and its events be kept.
    fn orphan_all(self: &Arc<Self>, py: Python<'_>) {
        let waiting = self.ready.abandon();
        let drivers = std::mem::take(&mut *self.drivers.lock());
        // Nobody will step these again, and the loop would keep them for ever.
        let stranded: Vec<_> = drivers
            .into_values()
            .filter_map(|driver| driver.upgrade())
            .filter_map(|driver| driver.take(py))
            .collect();
        let at_work = stranded.iter().filter_map(|driver| driver.subscription());
        let gone: Vec<_> =
            waiting.iter().map(|ready| &ready.subscription).chain(at_work).cloned().collect();
        gone.iter().for_each(Subscription::orphan);
        drop(stranded); // hands back what was pulled, to subscriptions that have ended
        self.parked.close(py);
    }
}
