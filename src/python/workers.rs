//! Sync handlers: worker threads, so that blocking code never stalls a loop.
//!
//! Threads are started when work finds none idle: a few at once, more only when those that
//! exist are seen to be stuck. A handler that outlasts its time limit cannot be stopped; it is
//! abandoned, named and counted, and another thread takes its place.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::bridge::Thread;
use super::handler::{Conclusion, Handler};
use super::limits::{Limited, Overdue};
use super::shared::{Ready, Shared};
use super::watchdog::{Part, Stalled};
use crate::bus::{Delivery, Executor, Subscription};
use crate::event::Event;
use crate::health::ThreadSample;

/// How long one batch may keep a thread before the rest goes back to where urgent events can
/// overtake it.
const SLICE: Duration = Duration::from_millis(5);

/// Runs one subscription's handler on worker threads.
pub(super) struct ThreadExecutor {
    pub handler: Arc<Handler>,
    pub shared: Weak<Shared>,
}

impl fmt::Debug for ThreadExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ThreadExecutor")
    }
}

impl Executor for ThreadExecutor {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        if let Some(ready) = self.ready(subscription) {
            let pool = ready.shared.workers.clone();
            pool.push(Box::new(move |py| work(py, &ready)));
        }
    }

    fn describe(&self) -> &'static str {
        "thread"
    }
}

impl ThreadExecutor {
    fn ready(&self, subscription: &Arc<Subscription>) -> Option<Ready> {
        Some(Ready {
            subscription: subscription.clone(),
            handler: self.handler.clone(),
            shared: self.shared.upgrade()?,
        })
    }
}

/// What one thread works at; shared with whoever has to take it away from a stuck thread.
pub(super) struct Slot {
    ready: Ready,
    thread: Thread,
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    current: Option<Delivery>,
    /// Counts the deliveries: a time limit is meant for one of them.
    turn: u64,
    batch: VecDeque<Delivery>,
    done: usize,
    lost: bool,
}

/// Works off one claim. False: it was taken away from this thread, which has to go.
fn work(py: Python<'_>, ready: &Ready) -> bool {
    let mut batch = VecDeque::new();
    let Ready { subscription, handler, shared } = ready;
    // Where several threads share the work, what one has taken would wait behind a slow event
    // although another thread is free.
    let most = if subscription.options().concurrency > 1 { 1 } else { shared.batch };
    if !subscription.claim(most, &mut batch) {
        return true;
    }
    let slot = Arc::new(Slot {
        ready: ready.clone(),
        thread: Thread::here(py),
        state: Mutex::new(SlotState { batch, ..SlotState::default() }),
    });
    let mut since = shared.clock.now();
    let mut first = true; // whose duration is that since then
    let mut fresh = true; // nothing of the batch has begun yet
    loop {
        let next = {
            let mut state = slot.state.lock();
            let next = state.batch.pop_front();
            state.current = next.clone();
            state.turn += 1;
            next.map(|delivery| (delivery, state.turn, state.batch.is_empty()))
        };
        let Some((delivery, turn, last)) = next else {
            let mut state = slot.state.lock();
            let done = std::mem::take(&mut state.done);
            let mut batch = std::mem::take(&mut state.batch);
            drop(state);
            if !subscription.next(done, most, &mut batch) {
                return true;
            }
            slot.state.lock().batch = batch;
            since = shared.clock.now();
            (first, fresh) = (true, true);
            continue;
        };
        let alone = std::mem::take(&mut fresh) && last;
        let Some(delivery) = subscription.begin(delivery, false) else {
            slot.state.lock().current = None;
            continue;
        };
        if last && !alone {
            subscription.last_begins(&delivery.event);
        }
        let limit = ready
            .timeout()
            .map(|limit| shared.limits.set(limit, Limited::Call { call: slot.clone(), turn }));
        let result = handler.run_sync(py, &delivery);
        if let Some(limit) = limit {
            shared.limits.clear(limit);
        }
        let took = shared.clock.now().saturating_since(since);
        if std::mem::take(&mut first) {
            subscription.note_duration(took, false);
        }
        let delivery = {
            let mut state = slot.state.lock();
            if state.lost {
                state.turn += 1; // it has come back after all
                return false;
            }
            state.current.take().unwrap_or(delivery)
        };
        match handler.conclude(py, subscription, delivery, result) {
            Conclusion::Delivered => slot.state.lock().done += 1,
            Conclusion::Undecided => {}
            Conclusion::Settled => slot.put_back(),
            Conclusion::Fallback(delivery, failure) => {
                handler.run_fallback(py, subscription, delivery, failure, Part::Fallback);
            }
            Conclusion::Fatal(error) => error.write_unraisable(py, None),
        }
        if took > SLICE {
            slot.put_back();
        }
    }
}

impl Slot {
    fn put_back(&self) {
        let (done, batch) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.done), std::mem::take(&mut state.batch))
        };
        self.ready.subscription.put_back(done, batch.into_iter());
    }
}

impl Overdue for Slot {
    /// The handler's time is up: everything is taken away from its thread. No GIL is needed.
    fn expire(&self, turn: u64) {
        let delivery = {
            let mut state = self.state.lock();
            if state.turn != turn {
                return;
            }
            let Some(delivery) = state.current.take() else { return };
            state.lost = true;
            delivery
        };
        let Ready { subscription, handler, shared } = &self.ready;
        let limit = self.ready.timeout().unwrap_or_default();
        tracing::warn!(
            target: "tiebeam::bus",
            subscription = subscription.name(),
            seconds = limit.as_secs_f64(),
            "a sync handler outlasted its time limit and was abandoned with its thread"
        );
        let kind = ThreadSample::of(self.thread.native, &shared.clock).map(|sample| sample.kind());
        let seconds = limit.as_secs_f64();
        let said = Stalled::handler(subscription, Some(&delivery.event), seconds, "abandoned");
        shared.bus.emit("system.handler_stalled", &said.of_kind(kind));
        let what = "was abandoned with its thread";
        if let Conclusion::Fallback(delivery, failure) =
            handler.conclude_timeout(subscription, delivery, limit, what)
        {
            let ready = self.ready.clone();
            shared.workers.push(Box::new(move |py| {
                let Ready { subscription, handler, .. } = &ready;
                handler.run_fallback(py, subscription, delivery, failure, Part::Fallback);
                true
            }));
        }
        self.put_back();
        shared.workers.lose_thread();
        subscription.release();
    }

    fn at(&self, turn: u64) -> Option<(Thread, Arc<Subscription>, Arc<Event>)> {
        let state = self.state.lock();
        let delivery = state.current.as_ref().filter(|_| state.turn == turn)?;
        Some((self.thread.clone(), self.ready.subscription.clone(), delivery.event.clone()))
    }

    fn is_at(&self, turn: u64) -> bool {
        self.state.lock().turn == turn
    }
}
