//! What all executors of one bus share.

use std::sync::{Arc, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::bridge::{Closer, Loop, Runtime, register, with_python};
use super::component::LoopSlot;
use super::handler::Handler;
use super::limits::Limited;
use super::pool::Pool;
use super::watchdog::{UnderWay, Watchdog};
use crate::bus::{Bus, Policy, Subscription};
use crate::clock::Clock;
use crate::deadlines::Deadlines;

/// Makes the policy of the subscription of a name.
pub(super) type PolicyMaker = Box<dyn Fn(&str) -> crate::error::Result<Policy> + Send + Sync>;

/// The Python side of one bus.
pub(super) struct Shared {
    pub this: Weak<Shared>,
    pub bus: Bus,
    pub clock: Clock,
    pub limits: Deadlines<Limited>,
    pub workers: Arc<Pool>,
    pub batch: usize,
    /// Makes the policy of a subscription that does not bring its own.
    pub default_policy: PolicyMaker,
    /// The loop of the framework it belongs to, for async handlers subscribed where no loop
    /// runs: in a sync hook, which has a thread of its own.
    pub home: LoopSlot,
    /// Where connections to a broker are served.
    runtime: tokio::runtime::Handle,
    /// What the watchdog knows of it.
    pub under_way: UnderWay,
    /// A loop of our own, for async handlers of a bus that has no home.
    pub background: PyOnceLock<(Arc<Loop>, Py<PyAny>)>,
}

impl Shared {
    /// The Python side of `bus`, registered to be closed before the interpreter ends.
    pub(super) fn new(
        bus: Bus,
        default_policy: PolicyMaker,
        home: LoopSlot,
        runtime: &Arc<Runtime>,
    ) -> Arc<Shared> {
        let clock = bus.clock().clone();
        let shared = Arc::new_cyclic(|this| Shared {
            this: this.clone(),
            under_way: UnderWay::new(bus.settings().watchdog),
            batch: bus.settings().batch_size,
            workers: Pool::new(&bus.settings().name),
            limits: Deadlines::new(clock.clone(), Limited::expire),
            clock,
            bus,
            default_policy,
            home,
            runtime: runtime.handle().clone(),
            background: PyOnceLock::new(),
        });
        let closer: Weak<dyn Closer> = Arc::downgrade(&(shared.clone() as Arc<dyn Closer>));
        register(closer);
        if shared.under_way.patience().is_some() {
            let source: Weak<Shared> = shared.this.clone();
            Watchdog::get(runtime).add(source);
        }
        shared
    }

    /// A loop for async handlers that were subscribed where no loop runs.
    pub(super) fn other_loop(&self, py: Python<'_>) -> PyResult<Arc<Loop>> {
        if let Some(home) = self.home.get() {
            return Ok(home.clone());
        }
        let (event_loop, _) = self.background.get_or_try_init(py, || {
            let thread = py.import("tiebeam._background")?.call_method0("start")?;
            let event_loop = Loop::on_other_thread(&thread.getattr("loop")?, &thread)?;
            PyResult::Ok((event_loop, thread.unbind()))
        })?;
        Ok(event_loop.clone())
    }

    /// Ends the threads that belong to this bus alone.
    pub(super) fn end(&self, py: Python<'_>) -> PyResult<()> {
        let workers = self.workers.clone();
        py.detach(|| workers.close(Duration::ZERO));
        self.stop_background(py)
    }

    fn stop_background(&self, py: Python<'_>) -> PyResult<()> {
        match self.background.get(py) {
            Some((_, thread)) => thread.call_method0(py, "stop").map(drop),
            None => Ok(()),
        }
    }
}

impl Closer for Shared {
    fn refuse(&self) {
        self.bus.refuse();
    }

    /// Sync handlers get the grace to finish; what waits for a loop that has stopped is lost
    /// with the process, and counted.
    fn close(&self, grace: Duration) {
        self.workers.close(grace);
        for (subscription, count) in self.bus.close_now() {
            tracing::warn!(
                target: "tiebeam::bus",
                subscription, count, "events were still in flight when the process ended"
            );
        }
        if self.bus.capabilities().shared {
            let unsent = self.runtime.block_on(self.bus.part(grace));
            if unsent > 0 {
                tracing::warn!(
                    target: "tiebeam::bus",
                    count = unsent, "events were not sent to the broker when the process ended"
                );
            }
        }
        // After the subscriptions: what its tasks give back as they are cancelled would
        // otherwise be begun anew.
        with_python(|py| {
            if let Err(error) = self.stop_background(py) {
                error.write_unraisable(py, None);
            }
        });
    }
}

impl Drop for Shared {
    /// A bus that is dropped without being closed leaves no loop and no threads behind.
    fn drop(&mut self) {
        self.workers.stop();
        // Its threads may still be in a handler: the end of the process has to wait for them,
        // and for that it has to know of them when nobody else does.
        let workers: Arc<dyn Closer> = self.workers.clone();
        register(Arc::downgrade(&workers));
        if let Some((_, thread)) = self.background.take() {
            with_python(|py| {
                if let Err(error) = thread.call_method1(py, "stop", (0.0,)) {
                    error.write_unraisable(py, None);
                }
            });
        }
    }
}

/// A subscription with work, and how its handler is called.
#[derive(Clone)]
pub(super) struct Ready {
    pub subscription: Arc<Subscription>,
    pub handler: Arc<Handler>,
    pub shared: Arc<Shared>,
}

impl Ready {
    pub fn timeout(&self) -> Option<Duration> {
        self.subscription.options().timeout
    }
}
