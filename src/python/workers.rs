//! Sync handlers: worker threads, so that blocking code never stalls a loop.
//!
//! Threads are started when work finds none idle: a few at once, more only when those that
//! exist are seen to be stuck. A handler that outlasts its time limit cannot be stopped; it is
//! abandoned, named and counted, and another thread takes its place.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

use super::bridge::{Closer, activity, guarded, runtime, with_python};
use super::handler::{Conclusion, Handler};
use super::shared::{Limited, Ready, Shared};
use crate::bus::{Delivery, Executor, Failure, Subscription};
use crate::clock::Clock;

/// Threads that are started at once when there is work for them.
const EAGER: usize = 4;
/// The most threads; beyond it, work waits.
const MOST: usize = 64;
/// How long work waits for a thread before another one is started.
const PATIENCE: Duration = Duration::from_millis(10);
/// How long one batch may keep a thread before the rest goes back to where urgent events can
/// overtake it.
const SLICE: Duration = Duration::from_millis(5);

/// Runs one subscription's handler on worker threads.
pub(super) struct ThreadExecutor {
    pub handler: Arc<Handler>,
    pub shared: Weak<Shared>,
    /// Whether the first attempt runs inside `publish`; retries come here either way.
    pub inline: bool,
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
            pool.push(Job::Work(ready));
        }
    }

    fn is_inline(&self) -> bool {
        self.inline
    }

    fn run_inline(&self, subscription: &Arc<Subscription>, delivery: Delivery) {
        let Some(ready) = self.ready(subscription) else {
            subscription.abandoned(delivery);
            return;
        };
        let mut delivery = Some(delivery);
        let ran = with_python(|py| {
            if let Some(delivery) = delivery.take() {
                run_one(py, &ready, delivery);
            }
        });
        if let (None, Some(delivery)) = (ran, delivery) {
            subscription.abandoned(delivery);
        }
    }

    fn describe(&self) -> &'static str {
        if self.inline { "inline" } else { "thread" }
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

/// Calls the handler on this thread and settles the delivery by itself.
fn run_one(py: Python<'_>, ready: &Ready, delivery: Delivery) {
    let result = ready.handler.run_sync(py, &delivery);
    match ready.handler.conclude(py, &ready.subscription, delivery, result) {
        Conclusion::Delivered => ready.subscription.put_back(1, std::iter::empty()),
        Conclusion::Settled => {}
        Conclusion::Fallback(delivery, failure) => {
            ready.handler.run_fallback(py, &ready.subscription, delivery, failure);
        }
        // The publisher is not to blame for its subscriber: KeyboardInterrupt alone, which is
        // meant for the thread it hits, is raised again by the interpreter.
        Conclusion::Fatal(error) => error.write_unraisable(py, None),
    }
}

enum Job {
    Work(Ready),
    /// A fallback whose handler was abandoned.
    Fallback(Ready, Delivery, Failure),
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    idle: usize,
    threads: usize,
    stopping: bool,
    growing: bool,
}

/// The worker threads of one bus.
pub(super) struct Pool {
    name: String,
    /// Handlers get stuck in real time, whatever a test's clock says.
    clock: Clock,
    state: Mutex<State>,
    work: Condvar,
    ended: Condvar,
    taken: AtomicU64,
    started: AtomicU64,
    abandoned: AtomicU64,
}

impl Pool {
    pub(super) fn new(name: &str) -> Arc<Pool> {
        // Looked up here once: it takes the GIL, which no timer may wait for.
        let clock = with_python(|py| runtime(py).map(|runtime| runtime.clock().clone()))
            .and_then(Result::ok)
            .unwrap_or_else(Clock::real);
        Arc::new(Pool {
            name: name.to_owned(),
            clock,
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            taken: AtomicU64::new(0),
            started: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
        })
    }

