//! The bulkhead: so many calls at once, so many waiting, first come first served.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Sleep};
use crate::error::{Error, Kind, Result};

/// How many calls may run and wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkheadSettings {
    /// Calls at once.
    pub max_concurrent: usize,
    /// Calls that may wait for a place.
    pub max_waiting: usize,
    /// The longest wait; `None` waits until there is a place.
    pub max_wait: Option<Duration>,
}

#[derive(Default)]
struct Queue {
    running: usize,
    next: u64,
    /// Who waits, in the order of arrival; a place is handed over by `granted`.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    ticket: u64,
    granted: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn position(&self, ticket: u64) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.ticket == ticket)
    }

    fn queued(&self) -> usize {
        self.waiting.iter().filter(|waiting| !waiting.granted).count()
    }

    /// A place is free: it goes to the first in line, or back.
    fn release(&mut self) -> Option<Waker> {
        match self.waiting.iter_mut().find(|waiting| !waiting.granted) {
            Some(first) => {
                first.granted = true;
                first.waker.take()
            }
            None => {
                self.running -= 1;
                None
            }
        }
    }
}

struct Inner {
    settings: BulkheadSettings,
    clock: Clock,
    queue: Mutex<Queue>,
}

/// A shared bulkhead; clones share the places.
#[derive(Clone)]
pub struct Bulkhead(Arc<Inner>);

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (running, waiting) = self.load();
        write!(f, "Bulkhead({running} of {}, {waiting} wait)", self.0.settings.max_concurrent)
    }
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// As many wait as may.
    Full,
    /// The longest wait passed.
    TimedOut,
}

impl Bulkhead {
    /// An empty bulkhead.
    ///
    /// # Errors
    /// [`Kind::Configuration`] without a place.
    pub fn new(settings: BulkheadSettings, clock: Clock) -> Result<Self> {
        if settings.max_concurrent == 0 {
            let message = "a bulkhead needs `max_concurrent` of at least 1";
            return Err(Error::new(Kind::Configuration, "build bulkhead", message));
        }
        Ok(Bulkhead(Arc::new(Inner { settings, clock, queue: Mutex::default() })))
    }

    /// Calls that run and calls that wait.
    pub fn load(&self) -> (usize, usize) {
        let queue = self.0.queue.lock();
        (queue.running, queue.queued())
    }

    /// A place if there is one at once and nobody waits.
    pub fn try_acquire(&self) -> Option<Place> {
        let mut queue = self.0.queue.lock();
        // While anybody waits all places are taken or handed over: nobody is overtaken.
        let free = queue.running < self.0.settings.max_concurrent;
        queue.running += usize::from(free);
        free.then(|| Place(Some(self.clone())))
    }

    /// Waits for a place, in the order of the first poll. Dropping the future leaves the line.
    pub fn acquire(&self) -> Acquire {
        Acquire { bulkhead: self.clone(), ticket: None, sleep: None }
    }

    /// Gives back a place that was [kept](Place::keep).
    pub fn give_back(&self) {
        let waker = self.0.queue.lock().release();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A place in a bulkhead; dropping it gives it to the next.
#[must_use = "dropping the place gives it back"]
pub struct Place(Option<Bulkhead>);

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

impl Place {
    /// Keeps the place taken: whoever calls this has it given back by [`Bulkhead::give_back`].
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(bulkhead) = &self.0 {
            bulkhead.give_back();
        }
    }
}

/// The future of [`Bulkhead::acquire`].
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct Acquire {
    bulkhead: Bulkhead,
    ticket: Option<u64>,
    sleep: Option<Sleep>,
}

impl Future for Acquire {
    type Output = Result<Place, NoPlace>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(ticket) = this.ticket else {
            return this.arrive(cx);
        };
        {
            let mut queue = this.bulkhead.0.queue.lock();
            // Only this future takes its own ticket out, and only once.
            let Some(index) = queue.position(ticket) else { return Poll::Pending };
            if queue.waiting[index].granted {
                queue.waiting.remove(index);
                this.ticket = None;
                drop(queue);
                return Poll::Ready(Ok(Place(Some(this.bulkhead.clone()))));
            }
            queue.waiting[index].waker = Some(cx.waker().clone());
        }
        this.limit(cx)
    }
}

