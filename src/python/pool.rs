//! The worker threads of one bus: as many as there is work for, within a bound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::bridge::{Closer, activity, ffi, guarded, runtime, with_python};
use crate::clock::Clock;

/// Threads that are started at once when there is work for them.
const EAGER: usize = 4;
/// The most threads; beyond it, work waits.
const MOST: usize = 64;
/// How long work waits for a thread before another one is started.
const PATIENCE: Duration = Duration::from_millis(10);

/// One piece of work. It returns false when it was taken away from its thread, which the pool
/// has counted off long ago.
pub(super) type Job = Box<dyn FnOnce(Python<'_>) -> bool + Send>;

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

    pub(super) fn push(self: &Arc<Self>, job: Job) {
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
        let leave = py.import("tiebeam._threads").and_then(|threads| {
            ffi::call_one(&threads.getattr("enter")?, PyString::new(py, &name).as_any())?;
            threads.getattr("leave")
        });
        self.work_off(py);
        let left = leave.and_then(|leave| ffi::call(&leave, &PyTuple::empty(py), None));
        if let Err(error) = left {
            error.write_unraisable(py, None);
        }
    }

    fn work_off(self: &Arc<Self>, py: Python<'_>) {
        activity::join();
        while let Some(job) = py.detach(|| self.next_job()) {
            let outcome = guarded("run handlers", || Ok(job(py)));
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
    pub(super) fn lose_thread(self: &Arc<Self>) {
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

impl Pool {
    /// Lets the threads end when they have worked off what there is; waits for nobody.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.work.notify_all();
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