    /// How many handlers were abandoned because they outlasted their time limit.
    pub(super) fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Relaxed)
    }

    fn push(self: &Arc<Self>, job: Job) {
        activity::begin();
        let spawn = {
            let mut state = self.state.lock();
            state.queue.push_back(job);
            // One that was told counts as idle until it has come: there must be one per job.
            if state.idle >= state.queue.len() {
                self.work.notify_one();
                false
            } else if state.threads < EAGER {
                state.threads += 1;
                true
            } else {
                self.grow_later(&mut state);
                false
            }
        };
        if spawn {
            self.spawn();
        }
    }

    /// Starts another thread if, a little later, the queue has not moved.
    fn grow_later(self: &Arc<Self>, state: &mut State) {
        if state.growing || state.threads >= MOST {
            return;
        }
        state.growing = true;
        let (pool, taken) = (self.clone(), self.taken.load(Ordering::Relaxed));
        self.clock
            .schedule(PATIENCE, move || {
                let spawn = {
                    let mut state = pool.state.lock();
                    state.growing = false;
                    let stuck = !state.queue.is_empty()
                        && state.idle == 0
                        && pool.taken.load(Ordering::Relaxed) == taken;
                    if stuck {
                        state.threads += 1;
                    }
                    if !state.queue.is_empty() {
                        pool.grow_later(&mut state);
                    }
                    stuck
                };
                if spawn {
                    pool.spawn();
                }
            })
            .detach();
    }

    fn spawn(self: &Arc<Self>) {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let pool = self.clone();
        let spawned = std::thread::Builder::new()
            .name(format!("tiebeam-{}-{number}", self.name))
            .spawn(move || {
                with_python(|py| pool.run(py));
                pool.thread_ended();
            });
        if let Err(error) = spawned {
            tracing::error!(target: "tiebeam::bus", "no worker thread could be started: {error}");
            self.thread_ended();
        }
    }

    fn thread_ended(&self) {
        self.state.lock().threads -= 1;
        self.ended.notify_all();
    }

    fn run(self: &Arc<Self>, py: Python<'_>) {
        let name = std::thread::current().name().unwrap_or("tiebeam").to_owned();
        let threads = py.import("tiebeam._threads").and_then(|threads| {
            threads.call_method1("enter", (name,))?;
            Ok(threads)
        });
        self.work_off(py);
        if let Err(error) = threads.and_then(|threads| threads.call_method0("leave")) {
            error.write_unraisable(py, None);
        }
    }

    fn work_off(self: &Arc<Self>, py: Python<'_>) {
        while let Some(job) = py.detach(|| self.next_job()) {
            let outcome = guarded("run handlers", || {
                match job {
                    Job::Work(ready) => return Ok(work(py, &ready)),
                    Job::Fallback(ready, delivery, failure) => {
                        ready.handler.run_fallback(py, &ready.subscription, delivery, failure);
                    }
                }
                Ok(true)
            });
            activity::end();
            match outcome {
                Ok(true) => {}
                Ok(false) => {
                    // Abandoned long ago; the pool has gone on without this thread, and
                    // counted it off: count it on again for the farewell in `spawn`.
                    self.state.lock().threads += 1;
                    return;
                }
                Err(error) => error.write_unraisable(py, None),
            }
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                self.taken.fetch_add(1, Ordering::Relaxed);
                return Some(job);
            }
            if state.stopping {
                return None;
            }
            state.idle += 1;
            self.work.wait(&mut state);
            state.idle -= 1;
        }
    }

    /// A thread is stuck in a handler: it no longer counts, and others may start in its place.
    fn lose_thread(self: &Arc<Self>) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.threads -= 1;
        if !state.queue.is_empty() {
            state.threads += 1;
            drop(state);
            self.spawn();
        }
    }
}

impl Closer for Pool {
    /// Lets the threads finish what they have, and waits for them at most `grace`.
    fn close(&self, grace: Duration) {
        let clock = Clock::real();
        let deadline = clock.now().saturating_add(grace);
        let mut state = self.state.lock();
        state.stopping = true;
        self.work.notify_all();
        while state.threads > 0 {
            let left = deadline.saturating_since(clock.now());
            if left.is_zero() {
                tracing::warn!(
                    target: "tiebeam::bus",
                    threads = state.threads,
                    "handlers still run on worker threads at the end of the grace period"
                );
                return;
            }
            self.ended.wait_for(&mut state, left);
        }
    }
}

/// What one thread works at; shared with whoever has to take it away from a stuck thread.
pub(super) struct Slot {
    ready: Ready,
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
        state: Mutex::new(SlotState { batch, ..SlotState::default() }),
    });
    let mut since = shared.clock.now();
    loop {
        let next = {
            let mut state = slot.state.lock();
            let next = state.batch.pop_front();
            state.current = next.clone();
            state.turn += 1;
            next.map(|delivery| (delivery, state.turn))
        };
        let Some((delivery, turn)) = next else {
            let mut state = slot.state.lock();
            let done = std::mem::take(&mut state.done);
            let mut batch = std::mem::take(&mut state.batch);
            drop(state);
            if !subscription.next(done, most, &mut batch) {
                return true;
            }
            slot.state.lock().batch = batch;
            since = shared.clock.now();
            continue;
        };
        if !subscription.is_active() {
            slot.state.lock().current = None;
            subscription.abandoned(delivery);
            continue;
        }
        let began = shared.clock.now();
        let limit = ready.timeout().map(|limit| {
            shared.limits.set(began.saturating_add(limit), Limited::Call(slot.clone(), turn))
        });
        let result = handler.run_sync(py, &delivery);
        if let Some(limit) = limit {
            shared.limits.clear(limit);
        }
        let delivery = {
            let mut state = slot.state.lock();
            if state.lost {
                return false;
            }
            state.current.take().unwrap_or(delivery)
        };
        match handler.conclude(py, subscription, delivery, result) {
            Conclusion::Delivered => slot.state.lock().done += 1,
            Conclusion::Settled => slot.put_back(),
            Conclusion::Fallback(delivery, failure) => {
                handler.run_fallback(py, subscription, delivery, failure);
            }
            Conclusion::Fatal(error) => error.write_unraisable(py, None),
        }
        if shared.clock.now().saturating_since(since) > SLICE {
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

    /// The handler's time is up: everything is taken away from its thread. No GIL is needed.
    pub(super) fn expire(&self, turn: u64) {
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
        shared.bus.emit(
            "system.handler_stalled",
            &serde_json::json!({
                "subscription": subscription.name(),
                "component": subscription.component(),
                "event_id": delivery.event.id.to_string(),
                "seconds": limit.as_secs_f64(),
                "action": "abandoned",
            }),
        );
        let what = "was abandoned with its thread";
        if let Conclusion::Fallback(delivery, failure) =
            handler.conclude_timeout(subscription, delivery, limit, what)
        {
            shared.workers.push(Job::Fallback(self.ready.clone(), delivery, failure));
        }
        self.put_back();
        shared.workers.lose_thread();
        subscription.release();
    }
}