impl Acquire {
    fn arrive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Place, NoPlace>> {
        if let Some(place) = self.bulkhead.try_acquire() {
            return Poll::Ready(Ok(place));
        }
        let BulkheadSettings { max_concurrent, max_waiting, max_wait } = self.bulkhead.0.settings;
        {
            let mut queue = self.bulkhead.0.queue.lock();
            if queue.running < max_concurrent {
                // Freed since: nobody waited, or it would have been handed over.
                queue.running += 1;
                return Poll::Ready(Ok(Place(Some(self.bulkhead.clone()))));
            }
            if queue.queued() >= max_waiting {
                return Poll::Ready(Err(NoPlace::Full));
            }
            let ticket = queue.next;
            queue.next += 1;
            let waker = Some(cx.waker().clone());
            queue.waiting.push_back(Waiting { ticket, granted: false, waker });
            self.ticket = Some(ticket);
        }
        self.sleep = max_wait.map(|limit| self.bulkhead.0.clock.sleep(limit));
        self.limit(cx)
    }

    /// Waits on, or leaves the line when the longest wait has passed.
    fn limit(&mut self, cx: &mut Context<'_>) -> Poll<Result<Place, NoPlace>> {
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        if Pin::new(sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        match self.leave() {
            // The place came in the same moment: take it rather than lose it.
            Some(place) => Poll::Ready(Ok(place)),
            None => Poll::Ready(Err(NoPlace::TimedOut)),
        }
    }

    fn leave(&mut self) -> Option<Place> {
        let ticket = self.ticket.take()?;
        let mut queue = self.bulkhead.0.queue.lock();
        let index = queue.position(ticket)?;
        let left = queue.waiting.remove(index)?;
        drop(queue);
        left.granted.then(|| Place(Some(self.bulkhead.clone())))
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        // A place that was handed over but never taken goes on to the next.
        drop(self.leave());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn bulkhead(max_waiting: usize, max_wait: Option<u64>) -> (Bulkhead, Clock) {
        let clock = Clock::simulated(0);
        let max_wait = max_wait.map(Duration::from_secs);
        let settings = BulkheadSettings { max_concurrent: 1, max_waiting, max_wait };
        (Bulkhead::new(settings, clock.clone()).unwrap(), clock)
    }

    #[test]
    fn the_first_in_line_is_served_first_and_nobody_overtakes() {
        let (bulkhead, _) = bulkhead(2, None);
        let place = bulkhead.try_acquire().unwrap();
        let (mut first, mut second) = (bulkhead.acquire(), bulkhead.acquire());
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(bulkhead.acquire().now_or_never().unwrap().unwrap_err(), NoPlace::Full);
        drop(place);
        assert!(bulkhead.try_acquire().is_none(), "the place belongs to the first in line");
        assert!((&mut second).now_or_never().is_none());
        let place = (&mut first).now_or_never().unwrap().unwrap();
        drop(place);
        drop((&mut second).now_or_never().unwrap().unwrap());
        assert_eq!(bulkhead.load(), (0, 0));
    }

    #[test]
    fn whoever_leaves_the_line_passes_its_place_on() {
        let (bulkhead, _) = bulkhead(2, None);
        let place = bulkhead.try_acquire().unwrap();
        let (mut first, mut second) = (bulkhead.acquire(), bulkhead.acquire());
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        drop(place);
        drop(first);
        assert!((&mut second).now_or_never().unwrap().is_ok());
        assert_eq!(bulkhead.load(), (0, 0));
    }

    #[test]
    fn the_longest_wait_ends_on_the_clock() {
        let (bulkhead, clock) = bulkhead(1, Some(5));
        let place = bulkhead.try_acquire().unwrap();
        let mut waiting = bulkhead.acquire();
        assert!((&mut waiting).now_or_never().is_none());
        clock.advance(Duration::from_secs(4));
        assert!((&mut waiting).now_or_never().is_none());
        clock.advance(Duration::from_secs(1));
        let timed_out = (&mut waiting).now_or_never().unwrap();
        assert_eq!(timed_out.unwrap_err(), NoPlace::TimedOut);
        assert_eq!(bulkhead.load(), (1, 0));
        drop(place);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn never_more_than_the_places_run_at_once() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let settings = BulkheadSettings { max_concurrent: 3, max_waiting: 1_000, max_wait: None };
        let bulkhead = Bulkhead::new(settings, Clock::simulated(0)).unwrap();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let (bulkhead, running, most) = (bulkhead.clone(), running.clone(), most.clone());
                tokio::spawn(async move {
                    let _place = bulkhead.acquire().await.unwrap();
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(bulkhead.load(), (0, 0));
    }
}
