//! Many threads at once: nothing missing, nothing twice, order per producer.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const PRODUCERS: i64 = 8;
const EACH: i64 = 250;
const SUBSCRIBERS: usize = 50;

/// Works at once, on the thread that brings the work.
#[derive(Debug, Default)]
struct AtOnce {
    seen: Mutex<Vec<i64>>,
    busy: AtomicBool,
}

impl Executor for AtOnce {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        let mut batch = VecDeque::new();
        if !subscription.claim(10, &mut batch) {
            return;
        }
        loop {
            assert!(!self.busy.swap(true, Ordering::AcqRel), "one at a time");
            let done = batch.len();
            self.seen.lock().extend(batch.drain(..).map(|delivery| number(&delivery.event)));
            self.busy.store(false, Ordering::Release);
            if !subscription.next(done, 10, &mut batch) {
                return;
            }
        }
    }

    fn describe(&self) -> &'static str {
        "at once"
    }
}

fn wait_for(mut admission: Admission) {
    while now(&mut admission).is_none() {
        std::thread::yield_now();
    }
}

#[test]
fn eight_producers_and_fifty_subscriptions() {
    let bus = Bus::new(BusSettings::default(), Clock::real());
    let executors: Vec<Arc<AtOnce>> = (0..SUBSCRIBERS)
        .map(|n| {
            let executor = Arc::new(AtOnce::default());
            // Small mailboxes, so that producers meet back-pressure.
            let options = Options { capacity: 4, ..options(&n.to_string()) };
            let pattern = ["load.#", "load.*", "#"][n % 3];
            bus.subscribe(pattern, options, executor.clone()).expect("valid");
            executor
        })
        .collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let bus = &bus;
                scope.spawn(move || {
                    for n in 0..EACH {
                        let published =
                            bus.publish(draft("load.x", producer * 10_000 + n)).expect("open");
                        published.admission.into_iter().for_each(wait_for);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                assert_balanced(&bus);
                std::thread::yield_now();
            }
        });
        producers.into_iter().for_each(|producer| producer.join().expect("no panic"));
        stop.store(true, Ordering::Release);
    });
    for executor in executors {
        let seen = executor.seen.lock();
        assert_eq!(seen.len() as i64, PRODUCERS * EACH);
        for producer in 0..PRODUCERS {
            let mine: Vec<i64> =
                seen.iter().filter(|n| **n / 10_000 == producer).copied().collect();
            assert!(mine.is_sorted(), "the order of one producer is kept");
            assert_eq!(mine.len() as i64, EACH);
        }
    }
    assert_eq!(bus.books().total.delivered, (PRODUCERS * EACH) as u64 * SUBSCRIBERS as u64);
}

#[test]
fn subscribing_and_cancelling_while_others_publish() {
    let bus = Bus::new(BusSettings::default(), Clock::real());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let bus = &bus;
            scope.spawn(move || {
                for n in 0..500 {
                    let overflow = Overflow::ALL[n % 4];
                    let options = Options { capacity: 2, overflow, ..options("x") };
                    let executor = Arc::new(AtOnce::default());
                    let subscription =
                        bus.subscribe("a.*", options, executor.clone()).expect("open");
                    for m in 0..5 {
                        // A full mailbox of another thread's subscription is no surprise here.
                        let _ = bus.publish(draft("a.b", thread * 10_000 + m));
                    }
                    subscription.cancel();
                    let mine = executor.seen.lock().clone();
                    let own: Vec<i64> = mine.into_iter().filter(|n| n / 10_000 == thread).collect();
                    assert!(own.is_sorted());
                }
            });
        }
    });
    let total = bus.books().total;
    assert_eq!(total.in_flight, 0);
    assert_balanced(&bus);
    assert!(!bus.has_subscribers("a.b"));
}
