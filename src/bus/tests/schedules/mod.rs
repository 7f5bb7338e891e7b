//! Threads in every order: what must hold whoever goes first. More orders are tried with the
//! environment variable `TIEBEAM_SCHEDULES`.

mod admission;
mod claims;
mod ending;
mod inline;
mod ready_list;
mod replies;
mod routes;

use std::sync::atomic::AtomicBool as Flag; // of the tests' own: no point for the schedule
use std::task::Wake;

use shuttle::thread::{JoinHandle, spawn, yield_now};

use super::*;
use crate::sync::{Ordering, schedules};

/// An executor that leaves the work to [`Crew::work`], on as many threads as call it.
#[derive(Debug, Default)]
struct Crew {
    ready: parking_lot::Mutex<VecDeque<Arc<Subscription>>>,
    seen: parking_lot::Mutex<Vec<i64>>,
    closed: Flag,
    /// How many handlers run, and the most that ran at once.
    running: parking_lot::Mutex<(usize, usize)>,
}

impl Executor for Crew {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        self.ready.lock().push_back(subscription.clone());
    }

    fn describe(&self) -> &'static str {
        "crew"
    }
}

impl Crew {
    /// Works until there is nothing left and nothing more will come.
    fn work(&self, batch_size: usize) {
        loop {
            let closed = self.closed.load(Ordering::SeqCst);
            match self.next_ready() {
                Some(subscription) => self.serve(&subscription, batch_size),
                None if closed => return,
                None => yield_now(),
            }
        }
    }

    fn next_ready(&self) -> Option<Arc<Subscription>> {
        self.ready.lock().pop_front()
    }

    fn serve(&self, subscription: &Arc<Subscription>, batch_size: usize) {
        let mut batch = VecDeque::new();
        if !subscription.claim(batch_size, &mut batch) {
            return;
        }
        loop {
            let mut done = 0;
            while let Some(delivery) = batch.pop_front() {
                let Some(delivery) = subscription.begin(delivery, false) else { continue };
                let n = self.handle(&delivery);
                subscription.pass(&delivery);
                done += 1;
                if n % 3 == 2 {
                    // Now and then the rest goes back, as when a slice of time is used up.
                    subscription.put_back(std::mem::take(&mut done), batch.drain(..));
                }
            }
            if !subscription.next(done, batch_size, &mut batch) {
                return;
            }
        }
    }

    fn handle(&self, delivery: &Delivery) -> i64 {
        let n = number(&delivery.event);
        {
            let mut running = self.running.lock();
            running.0 += 1;
            running.1 = running.1.max(running.0);
        }
        yield_now(); // other threads run while the handler does
        self.running.lock().0 -= 1;
        self.seen.lock().push(n);
        n
    }

    /// Nothing more will come.
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    fn sorted(&self) -> Vec<i64> {
        let mut seen = self.seen.lock().clone();
        seen.sort_unstable();
        seen
    }
}

/// Starts `count` threads that work for `crew`.
fn workers(crew: &Arc<Crew>, count: usize, batch: usize) -> Vec<JoinHandle<()>> {
    (0..count)
        .map(|_| {
            let crew = crew.clone();
            spawn(move || crew.work(batch))
        })
        .collect()
}

fn join<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

/// Publishes `from..to` on `topic`, each time waiting for room.
fn producer(bus: &Bus, topic: &'static str, numbers: std::ops::Range<i64>) -> JoinHandle<()> {
    let bus = bus.clone();
    spawn(move || {
        for n in numbers {
            let published = bus.publish(draft(topic, n)).expect("open");
            if let Some(admission) = published.admission {
                let _ = wait(admission); // refused: its subscription has ended
            }
        }
    })
}

/// What is told when it is woken.
#[derive(Default)]
struct Told(Flag);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits for `future` as an event loop does: it is looked at again only after it was woken.
fn wait<F: Future + Unpin>(mut future: F) -> F::Output {
    loop {
        let told = Arc::<Told>::default();
        let waker = Waker::from(told.clone());
        if let Poll::Ready(output) =
            std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(&waker))
        {
            return output;
        }
        while !told.0.load(Ordering::SeqCst) {
            yield_now();
        }
    }
}

/// A thread that looks at the books again and again; looking closes those of what has ended.
fn auditor(bus: &Bus) -> JoinHandle<()> {
    let bus = bus.clone();
    spawn(move || (0..4).for_each(|_| assert_balanced(&bus)))
}

/// What the books of the bus say is what those of its subscriptions say.
fn assert_books(bus: &Bus, subscriptions: &[Arc<Subscription>]) -> Tally {
    assert_balanced(bus);
    let mut sum = Tally::default();
    subscriptions.iter().for_each(|subscription| sum.add(&subscription.tally()));
    let total = bus.books().total;
    assert_eq!(total, sum, "books of the bus, and of its subscriptions");
    total
}
