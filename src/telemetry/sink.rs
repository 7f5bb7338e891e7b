//! The bounded queue between those who log and the one thread that writes.
//!
//! Whoever logs only puts a finished record into the queue and never waits for a disk or a
//! terminal; when the queue is full the record is lost, counted and later reported.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use super::format::Record;
use super::levels::Levels;
use super::output::{Counters, Output, add};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

thread_local! {
    /// Set on the writer's thread: what it logs itself would feed the queue for ever.
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// How much may wait to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub records: usize,
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<Record>,
    bytes: usize,
    /// How many records were ever put in, and how many of them are written.
    pushed: u64,
    settled: u64,
    closed: bool,
    ended: bool,
}

#[derive(Debug)]
pub(super) struct Sink {
    pub levels: ArcSwap<Levels>,
    pub clock: Clock,
    pub counters: Arc<Counters>,
    limits: Limits,
    state: Mutex<State>,
    arrived: Condvar,
    settled: Condvar,
}

impl Sink {
    /// A sink and its running writer, which ends when the sink is closed.
    pub fn start(
        levels: Levels,
        limits: Limits,
        output: Output,
    ) -> Result<(Arc<Sink>, JoinHandle<()>)> {
        let sink = Arc::new(Sink {
            levels: ArcSwap::from_pointee(levels),
            clock: output.clock.clone(),
            counters: output.counters.clone(),
            limits,
            state: Mutex::default(),
            arrived: Condvar::new(),
            settled: Condvar::new(),
        });
        let writer = sink.clone();
        let thread = std::thread::Builder::new()
            .name("tiebeam-logs".into())
            .spawn(move || writer.run(output))
            .map_err(|error| {
                Error::new(Kind::Internal, "start the logs", "cannot start the writer's thread")
                    .with_source(error)
            })?;
        Ok((sink, thread))
    }

    /// Queues a record; false if it was lost.
    pub fn push(&self, record: Record) -> bool {
        if IS_WRITER.get() {
            return false;
        }
        let size = record.size();
        let mut state = self.state.lock();
        let full = state.records.len() >= self.limits.records
            || state.bytes.saturating_add(size) > self.limits.bytes;
        if full || state.closed {
            drop(state);
            add(&self.counters.lost, 1);
            return false; // the record is dropped outside the lock
        }
        state.records.push_back(record);
        state.bytes += size;
        state.pushed += 1;
        let first = state.records.len() == 1;
        drop(state);
        if first {
            self.arrived.notify_one();
        }
        true
    }

    /// Waits until what is queued now has been written; false if that took too long.
    ///
    /// In real time whatever the clock is, because the writer is a real thread.
    pub fn flush(&self, timeout: Duration) -> bool {
        if IS_WRITER.get() {
            return false; // it would wait for itself
        }
        let mut state = self.state.lock();
        let until = state.pushed;
        let unsettled = |state: &mut State| state.settled < until && !state.ended;
        let result = self.settled.wait_while_for(&mut state, unsettled, timeout);
        !result.timed_out() && state.settled >= until
    }

    /// Takes no more records; the writer ends when it has written the queued ones.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Waits for the writer to end; false if that took too long.
    pub fn wait_ended(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        self.settled.wait_while_for(&mut state, |state| !state.ended, timeout);
        state.ended
    }

    /// How many records wait to be written.
    pub fn queued(&self) -> usize {
        self.state.lock().records.len()
    }

    fn run(&self, mut output: Output) {
        IS_WRITER.set(true);
        loop {
            let mut state = self.state.lock();
            self.arrived.wait_while(&mut state, |state| state.records.is_empty() && !state.closed);
            let batch = std::mem::take(&mut state.records);
            state.bytes = 0;
            let last = state.closed;
            drop(state);
            let count = batch.len() as u64;
            // A panic costs this batch and not the logs.
            if catch_unwind(AssertUnwindSafe(|| output.write_batch(batch.into_iter()))).is_err() {
                self.counters.lost.fetch_add(count, Ordering::Relaxed);
            }
            let mut state = self.state.lock();
            state.settled += count;
            state.ended = last;
            drop(state);
            self.settled.notify_all();
            if last {
                return; // nothing was queued after closing
            }
        }
    }
}

#[cfg(test)]
mod tests;
