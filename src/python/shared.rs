//! What all executors of one bus share.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use super::bridge::Loop;
use super::component::LoopSlot;
use super::handler::Handler;
use super::pump::Suspended;
use super::workers::{Pool, Slot};
use crate::bus::{Bus, Policy, Subscription};
use crate::clock::Clock;
use crate::deadlines::Deadlines;

/// Something under way that has a time limit.
pub(super) enum Limited {
    /// An async handler that waits for something.
    Task(Suspended),
    /// A sync handler on a worker thread, and which of its calls.
    Call(Arc<Slot>, u64),
}

/// Makes the policy of the subscription of a name.
pub(super) type PolicyMaker = Box<dyn Fn(&str) -> crate::error::Result<Policy> + Send + Sync>;

/// The Python side of one bus.
pub(super) struct Shared {
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
    /// A loop of our own, for async handlers of a bus that has no home.
    pub background: pyo3::sync::PyOnceLock<(Arc<Loop>, Py<PyAny>)>,
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
